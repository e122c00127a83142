"""Multi-label classification: a text, or a pair of texts, and any number of C labels."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, List, Value
from torch import Tensor

from ..errors import InputError, shown
from ..method import losses
from ..method.filters import Batch
from .base import Split
from .label_sets import match_names
from .prediction_files import read_list, require_known, write_list
from .reading.columns import USUAL_LABELS, find_columns
from .reading.file_options import FileOptions, named_separator
from .reading.held_out import by_rarest
from .reading.label_lists import find_separator
from .reading.label_sets import read_label_sets
from .reading.labels import class_numbers, declared_names, label_name, label_values
from .reading.summaries import label_sets_summary
from .sequence_classification import SequenceClassification, stack_logits
from .task_arguments import TaskArguments

_SEPARATOR = "label_separator"


class MultiLabelClassification(SequenceClassification):
    """Any number of labels for each text or pair of texts.

    The label column of a row holds a list of names or whole numbers, such a list as text (as JSON, Python and numpy
    write it), names separated by `|`, `;`, `,` or `label_separator`, or whole numbers separated by blanks; or each
    label has its own column of zeros and ones or truth values (`--label_column a,b,c`). Normalised labels are C zeros
    and ones.
    """

    problem_type: ClassVar[str] = "multi_label_classification"
    metrics: tuple[str, ...] = ("f1_micro", "f1_macro", "exact_match")
    label_dtype: ClassVar[torch.dtype] = torch.float32
    takes_probabilities = False

    def __init__(self, arguments: TaskArguments) -> None:
        super().__init__(arguments)
        self._separator = named_separator(arguments.label_separator)

    def file_options(self) -> FileOptions:
        """An empty field of a csv or tsv file is a row without labels, also where the labels are numbers."""
        lists = (self.arguments.label_column,) if self.arguments.label_column else USUAL_LABELS
        return super().file_options()._replace(lists=lists)

    def read_labels(self, rows: Dataset, column: str, split: str) -> tuple[list[Any], Any]:
        """(N, C) zeros and ones, None where missing, and their feature. Raises `InputError`."""
        if self._separator is None and column in rows.column_names:
            # Later splits must be read as the first is, and other data as those that the model was trained on: a field
            # there may have but one label, with commas in its name.
            before = self._inferred_before.get(_SEPARATOR)
            self._separator = str(before) if before else find_separator(label_values(rows, column), column, split)
        separator = self._separator
        # Names of columns are declared, too.
        self.declares_labels |= column not in rows.column_names or declared_names(rows, column) is not None
        self._label_names, labels = self.read_names(lambda names: _read(rows, column, names, split, separator))
        return labels, List(Value("float32"))

    @property
    def inferred(self) -> dict[str, Any]:
        """What separates labels, if nobody said so and something does."""
        found = self._separator if self.arguments.label_separator is None else None
        return {_SEPARATOR: found} if found else {}

    def forget_inferred(self) -> None:
        """Forget what separates labels, and the labels that were found by it."""
        self._separator = named_separator(self.arguments.label_separator)
        self._label_names, self._completed = None, False

    def classes_of(self, rows: Dataset) -> Sequence[Hashable] | None:
        """The rarest label of each row; None where labels are wrong, which is refused later."""
        try:
            column = str(find_columns(rows.column_names, self.named_columns, "train").label)
            names, labels = read_label_sets(rows, column, None, "train", self._separator)
        except InputError:
            return None
        return by_rarest([[name for name, has in zip(names, row or (), strict=False) if has] for row in labels])

    def placeholder(self) -> tuple[Any, Any]:
        """See `SequenceClassification.placeholder`."""
        return [0.0] * self.num_labels, List(Value("float32"))

    def describe_labels(self, rows: Dataset) -> str:
        """The share of rows with each label."""
        return label_sets_summary(np.array(rows["label"][:]), self.label_names or ())

    def hidden_labels(self, labels: pa.ChunkedArray) -> list[int]:
        """No rows: there is no mark for hidden label sets."""
        return []

    def loss(self, logits: Tensor, batch: Batch, count: Tensor | None = None) -> Tensor:
        """Sigmoid cross-entropy, averaged over labels and rows."""
        return losses.multi_label_loss(logits, batch["labels"], count)

    def match(
        self, student_logits: Tensor, teacher_logits: Tensor, batch: Batch, temperature: float, count: Tensor | None
    ) -> Tensor:
        """KL of each label's Bernoulli distribution, averaged over labels and rows."""
        return losses.multi_label_kl(student_logits, teacher_logits, temperature, count)

    def uninformed_score(self, split: Split) -> float | None:
        """The best score of the same labels for all rows: none, those of most rows, the best by micro F1, or all."""
        labels = np.array(split.rows["label"][:])
        counts, order = labels.sum(axis=0), np.argsort(-labels.sum(axis=0), kind="stable")
        # F1 of the most frequent label, of the two most frequent ones, and so on: right ones by all given and all true.
        given = len(labels) * np.arange(1, len(order) + 1)
        best = 1 + int((np.cumsum(counts[order]) / (given + counts.sum())).argmax())
        sets = [order[:number] for number in {0, int((2 * counts >= len(labels)).sum()), best, len(order)}]
        return max(self.score(_constant(labels, chosen), split.rows)[self.metric] for chosen in sets)

    def decode(self, logits: list[np.ndarray], split: Split) -> np.ndarray:
        """(N, C), 1 where the probability is at least 0.5. Raises `InputError` for logits that are not finite."""
        return (stack_logits(logits) >= 0).astype(np.int64)

    def probabilities(self, logits: list[np.ndarray]) -> np.ndarray | None:
        """(N, C) sigmoid of the logits."""
        return (0.5 + 0.5 * np.tanh(0.5 * stack_logits(logits).astype(np.float64))).astype(np.float32)

    def confidences(self, logits: list[np.ndarray], predictions: Any, split: Split) -> np.ndarray | None:
        """(N,) the probability of the decision that is least sure among those of the row's labels."""
        sizes = np.abs(stack_logits(logits).astype(np.float64))
        return (0.5 + 0.5 * np.tanh(0.5 * sizes)).min(axis=-1).astype(np.float32)

    def write_predictions(self, predictions: Any, split: Split, folder: Path) -> None:
        """Write `predictions.json`: a list with one list of label names per row."""
        names = np.array(self.label_names or [])
        write_list(folder, [names[np.asarray(row, dtype=bool)].tolist() for row in predictions])

    def predicted_names(self, file: Path) -> list[str]:
        """See `Task.predicted_names`."""
        found = [label_name(value) for row in read_list(file) if isinstance(row, list) for value in row]
        return [name for name in dict.fromkeys(found) if name is not None]

    def read_predictions(self, file: Path) -> np.ndarray:
        """(N, C) zeros and ones from a list of lists of label names. Raises `InputError`."""
        numbers = class_numbers(self.label_names or [])
        rows = read_list(file)
        strangers = [row for row in rows if not isinstance(row, list)]
        if strangers:
            raise InputError(
                f"{file}: expected a list of lists of label names, got {shown(strangers[0])} for a row; "
                "give each row a list"
            )
        names = [[label_name(value) for value in row] for row in rows]
        require_known([name for row in names for name in row], numbers, file)
        return np.array([[int(name in row) for name in numbers] for row in names])


def _read(
    rows: Dataset, column: str, names: list[str] | None, split: str, separator: str | None
) -> tuple[list[str], list[list[float] | None]]:
    """See `read_label_sets`; labels among `names` that have no column of their own are 0."""
    found, labels = read_label_sets(rows, column, names, split, separator)
    if names is None or found == names:
        return found, labels
    places = match_names(names, found)
    return names, [row and [0.0 if place is None else row[place] for place in places] for row in labels]


def _constant(labels: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """These labels and no others, for as many rows as `labels` (N, C) has."""
    constant = np.zeros(labels.shape, dtype=np.int64)
    constant[:, chosen] = 1
    return constant
