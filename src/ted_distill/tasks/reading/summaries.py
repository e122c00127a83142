"""One line about the labels of a split, so that nonsense is seen before a model learns it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ...errors import shown
from ...wording import counted

_NAMED = 12
"""Labels that are named; the others are counted."""


def classes_summary(labels: Iterable[int | None], names: Sequence[str], what: str = "row") -> str:
    """Number of items, the classes, and the share of items in each."""
    counts = Counter(labels)
    by_name = {name: counts[number] for number, name in enumerate(names)}
    return f"{counted(counts.total(), what)}, {counted(len(names), 'class')}: {_shares(by_name, counts.total())}"


def label_sets_summary(labels: np.ndarray, names: Sequence[str]) -> str:
    """Number of rows, the labels, and the share of rows with each, and with none; of (N, C) zeros and ones."""
    by_name = dict(zip(names, labels.sum(axis=0).astype(int).tolist(), strict=True))
    none = int((labels.sum(axis=1) == 0).sum())
    without = f"; {_percent(none, len(labels))} have none" if none else ""
    return f"{counted(len(labels), 'row')}, {counted(len(names), 'label')}: {_shares(by_name, len(labels))}{without}"


def scores_summary(scores: np.ndarray) -> str:
    """Number of rows, and the least, mean and largest score."""
    low, mean, high = scores.min(), scores.mean(), scores.max()
    return f"{counted(len(scores), 'row')}, scores from {low:g} to {high:g}, mean {mean:.4g}"


def questions_summary(questions: int, unanswerable: int) -> str:
    """Number of questions, and the share of those without an answer."""
    return f"{counted(questions, 'question')}, {_percent(unanswerable, questions)} without an answer"


def _shares(counts: Mapping[str, int], total: int) -> str:
    """The most frequent first."""
    order = sorted(counts, key=lambda name: -counts[name])
    named = [f"{_name(name)} {_percent(counts[name], total)}" for name in order[:_NAMED]]
    more = [f"{len(order) - _NAMED} more"] if len(order) > _NAMED else []
    return ", ".join(named + more)


def _name(name: str) -> str:
    return name if name.isprintable() and len(name) <= 40 and "," not in name else shown(name)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.1f} %"
