"""Medians, percentiles, ratios and the front, against numpy and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ted_distill.benching.figures import pareto_front, score_share, speed_figures, to_teacher
from ted_distill.benching.timing import Turn

TURNS = [
    Turn([0.010, 0.020, 0.030, 0.040], 0.2, 0.8, 1.6),
    Turn([0.020, 0.030, 0.040, 0.050], 0.4, 0.4, 0.8),
    Turn([0.100, 0.200, 0.300, 0.900], 0.3, 1.6, 2.4),
]


def test_figures_are_medians_of_the_turns_own_and_the_spread_is_their_least_and_most() -> None:
    found = speed_figures(TURNS, rows_in_batches=8)
    one, many = found["batch_1"], found["batch_32"]
    halves = [float(np.median(turn.single)) * 1000 for turn in TURNS]
    assert one["p50_ms"] == pytest.approx(35.0)
    assert one["p50_ms_spread"] == pytest.approx([min(halves), max(halves)])
    assert one["p95_ms"] == pytest.approx(np.percentile([20, 30, 40, 50], 95))
    assert one["rows_per_second"] == pytest.approx(4 / 0.14)
    assert one["cpu_ms"] == pytest.approx(75.0)
    assert many["rows_per_second"] == pytest.approx(10.0)
    assert many["rows_per_second_spread"] == pytest.approx([5.0, 20.0])
    assert many["cpu_ms"] == pytest.approx(200.0)


def test_ratios_are_those_to_the_teacher() -> None:
    def figures(score: float, single: float, halves: float, cpu: float, batches: float) -> dict[str, Any]:
        of_rows = {"rows_per_second": single, "p50_ms": halves, "cpu_ms": cpu}
        return {"score": score, "batch_1": of_rows, "batch_32": {"rows_per_second": batches}}

    teacher, own = figures(80, 10, 100, 90, 20), figures(76, 95, 10, 15, 80)
    found = to_teacher(own, teacher, lower_is_better=False)
    assert found == {"score": pytest.approx(0.95), "batch_1": 9.5, "batch_32": 4.0, "p50": 10.0, "cpu": 6.0}
    assert to_teacher(teacher, teacher, lower_is_better=False) == dict.fromkeys(found, 1.0)


@pytest.mark.parametrize(
    ("own", "teacher", "lower", "share"),
    [(20.0, 10.0, True, 0.5), (None, 10.0, False, None), (5.0, None, False, None), (5.0, 0.0, False, None)],
)
def test_the_share_of_a_score_that_is_better_when_lower_is_turned_round(
    own: float | None, teacher: float | None, lower: bool, share: float | None
) -> None:
    assert score_share(own, teacher, lower) == share


def test_on_the_front_is_what_no_other_is_both_faster_and_better_than() -> None:
    points = {"slow": (9.0, 90.0), "good": (5.0, 90.0), "worse": (6.0, 80.0), "fast": (1.0, 50.0), "same": (5.0, 90.0)}
    assert pareto_front(points) == ["fast", "good"]
    assert pareto_front({name: (cost, -score) for name, (cost, score) in points.items()}, lower_is_better=True) == [
        "fast", "good",
    ]  # fmt: skip
    assert pareto_front({}) == []


def test_the_front_is_that_of_its_definition_on_random_points() -> None:
    draw = np.random.default_rng(0)
    points = {str(number): tuple(draw.integers(0, 12, 2).tolist()) for number in range(60)}
    front = pareto_front(points)
    values = {points[name] for name in front}
    for cost, score in points.values():
        beaten = any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points.values())
        assert ((cost, score) in values) == (not beaten)
    assert len(values) == len(front)
