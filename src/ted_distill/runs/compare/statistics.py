"""Whether two methods can be told apart: a paired t test over seeds, and an interval over seeds and examples.

Both are needed. The test asks whether the difference is larger than what another seed would change; it knows nothing of
the examples, of which there are only so many. The bootstrap asks whether other examples would have changed it; alone,
and over examples only, it takes what a seed does for a difference between methods. Two methods are told apart where
both exclude 0, each after Holm's correction for the number of pairs that are compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

LEVEL = 0.05
"""Probability of a false win that is accepted, over all pairs of a comparison together."""
RESAMPLES = 2000
"""Draws of the bootstrap."""
LEAST_SEEDS = 3
"""With two seeds, a paired t test has one degree of freedom: it hardly ever finds anything."""


@dataclass(frozen=True)
class Difference:
    """How much better one method scores than another, in units of the score; positive if the first is better."""

    better: str
    worse: str
    difference: float
    """Mean over the seeds."""
    interval: tuple[float, float] | None
    """95 % interval of the bootstrap over seeds and examples, for this pair alone; None if there are no predictions to
    draw from."""
    p: float | None
    """Of the paired t test over seeds, two-sided; None with fewer than two seeds."""
    p_holm: float | None
    """The same after Holm's correction."""
    p_bootstrap_holm: float | None
    """Share of draws on the other side of 0, two-sided, after Holm's correction; None without draws."""

    @property
    def told_apart(self) -> bool:
        """Whether both exclude 0: the test over seeds, and the bootstrap over seeds and examples."""
        if self.p_holm is None or self.p_bootstrap_holm is None:
            return False
        return self.p_holm < LEVEL and self.p_bootstrap_holm < LEVEL


def differences(
    scores: Mapping[str, Sequence[float]], resampled: Mapping[str, np.ndarray], lower_is_better: bool, seed: int = 0
) -> list[Difference]:
    """Every pair of methods, the better first.

    Args:
        scores: method -> score with each seed; the same seeds in the same order for all.
        resampled: method -> (R, S) scores on drawn examples, the same draws for all; empty if there are none.
        lower_is_better: the sign of the score.
        seed: of the draws of seeds.
    """
    sign = -1.0 if lower_is_better else 1.0
    values = {name: sign * np.asarray(of_seeds, dtype=np.float64) for name, of_seeds in scores.items()}
    pairs = []
    for first, second in combinations(values, 2):
        swapped = values[first].mean() < values[second].mean()
        pairs.append((second, first) if swapped else (first, second))
    tested = [paired_t(values[better] - values[worse]) for better, worse in pairs]
    seeds = _drawn_seeds(resampled, seed)
    drawn = [
        None if seeds is None else _drawn_means(sign * (resampled[better] - resampled[worse]), seeds)
        for better, worse in pairs
    ]
    of_test = _corrected(tested)
    of_bootstrap = _corrected([None if means is None else _beyond_zero(means) for means in drawn])
    return [
        Difference(
            better,
            worse,
            float((values[better] - values[worse]).mean()),
            None if means is None else _interval(means),
            tested[number],
            of_test[number],
            of_bootstrap[number],
        )
        for number, ((better, worse), means) in enumerate(zip(pairs, drawn, strict=True))
    ]


def _corrected(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction of those that there are."""
    corrected = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(corrected) for p in p_values]


def paired_t(difference: np.ndarray) -> float | None:
    """Two-sided p value of a paired t test; None with fewer than two seeds.

    Differences that are all the same have no spread to compare them with: p is then 1, since seeds that change nothing
    say nothing about what another one would change.
    """
    if len(difference) < 2:
        return None
    if np.ptp(difference) <= 1e-9 * max(1.0, float(np.abs(difference).max())):
        return 1.0
    from scipy import stats  # which takes a second

    return float(stats.ttest_rel(difference, np.zeros_like(difference)).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p values that keep the level over all tests together (Holm 1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(steps, 1.0)
    return corrected.tolist()


def bootstrap_interval(difference: np.ndarray, seeds: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean difference when seeds are drawn as well.

    Args:
        difference: (R, S) difference on the R-th draw of examples with each of S seeds.
        seeds: (R, S) numbers of the seeds drawn.
    """
    return _interval(_drawn_means(difference, seeds))


def _drawn_means(difference: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    return np.take_along_axis(difference, seeds, axis=1).mean(axis=1)


def _interval(means: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(means, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def _beyond_zero(means: np.ndarray) -> float:
    """Two-sided p value: twice the smaller share of draws on one side of 0, the observed data counted as one more."""
    beyond = min((means <= 0).sum(), (means >= 0).sum())
    return min(1.0, 2 * (int(beyond) + 1) / (len(means) + 1))


def least_resamples(pairs: int) -> int:
    """Draws with which the smallest p value that a bootstrap can have is below `LEVEL` after Holm's correction."""
    return math.floor(2 * pairs / LEVEL + 1e-9)


def mean_interval(scores: np.ndarray) -> tuple[float, float]:
    """95 % interval of one method's mean score, seeds and examples drawn.

    Args:
        scores: (R, S) as in `differences`.
    """
    return bootstrap_interval(scores, np.random.default_rng(0).integers(scores.shape[1], size=scores.shape))


def _drawn_seeds(resampled: Mapping[str, np.ndarray], seed: int) -> np.ndarray | None:
    """(R, S) seeds to draw, the same for all methods; None without draws of examples."""
    if not resampled:
        return None
    shape = next(iter(resampled.values())).shape
    return np.random.default_rng(seed).integers(shape[1], size=shape)
