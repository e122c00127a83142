"""From turns to figures: medians, spreads, ratios to the teacher, and the candidates that no other is better than."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from .timing import Turn

Figures = dict[str, Any]


def speed_figures(turns: Sequence[Turn], rows_in_batches: int) -> Figures:
    """Latency row by row, and throughput in batches: medians over the turns, with the least and the most of them.

    Returns:
        `batch_1` and `batch_32`, each with `rows_per_second` and `cpu_ms`, processor time for a row; the first also
        with `p50_ms` and `p95_ms`, each the median of the turns' own percentiles over their rows.
    """
    halves, tails = zip(*(np.percentile(turn.single, (50, 95)) * 1000 for turn in turns), strict=True)
    single = [len(turn.single) / sum(turn.single) for turn in turns]
    batches = [rows_in_batches / turn.batches for turn in turns]
    return {
        "batch_1": {
            "p50_ms": median(map(float, halves)),
            "p50_ms_spread": _spread(halves),
            "p95_ms": median(map(float, tails)),
            "p95_ms_spread": _spread(tails),
            "rows_per_second": median(single),
            "rows_per_second_spread": _spread(single),
            "cpu_ms": median(1000 * turn.single_cpu / len(turn.single) for turn in turns),
        },
        "batch_32": {
            "rows_per_second": median(batches),
            "rows_per_second_spread": _spread(batches),
            "cpu_ms": median(1000 * turn.batches_cpu / rows_in_batches for turn in turns),
        },
    }


def _spread(values: Sequence[float]) -> list[float]:
    return [float(min(values)), float(max(values))]


def to_teacher(own: Figures, teacher: Figures, lower_is_better: bool) -> Figures:
    """How a candidate compares with the teacher in PyTorch float32.

    Returns:
        `score`, its share of the teacher's (of scores that are better when lower, the teacher's share of its);
        `batch_1` and `batch_32`, how many times as many rows a second; `p50` and `cpu`, how many times less of
        the median time and of processor time a row by itself takes.
    """
    return {
        "score": score_share(own["score"], teacher["score"], lower_is_better),
        "batch_1": own["batch_1"]["rows_per_second"] / teacher["batch_1"]["rows_per_second"],
        "batch_32": own["batch_32"]["rows_per_second"] / teacher["batch_32"]["rows_per_second"],
        "p50": teacher["batch_1"]["p50_ms"] / own["batch_1"]["p50_ms"],
        # The processor's clock may be too coarse for a tiny model.
        "cpu": teacher["batch_1"]["cpu_ms"] / own["batch_1"]["cpu_ms"] if own["batch_1"]["cpu_ms"] > 0 else None,
    }


def score_share(own: float | None, teacher: float | None, lower_is_better: bool) -> float | None:
    """The share of the teacher's score that is left; None without scores, or where the teacher's says nothing."""
    if own is None or teacher is None:
        return None
    part, whole = (teacher, own) if lower_is_better else (own, teacher)
    return part / whole if whole > 0 else None


def pareto_front(points: Mapping[str, tuple[float, float]], lower_is_better: bool = False) -> list[str]:
    """The points that no other is better than: names by cost, from the least.

    Args:
        points: name -> (cost, score). Of equal points, the first is on the front.
        lower_is_better: of scores; costs always are.
    """
    sign = 1 if lower_is_better else -1
    order = sorted(points, key=lambda name: (points[name][0], sign * points[name][1]))
    front: list[str] = []
    for name in order:
        if not front or sign * points[name][1] < sign * points[front[-1]][1]:
            front.append(name)
    return front
