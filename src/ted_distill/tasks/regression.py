"""Regression: a text, or a pair of texts, and one score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset, Value
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..errors import InputError
from ..method import losses
from ..method.exact_linear import make_exact
from ..method.filters import Batch
from .base import Counts, Metrics, Split, Task
from .prediction_files import read_list, write_list
from .reading.labels import HIDDEN, read_scores
from .reading.summaries import scores_summary
from .scores import pearson, require_scorable
from .sequence_classification import SequenceClassification, stack_logits

_WIDE = 50.0
"""Standard deviation of scores that hundreds of updates hardly reach; of ratings from 0 to 100 it is 30."""


class Regression(SequenceClassification):
    """One score for each text or pair of texts.

    Scores are numbers on any scale, whole numbers too; `label` of a normalised row is the number unchanged.
    """

    problem_type: ClassVar[str] = "regression"
    metrics: tuple[str, ...] = ("spearmanr", "pearson", "mse")
    lower_is_better: ClassVar[tuple[str, ...]] = ("mse",)
    label_dtype: ClassVar[torch.dtype] = torch.float32
    takes_probabilities = False

    def read_labels(self, rows: Dataset, column: str, split: str) -> tuple[list[Any], Any]:
        """Scores of the rows, None where missing, and their feature. Raises `InputError`."""
        return read_scores(rows, column, split), Value("float64")

    def placeholder(self) -> tuple[Any, Any]:
        """See `SequenceClassification.placeholder`."""
        return 0.0, Value("float64")

    def label_problems(self, labels: pa.ChunkedArray, split: str) -> Iterator[str]:
        """Scores that are missing or hidden, or the same in every training row, where nothing can be learnt."""
        found = list(super().label_problems(labels, split))
        yield from found
        if split == "train" and not found and len(labels) > 1 and (ends := pc.min_max(labels))["min"] == ends["max"]:
            yield (
                f"{split}: expected scores that differ, got {labels[0].as_py():g} in each of the {len(labels):,} rows; "
                "name the column of scores by label_column, or fix the file"
            )

    def hidden_labels(self, labels: pa.ChunkedArray) -> list[int]:
        """All rows if all have -1, as in STS-B's test split; else no rows, since -1 may be a score."""
        hidden = pc.all(pc.equal(labels, HIDDEN), min_count=1).as_py()
        return list(range(len(labels))) if hidden else []

    def describe_labels(self, rows: Dataset) -> str:
        """The least, mean and largest score."""
        return scores_summary(np.array(rows["label"][:]))

    @property
    def label_names(self) -> list[str] | None:
        """None: there are no classes."""
        return None

    @property
    def num_labels(self) -> int:
        """1: the score."""
        return 1

    def counts(self, batch: Batch) -> Counts:
        """Rows: every number is a score, and none marks a row without one."""
        return Task.counts(self, batch)

    def loss(self, logits: Tensor, batch: Batch, count: Tensor | None = None) -> Tensor:
        """Squared error, averaged over rows."""
        return losses.score_loss(logits, batch["labels"], count)

    def match(
        self, student_logits: Tensor, teacher_logits: Tensor, batch: Batch, temperature: float, count: Tensor | None
    ) -> Tensor:
        """Squared difference of the scores, averaged over rows; `temperature` has no effect."""
        return losses.score_mse(student_logits, teacher_logits, count)

    def filter_head(self, filter_output_dim: int, model: PreTrainedModel) -> nn.Module:
        """Filter states (B, T, F) -> scores (B, 1), the last layer in float32."""
        head = super().filter_head(filter_output_dim, model)
        make_exact(head, self.num_labels)
        return head

    def tells_apart(self, rows: Dataset) -> bool:
        """Not where all scores are the same, with which nothing correlates."""
        return self.metric in self.lower_is_better or not _only_score(rows)

    def row_doubts(self, splits: Mapping[str, Dataset]) -> Iterator[str]:
        """Scores to choose by that are all the same, and training scores that are too far apart to be learnt soon."""
        metric = self.decides or self.metric
        for name, rows in splits.items():
            if name != "train" and metric not in self.lower_is_better and not self.tells_apart(rows):
                which = f"each of the {len(rows):,} rows" if len(rows) > 1 else "the only row"
                yield (
                    f"{name}: expected scores that differ, got {rows['label'][0]:g} in {which}: {metric} is 0 "
                    "there, whatever a model says; give other rows, raise validation_size, or name mse as "
                    "metric_for_best_model"
                )
        if "train" in splits and (spread := float(np.std(splits["train"]["label"][:]))) > _WIDE:
            yield (
                f"train: expected scores with a standard deviation of about 1, got {spread:.3g}: models learn numbers "
                f"this far apart very slowly; divide all scores by {10 ** round(np.log10(spread)):g}"
            )

    def uninformed_score(self, split: Split) -> float | None:
        """0: a constant correlates with nothing; None where no predictor gets more."""
        return 0.0 if self.metric != "mse" and self.tells_apart(split.rows) else None

    def decode(self, logits: list[np.ndarray], split: Split) -> np.ndarray:
        """(N,) scores in float64, as files hold them. Raises `InputError` for logits that are not finite."""
        return stack_logits(logits).reshape(len(logits)).astype(np.float64)

    def probabilities(self, logits: list[np.ndarray]) -> np.ndarray | None:
        """None: there are no classes."""
        return None

    def confidences(self, logits: list[np.ndarray], predictions: Any, split: Split) -> np.ndarray | None:
        """None: a score says nothing of how sure the model is."""
        return None

    def agreement(self, predictions: Any, teacher_predictions: Any) -> Metrics:
        """Pearson correlation of the two models' scores, in percent."""
        predictions, teacher_predictions = np.asarray(predictions), np.asarray(teacher_predictions)
        require_scorable(predictions, len(teacher_predictions))
        return {"agreement_pearson": pearson(teacher_predictions, predictions)}

    def write_predictions(self, predictions: Any, split: Split, folder: Path) -> None:
        """Write `predictions.json`: a list with one score per row."""
        write_list(folder, np.asarray(predictions).tolist())

    def predicted_names(self, file: Path) -> list[str]:
        """None: predictions are scores."""
        return []

    def read_predictions(self, file: Path) -> np.ndarray:
        """(N,) scores. Raises `InputError`."""
        scores = read_list(file)
        try:
            return np.array([float(score) for score in scores])
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{file}: expected a list of numbers, got another value ({error}); fix it") from error


def _only_score(rows: Dataset) -> bool:
    """Whether all rows have one score."""
    return len(set(rows["label"][:])) == 1
