"""Sequence classification: a text, or a pair of texts, and one class of C.

Also the base of regression and multi-label classification.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import ClassLabel, Dataset
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import InputError, collect, raise_if_any, shown
from ..method import losses
from ..method.filters import Batch
from ..wording import listed
from .base import Counts, Metrics, Split, Task
from .first_token_head import FirstTokenHead
from .glue import GLUE_HUB_NAME, GlueTask
from .label_sets import ModelLabels
from .padding import padded_batch
from .prediction_files import read_list, require_known, write_list
from .reading.columns import (
    USUAL_LABELS,
    TextColumns,
    find_columns,
    row_list,
    values,
    with_labels,
    with_texts,
)
from .reading.labels import (
    HIDDEN,
    class_numbers,
    declared_names,
    is_label,
    label_name,
    label_values,
    of_each,
    read_classes,
)
from .reading.mapped import mapped
from .reading.soft_labels import (
    PROBABILITIES,
    is_pattern,
    matching,
    read_probabilities,
    with_probabilities,
    with_uniform_probabilities,
)
from .reading.summaries import classes_summary
from .resampling import Draws, sampled_scores
from .scores import SCORES, accuracy, require_numbers, require_scorable, softmax
from .task_arguments import TaskArguments
from .tokenizers import require_length, require_tokens
from .unlabelled import only_texts

_CLASSES_TRIED = 20
"""How many of the most frequent classes may be the best answer for all rows."""


class SequenceClassification(ModelLabels, Task):
    """One class for each text or pair of texts.

    Rows have `text`, `text_pair` if there are pairs, and `label` (class number). The classes are those that a
    `ClassLabel` feature declares, in its order, or else those of the training rows (of the validation rows if there
    are no others), sorted. A GLUE task has its official classes. A model that knows more classes adds its own.
    """

    auto_model = AutoModelForSequenceClassification
    problem_type: ClassVar[str] = "single_label_classification"
    pipeline_tag = "text-classification"
    first_token_only = True
    whole_row_logits = True
    metrics: tuple[str, ...] = ("accuracy", "f1_macro")
    """Names in `scores.SCORES`; the first decides which checkpoint is best."""
    label_dtype: ClassVar[torch.dtype] = torch.long
    takes_probabilities: ClassVar[bool] = True
    """Whether labels may be probabilities of the classes, as `probs_*` names them."""

    def __init__(self, arguments: TaskArguments, preset: GlueTask | None = None) -> None:
        super().__init__(arguments)
        self.preset = preset
        self.metrics = preset.metrics if preset else self.metrics
        self.metric = self.metrics[0]
        self._label_names = list(preset.label_names) if preset and preset.label_names else None
        self._official = preset is not None
        self._columns: TextColumns | None = None
        self._soft = False
        """Training rows have probabilities of the classes."""

    # --- data -------------------------------------------------------------------------------------------------

    def hub_dataset(self) -> tuple[str, str | None] | None:
        """(name, configuration) of a GLUE task; None for other data."""
        return (GLUE_HUB_NAME, self.preset.name) if self.preset else None

    def validation_splits(self) -> dict[str, str]:
        """Those of the GLUE task, if it is one."""
        return self.preset.validation_splits if self.preset else super().validation_splits()

    def normalise(self, rows: Dataset, split: str) -> Dataset:
        """Columns `text`, `text_pair` if there are pairs, and `label`.

        Raises:
            InputError: columns are missing or cannot be told apart, or a label is not one of the classes.
        """
        # Later splits must have the columns of the first, which a new guess might miss.
        named = self._columns or self.named_columns
        soft = self.takes_probabilities and is_pattern(named.label, rows.column_names)
        if soft and split != "train" and not matching(str(named.label), rows.column_names):
            _require_usual_label(rows, str(named.label), split)
            soft, named = False, named._replace(label=None)  # rows to score on may have plain labels
        found = find_columns(rows.column_names, named, split, check_label=not soft)
        self._columns = found if self._columns is None else self._columns
        problems: list[str] = []
        probabilities: list[list[float]] | None = None
        with collect(problems):
            texts = with_texts(rows, found, split)
        with collect(problems):
            if soft:
                labels, feature, probabilities = self._read_probabilities(rows, str(named.label), split)
            else:
                labels, feature = self.read_labels(rows, str(found.label), split)
        raise_if_any(problems)
        kept = [name for name in ("text", "text_pair") if name in texts.column_names]
        normal = with_labels(texts.select_columns(kept), labels, feature)
        if split == "train":
            self._soft = soft
        return normal if probabilities is None else with_probabilities(normal, probabilities)

    @property
    def named_columns(self) -> TextColumns:
        """The columns that the arguments name, or else the data set."""
        arguments, preset = self.arguments, self.preset
        return TextColumns(
            arguments.text_column or (preset.text if preset else None),
            arguments.text_pair_column or (preset.text_pair if preset else None),
            arguments.label_column or ("label" if preset else None),
        )

    def classes_of(self, rows: Dataset) -> Sequence[Hashable] | None:
        """The labels of a classification; None where they are not in one column, or wrong, which is refused later."""
        if self.problem_type != SequenceClassification.problem_type:
            return None
        try:
            column = find_columns(rows.column_names, self.named_columns, "train", check_label=False).label
        except InputError:
            return None
        if column is None or column not in rows.column_names:
            return None
        raw = label_values(rows, column)
        return of_each(label_name, raw) if all(of_each(is_label, raw)) else None

    def _read_probabilities(self, rows: Dataset, pattern: str, split: str) -> tuple[list[int], Any, list[list[float]]]:
        """The most likely class of each row, its feature, and the probabilities of all. Raises `InputError`."""
        self.declares_labels = True
        self._label_names, found = self.read_names(lambda names: read_probabilities(rows, pattern, names, split))
        return found.argmax(axis=1).tolist(), ClassLabel(names=self._label_names), found.tolist()

    def read_labels(self, rows: Dataset, column: str, split: str) -> tuple[list[Any], Any]:
        """Labels of the rows, None where missing, and their feature. Raises `InputError`."""
        numbered = self.preset is not None  # copies of GLUE hold names or numbers
        self.declares_labels |= column in rows.column_names and declared_names(rows, column) is not None
        self._label_names, labels = self.read_names(lambda names: read_classes(rows, column, names, split, numbered))
        return labels, ClassLabel(names=self._label_names)

    def without_labels(self, rows: Dataset) -> Dataset:
        """The texts, under the training rows' column names, and `placeholder` as label. Raises `InputError`."""
        assert self._columns is not None  # known from the training rows
        texts = only_texts(rows, self._columns)
        label, feature = self.placeholder()
        found = with_labels(texts, [label] * len(texts), feature)
        return with_uniform_probabilities(found, len(self.label_names or ())) if self._soft else found

    def placeholder(self) -> tuple[Any, Any]:
        """A label for a row that has none, and its feature."""
        return 0, ClassLabel(names=self.label_names)

    def problems(self, rows: Dataset, split: str) -> Iterator[str]:
        """Rows without text or label."""
        texts = {name: values(rows, name) for name in ("text", "text_pair") if name in rows.column_names}
        for name, column in texts.items():
            if missing := _where(pc.is_null(column)):
                yield f"{split}: expected {name} in every row, got none in {row_list(missing)}; fix or remove them"
        if blank := _where(pc.equal(pc.utf8_trim_whitespace(pc.binary_join_element_wise(*texts.values(), "")), "")):
            yield f"{split}: expected words in every text, got blank text in {row_list(blank)}; fix or remove them"
        for name, column in texts.items():
            if odd := _where(pc.match_substring(column, "\0")):
                yield f"{split}: expected {name} without NUL characters, got some in {row_list(odd)}; remove them"
        yield from self.label_problems(values(rows, "label"), split)

    def label_problems(self, labels: pa.ChunkedArray, split: str) -> Iterator[str]:
        """Rows whose normalised label is missing or hidden."""
        if missing := _where(pc.is_null(labels)):
            yield (
                f"{split}: expected a label in every row, got none in {row_list(missing)}; fix or remove them (like "
                "an empty field, -100 is no label)"
            )
        if hidden := self.hidden_labels(labels):
            yield (
                f"{split}: expected public labels, got -1, which marks hidden labels as in GLUE's test splits, in "
                f"{row_list(hidden)}; give a split with labels (or, if -1 is a class, name the classes in words)"
            )

    def hidden_labels(self, labels: pa.ChunkedArray) -> list[int]:
        """Numbers of the rows whose label is not public."""
        return _where(pc.equal(labels, HIDDEN))

    def describe_labels(self, rows: Dataset) -> str:
        """The share of each class."""
        return classes_summary(values(rows, "label").to_pylist(), self.label_names or ())

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """One feature per row: the tokenised text or pair, its length, and the label.

        Raises:
            InputError: `max_seq_length` does not fit the tokenizer, or the tokenizer cannot pad, or makes nothing of a
                row.
        """
        pairs = "text_pair" in rows.column_names
        self._check_tokenizer(tokenizer, pairs)
        features = mapped(
            rows,
            _tokenise,
            description="tokenise",
            num_proc=self.arguments.preprocessing_num_workers,
            tokenizer=tokenizer,
            max_length=self.longest(tokenizer),
        )
        require_tokens(features, tokenizer)
        return features

    def _check_tokenizer(self, tokenizer: PreTrainedTokenizerBase, pairs: bool) -> None:
        shortest = tokenizer.num_special_tokens_to_add(pair=pairs) + (2 if pairs else 1)
        longest = self.longest(tokenizer)
        require_length(longest, shortest, tokenizer)
        if tokenizer.pad_token_id is None:
            raise InputError(
                f"tokenizer {tokenizer.name_or_path}: expected a padding token, got none; set one, as in "
                "tokenizer.pad_token = tokenizer.eos_token, and config.pad_token_id, and save both with the model"
            )

    def collate(self, features: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> Batch:
        """(B, T) tensors padded on the right to a multiple of 8, `labels` and, if there are, (B, C) `probabilities`."""
        batch = padded_batch(features, tokenizer, self.longest(tokenizer))
        if PROBABILITIES in features[0]:
            batch[PROBABILITIES] = torch.tensor([feature[PROBABILITIES] for feature in features])
        return batch | {"labels": torch.tensor([feature["labels"] for feature in features], dtype=self.label_dtype)}

    # --- mathematics ------------------------------------------------------------------------------------------

    def counts(self, batch: Batch) -> Counts:
        """Rows; for the prediction loss without those labelled -100."""
        labelled = (batch["labels"] != -100).reshape(len(batch["labels"]), -1).any(dim=-1)
        return super().counts(batch)._replace(labels=labelled.sum(dtype=torch.float32))

    def loss(self, logits: Tensor, batch: Batch, count: Tensor | None = None) -> Tensor:
        """Cross-entropy with the labels, or with the probabilities of the classes, averaged over rows."""
        if PROBABILITIES in batch:
            return losses.soft_class_loss(logits, batch[PROBABILITIES], count)
        return losses.class_loss(logits, batch["labels"], count)

    def match(
        self, student_logits: Tensor, teacher_logits: Tensor, batch: Batch, temperature: float, count: Tensor | None
    ) -> Tensor:
        """KL of the two distributions over classes, averaged over rows."""
        return losses.class_kl(student_logits, teacher_logits, temperature, count)

    def filter_head(self, filter_output_dim: int, model: PreTrainedModel) -> nn.Module:
        """Filter states (B, T, F) -> logits (B, C)."""
        return FirstTokenHead(filter_output_dim, self.num_labels, model.config)

    # --- scores -----------------------------------------------------------------------------------------------

    def uninformed_score(self, split: Split) -> float | None:
        """The best score of one class for all rows; of many classes, the frequent ones are tried."""
        labels = np.array(split.rows["label"][:])
        frequent = np.argsort(-np.bincount(labels, minlength=self.num_labels), kind="stable")[:_CLASSES_TRIED]
        scores = [self.score(np.full_like(labels, label), split.rows)[self.metric] for label in frequent]
        return min(scores) if self.metric in self.lower_is_better else max(scores)

    def decode(self, logits: list[np.ndarray], split: Split) -> np.ndarray:
        """(N,) class numbers. Raises `InputError` for logits that are not finite."""
        return stack_logits(logits).argmax(axis=-1)

    def probabilities(self, logits: list[np.ndarray]) -> np.ndarray | None:
        """(N, C) softmax of the logits."""
        return softmax(stack_logits(logits)).astype(np.float32)

    def confidences(self, logits: list[np.ndarray], predictions: Any, split: Split) -> np.ndarray | None:
        """(N,) the probability of each predicted class."""
        return softmax(stack_logits(logits)).max(axis=-1).astype(np.float32)

    @property
    def score_names(self) -> tuple[str, ...]:
        """The task's `metrics`."""
        return self.metrics

    def score(self, predictions: Any, rows: Dataset) -> Metrics:
        """The task's `metrics`, in percent (`mse` in squared units). Raises `InputError`, see `require_scorable`."""
        predictions, labels = np.asarray(predictions), np.asarray(rows["label"][:])
        require_scorable(predictions, len(labels))
        return {name: SCORES[name](labels, predictions) for name in self.metrics}

    def sampled_score(self, predictions: Any, rows: Dataset, draws: Draws) -> np.ndarray:
        """See `Task.sampled_score`."""
        return sampled_scores(self.metric, np.asarray(rows["label"][:]), np.asarray(predictions), draws)

    def agreement(self, predictions: Any, teacher_predictions: Any) -> Metrics:
        """Percent of rows that both models put in the same class."""
        predictions, teacher_predictions = np.asarray(predictions), np.asarray(teacher_predictions)
        require_scorable(predictions, len(teacher_predictions))
        return {"agreement": accuracy(teacher_predictions, predictions)}

    def write_predictions(self, predictions: Any, split: Split, folder: Path) -> None:
        """Write `predictions.json`: a list with one label name per row."""
        names = self.label_names or []
        write_list(folder, [names[number] for number in predictions])

    def predicted_names(self, file: Path) -> list[str]:
        """See `Task.predicted_names`."""
        found = [label_name(value) for value in read_list(file) if not isinstance(value, list)]
        return [name for name in dict.fromkeys(found) if name not in (None, str(HIDDEN))]

    def read_predictions(self, file: Path) -> np.ndarray:
        """(N,) class numbers from a list of label names. Raises `InputError`."""
        numbers = class_numbers(self.label_names or [], numbered=self.preset is not None)
        names = [label_name(value) for value in read_list(file)]
        require_known(names, numbers, file)
        return np.array([numbers[name] for name in names if name])


def _tokenise(rows: dict[str, list[Any]], tokenizer: PreTrainedTokenizerBase, max_length: int) -> dict[str, list[Any]]:
    """Features of a batch of rows."""
    encoded = tokenizer(
        rows["text"],
        rows.get("text_pair"),
        truncation=True,
        max_length=max_length,
        return_attention_mask=True,
        return_token_type_ids="token_type_ids" in tokenizer.model_input_names,
    )
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in encoded]
    lengths = [len(ids) for ids in encoded["input_ids"]]
    soft = {PROBABILITIES: rows[PROBABILITIES]} if PROBABILITIES in rows else {}
    return {name: encoded[name] for name in names} | {"labels": rows["label"], "length": lengths} | soft


def stack_logits(logits: list[np.ndarray]) -> np.ndarray:
    """(N, C) from N arrays. Raises `InputError` if one holds NaN or infinity."""
    stacked = np.stack(logits)
    require_numbers(stacked)
    return stacked


def _require_usual_label(rows: Dataset, pattern: str, split: str) -> None:
    """Refuse rows that have neither the columns of a pattern nor a label column with a usual name."""
    if not any(name in rows.column_names for name in USUAL_LABELS):
        raise InputError(
            f"{split}: expected columns that fit {shown(pattern)}, or a label column with a usual name, got columns "
            f"{listed(rows.column_names)}; rename the label column of {split} to `label`, or give it the same "
            f"{pattern} columns"
        )


def _where(rows: pa.ChunkedArray) -> list[int]:
    """Numbers of the rows where a condition holds; null counts as false."""
    return np.flatnonzero(pc.fill_null(rows, False).to_numpy()).tolist()
