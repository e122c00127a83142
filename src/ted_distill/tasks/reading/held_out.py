"""Which training rows are held out to score on: a random sample, stratified by class.

Of lines of one text, the last ones: drawn at random, lines that follow each other would be in different parts, and what
is left of either would be no text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Sequence

import numpy as np

SAMPLE_SEED = 42


def held_out(
    rows: int, size: int, classes: Sequence[Hashable] | None, keeps_order: bool = False
) -> tuple[Sequence[int], Sequence[int]]:
    """(numbers of the rows that stay, those of `size` rows that are held out), always the same ones.

    Args:
        rows: how many there are.
        size: fewer than there are rows.
        classes: the class of each row, for the same shares of classes in both parts; None draws from all rows alike.
        keeps_order: whether rows are lines of one text: the last ones are held out.
    """
    if keeps_order:
        return range(rows - size), range(rows - size, rows)
    if classes is None:
        # As `datasets` splits rows in two at random.
        drawn = np.random.default_rng(SAMPLE_SEED).permutation(rows).tolist()
        return drawn[size:], drawn[:size]
    chosen = stratified(classes, size)
    return np.setdiff1d(np.arange(rows), chosen).tolist(), chosen.tolist()


def stratified(classes: Sequence[Hashable], size: int) -> np.ndarray:
    """(size,) ascending numbers of rows, drawn from each class by its share.

    A class keeps at least one of its rows, so that none is scored that was never seen; only if there are not enough
    other rows does it give its last.
    """
    drawn = np.random.RandomState(SAMPLE_SEED).permutation(len(classes))
    take = quotas(Counter(classes), size)
    chosen = []
    for row in drawn.tolist():
        if take[classes[row]]:
            take[classes[row]] -= 1
            chosen.append(row)
    return np.sort(np.array(chosen, dtype=np.int64))


def quotas(counts: Counter[Hashable], size: int) -> dict[Hashable, int]:
    """Rows to take of each class, `size` in all: its share, rounded so that the largest remainders are rounded up."""
    total = counts.total()
    take = {name: min(size * count // total, count - 1) for name, count in counts.items()}
    by_remainder = sorted(counts, key=lambda name: -(size * counts[name] % total))
    while (missing := size - sum(take.values())) > 0:
        giving = [name for name in by_remainder if take[name] < counts[name] - 1]
        giving = giving or [name for name in by_remainder if take[name] < counts[name]]
        for name in giving[:missing]:
            take[name] += 1
    return take


def by_rarest(labels: Sequence[Collection[str]]) -> list[Hashable]:
    """A class for each row with any number of labels, by which `stratified` leaves every label a row.

    It is the row's rarest label. A label that is the rarest of no row has one row that is a class of its own, since all
    others of it might be drawn.
    """
    counts = Counter(label for row in labels for label in {*row})
    classes: list[Hashable] = [min({*row}, key=lambda label: (counts[label], label), default=None) for row in labels]
    first: dict[str, int] = {}
    for number, row in enumerate(labels):
        for label in row:
            first.setdefault(label, number)
    kept: set[str] = set()
    for label in sorted(counts.keys() - {*classes}):
        if label not in kept:
            classes[first[label]] = (first[label],)
            kept.update(labels[first[label]])
    return classes
