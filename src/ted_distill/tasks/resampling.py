"""The main score of a task on rows drawn with replacement, thousands of times: what other rows might have given.

Scores that are no means, such as F1 or a rank correlation, are computed anew from the rows of each draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .scores import SCORES


@dataclass(frozen=True)
class Draws:
    """Row numbers drawn with replacement; the same ones each time they are looped over, and for every model."""

    rows: int
    """How many there are to draw from, and how many are drawn each time."""
    resamples: int
    seed: int = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        """(N,) row numbers, `resamples` times."""
        rng = np.random.default_rng(self.seed)
        for _ in range(self.resamples):
            yield rng.integers(self.rows, size=self.rows)

    def __len__(self) -> int:
        return self.resamples


def sampled_scores(name: str, labels: np.ndarray, predictions: np.ndarray, draws: Draws) -> np.ndarray:
    """(R,) a score of `SCORES` on each draw of rows."""
    if labels.ndim > 1 and name in _OF_LABELS:
        return _OF_LABELS[name](labels, predictions, draws)
    of = _FASTER.get(name, SCORES[name]) if labels.ndim == 1 else SCORES[name]
    return np.array([of(labels[draw], predictions[draw]) for draw in draws])


def sampled_sums(parts: np.ndarray, draws: Draws) -> np.ndarray:
    """(R, P) sums over the rows of each draw of what every row adds: (N, P)."""
    counts = (np.bincount(draw, minlength=draws.rows) for draw in draws)
    return np.stack([count @ parts for count in counts])


def entity_counts(gold: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> np.ndarray:
    """(N, 3) entities of each row: found and right, predicted, and there to be found. Their sums give F1."""
    from seqeval.metrics.sequence_labeling import get_entities

    counts = []
    for row, of_row in zip(gold, predictions, strict=True):
        there, found = {*get_entities(list(row))}, {*get_entities(list(of_row))}
        counts.append((len(there & found), len(found), len(there)))
    return np.array(counts, dtype=np.float64).reshape(-1, 3)


# --- the scores that scikit-learn and scipy take a millisecond for, which is long ten thousand times --------------


def _f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    right = np.count_nonzero((labels == 1) & (predictions == 1))
    both = np.count_nonzero(labels == 1) + np.count_nonzero(predictions == 1)
    return 200.0 * right / both if both else 0.0


def _f1_macro(labels: np.ndarray, predictions: np.ndarray) -> float:
    right, predicted, there = _of_classes(labels, predictions)
    present = predicted + there > 0
    return float(100 * np.mean(2 * right[present] / (predicted + there)[present]))


def _matthews(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Gorodkin's R_K for any number of classes."""
    right, predicted, there = _of_classes(labels, predictions)
    total = float(len(labels))
    spread = (total**2 - predicted @ predicted) * (total**2 - there @ there)
    return float(100 * (right.sum() * total - predicted @ there) / np.sqrt(spread)) if spread else 0.0


def _of_classes(labels: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of each class that are right, predicted to be of it, and of it."""
    classes = int(max(labels.max(), predictions.max())) + 1
    counts = [np.bincount(rows, minlength=classes) for rows in (labels[labels == predictions], predictions, labels)]
    right, predicted, there = (count.astype(np.float64) for count in counts)
    return right, predicted, there


def _pearson(labels: np.ndarray, predictions: np.ndarray) -> float:
    first, second = (values - values.mean() for values in (labels.astype(np.float64), predictions.astype(np.float64)))
    spread = np.sqrt((first @ first) * (second @ second))
    return float(100 * (first @ second) / spread) if spread > 0 else 0.0


def _spearman(labels: np.ndarray, predictions: np.ndarray) -> float:
    from scipy.stats import rankdata

    return _pearson(rankdata(labels), rankdata(predictions))


_FASTER: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "f1": _f1,
    "f1_macro": _f1_macro,
    "matthews_correlation": _matthews,
    "pearson": _pearson,
    "spearmanr": _spearman,
}


# --- of rows with several labels, (N, C) zeros and ones: from what each row adds ---


def _f1_of_labels(labels: np.ndarray, predictions: np.ndarray, draws: Draws) -> np.ndarray:
    there, found = labels == 1, predictions == 1
    parts = np.stack([(there & found).sum(1), there.sum(1) + found.sum(1)], axis=1).astype(np.float64)
    right, both = sampled_sums(parts, draws).T
    return 200 * np.divide(right, both, out=np.zeros_like(right), where=both > 0)


def _f1_macro_of_labels(labels: np.ndarray, predictions: np.ndarray, draws: Draws) -> np.ndarray:
    there, found = labels == 1, predictions == 1
    parts = np.concatenate([there & found, there.astype(int) + found], axis=1).astype(np.float64)
    right, both = np.split(sampled_sums(parts, draws), 2, axis=1)
    return 200 * np.divide(right, both, out=np.zeros_like(right), where=both > 0).mean(axis=1)


def _all_right(labels: np.ndarray, predictions: np.ndarray, draws: Draws) -> np.ndarray:
    right = np.all(labels == predictions, axis=1, keepdims=True).astype(np.float64)
    return 100 * sampled_sums(right, draws)[:, 0] / draws.rows


_OF_LABELS: dict[str, Callable[[np.ndarray, np.ndarray, Draws], np.ndarray]] = {
    "f1_micro": _f1_of_labels,
    "f1_macro": _f1_macro_of_labels,
    "exact_match": _all_right,
}
