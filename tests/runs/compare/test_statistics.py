"""The verdict of a comparison: its statistics against other sources, and how often it is wrong."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ted_distill import InputError, compare
from ted_distill.runs.compare.statistics import (
    LEVEL,
    bootstrap_interval,
    differences,
    holm,
    least_resamples,
    mean_interval,
    paired_t,
)
from ted_distill.tasks.resampling import Draws


def test_p_is_that_of_a_paired_t_test() -> None:
    first, second = np.array([84.1, 85.0, 84.4, 85.2, 84.9]), np.array([83.9, 84.2, 84.3, 84.4, 84.6])
    difference = first - second
    t = difference.mean() / (difference.std(ddof=1) / np.sqrt(5))
    assert paired_t(difference) == pytest.approx(2 * stats.t.sf(abs(t), df=4))


def test_seeds_that_change_nothing_tell_nothing_apart() -> None:
    assert paired_t(np.full(5, 0.3)) == 1.0
    assert paired_t(np.zeros(5)) == 1.0


def test_one_seed_has_no_p() -> None:
    assert paired_t(np.array([2.0])) is None


def test_holms_correction_is_that_of_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_the_interval_over_seeds_and_examples_is_as_wide_as_both_make_it() -> None:
    rng = np.random.default_rng(0)
    seeds, rows = rng.normal(0, 1, 50), rng.normal(0, 8, 400)
    resampled = np.array([rows[draw].mean() for draw in Draws(400, 4000)])[:, None] + seeds
    low, high = mean_interval(resampled)
    spread = np.sqrt(seeds.var() / 50 + rows.var() / 400)
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.06)


def test_draws_of_seeds_are_shared_by_the_methods_of_a_pair() -> None:
    """Seeds move both methods alike here, so that their difference is the same whichever are drawn."""
    seeds = np.array([0.0, 30.0, 60.0])
    first = np.tile(seeds + 1, (100, 1))
    second = np.tile(seeds, (100, 1))
    found = differences({"a": first[0], "b": second[0]}, {"a": first, "b": second}, lower_is_better=False)[0]
    assert found.interval == pytest.approx((1.0, 1.0))


def test_the_better_of_a_pair_comes_first_also_where_less_is_better() -> None:
    scores = {"a": [10.0, 11.0, 12.5], "b": [20.0, 21.0, 22.0]}
    assert [(d.better, d.worse) for d in differences(scores, {}, lower_is_better=False)] == [("b", "a")]
    less = differences(scores, {}, lower_is_better=True)[0]
    assert (less.better, less.worse) == ("a", "b")
    assert less.difference == pytest.approx(9.83, abs=0.01)


def test_without_predictions_nothing_is_told_apart() -> None:
    found = differences({"a": [1.0, 1.1, 1.2], "b": [9.0, 9.2, 9.1]}, {}, lower_is_better=False)[0]
    assert found.p_holm is not None
    assert found.p_holm < 0.05
    assert not found.told_apart


@cache
def _counts(rows: int) -> np.ndarray:
    """(R, N) how often each row is drawn; the experiments may share their draws."""
    return np.stack([np.bincount(draw, minlength=rows) for draw in Draws(rows, 400)]).astype(np.float32)


def _experiment(rng: np.random.Generator, methods: int, seeds: int, rows: int, gain: float) -> tuple[dict, dict]:
    """Scores of methods that are equal but for the first one's `gain`, and those on drawn rows.

    Each method is right about rows of its own (which the seeds share), and each seed moves every method by itself.
    """
    hard = rng.normal(0, 1, rows)
    counts = _counts(rows)
    scores, resampled = {}, {}
    for number in range(methods):
        own = hard + rng.normal(0, 0.7, rows) + (gain if number == 0 else 0.0)
        right = np.stack([own + rng.normal(0, 0.15) + rng.normal(0, 0.3, rows) > 0 for _ in range(seeds)])
        scores[f"m{number}"] = 100 * right.mean(axis=1)
        resampled[f"m{number}"] = 100 * counts @ right.T.astype(np.float32) / rows
    return scores, resampled


@pytest.mark.parametrize("seeds", [3, 5])
def test_equal_methods_are_told_apart_in_at_most_six_of_a_hundred_comparisons(seeds: int) -> None:
    rng = np.random.default_rng(7)
    wrong = sum(
        any(d.told_apart for d in differences(*_experiment(rng, 3, seeds, 300, 0.0), lower_is_better=False))
        for _ in range(300)
    )
    assert wrong / 300 <= 0.06


def test_a_bootstrap_over_examples_alone_calls_noise_a_win_more_often() -> None:
    """Which is why the test over seeds is needed."""
    rng = np.random.default_rng(7)
    wrong = 0
    for _ in range(300):
        _, resampled = _experiment(rng, 2, 5, 300, 0.0)
        difference = resampled["m0"] - resampled["m1"]
        low, high = bootstrap_interval(difference[:, :1], np.zeros((len(difference), 1), dtype=int))
        wrong += low > 0 or high < 0
    assert wrong / 300 > 0.06


def test_a_method_that_is_better_is_found() -> None:
    rng = np.random.default_rng(7)
    found = [differences(*_experiment(rng, 2, 5, 1000, 0.6), lower_is_better=False)[0] for _ in range(50)]
    assert sum(d.told_apart and d.better == "m0" for d in found) >= 45


@pytest.mark.parametrize("pairs", [1, 6, 21])
def test_fewer_draws_than_the_least_could_not_tell_any_two_methods_apart(pairs: int) -> None:
    def best(draws: int) -> float:
        return holm([2 / (draws + 1)] * pairs)[0]

    least = least_resamples(pairs)
    assert best(least) < LEVEL
    assert best(least - 1) >= LEVEL or best(least - 1) == pytest.approx(LEVEL)


def test_too_few_draws_for_the_methods_are_refused_at_once(tmp_path: Path) -> None:
    recipe = {"task": "sequence_classification", "teacher": "t", "student_layers": [1], "output_dir": str(tmp_path)}
    with pytest.raises(InputError, match=r"resamples: expected at least 240, .* 6 pairs .*got 239"):
        compare({**recipe, "methods": ["alone", "kd", "lwd", "ted"]}, 2, resamples=239)
