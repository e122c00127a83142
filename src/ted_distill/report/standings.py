"""The scores of all models of a report, with their intervals, and what they say in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..runs.compare.statistics import mean_interval
from ..runs.kept_predictions import Predictions
from ..runs.table import BEST, TRIMMED, model_title
from ..stages.methods import METHODS
from ..tasks import Task
from ..tasks.base import TEST, Metrics
from ..tasks.resampling import Draws
from .folders import Reported

_RESAMPLES = 1000
_MORE_SCORES = 2
"""Scores besides the main one that a table has room for."""


@dataclass
class Standing:
    """One model's scores."""

    name: str
    title: str
    role: str
    """`teacher`, `start` (a student that was not trained), `student`, `method`, or `trimmed` (RUN/best with fewer
    tokens)."""
    score: float
    """The main score; its mean over the seeds."""
    interval: tuple[float, float] | None = None
    deviation: float | None = None
    """Standard deviation over the seeds."""
    of_seeds: list[float] = field(default_factory=list)
    gap_closed: float | None = None
    others: Metrics = field(default_factory=dict)
    seconds: float | None = None
    """Of training; the search for the learning rate and Stage I not counted."""
    search_seconds: float | None = None
    stage_one_seconds: float | None = None
    note: str = ""
    """What a search chose for it."""
    best: bool = False
    """Whether it is the run's best student (RUN/best)."""
    chosen_elsewhere: bool = False
    """Whether the scores here are of other rows than those that chose the best student."""


def standings(reported: Reported, predictions: Mapping[str, Predictions]) -> list[Standing]:
    """Teacher, student and methods, in order."""
    if reported.comparison is not None:
        return _of_comparison(reported)
    return _of_run(reported, predictions)


def interval_name(reported: Reported) -> str:
    """What the intervals are, for tables and plots."""
    if reported.comparison is not None:
        return "95 % interval over seeds and rows"
    return "95 % interval of a bootstrap over the rows"


def _of_run(reported: Reported, predictions: Mapping[str, Predictions]) -> list[Standing]:
    found = []
    for name, result in reported.results.items():
        found.append(_standing(reported, name, result, _role(name, result), predictions.get(name)))
        if trimmed := result.get(TRIMMED):
            scores = {**trimmed, "scored_on": result.get("scored_on", {})}
            found.append(_standing(reported, BEST, scores, "trimmed", None))
            found[-1].title = f"{found[-2].title}, trimmed"
    gaps = _gaps(found, reported.lower_is_better)
    for one in found:
        one.gap_closed = gaps.get(one.name)
    return found


def _standing(
    reported: Reported, name: str, result: Mapping[str, Any], role: str, predictions: Predictions | None
) -> Standing:
    metric = reported.metric
    test = TEST in result.get("scored_on", {}) and f"{TEST}_{metric}" in result
    scores = dict(result)
    if test:
        scores = {key.removeprefix(f"{TEST}_"): value for key, value in result.items() if key.startswith(TEST)}
    known = reported.task.score_names if reported.task else ()
    others = {key: float(scores[key]) for key in known if key in scores and key != metric}
    return Standing(
        name,
        model_title(name, result),
        role,
        float(scores[metric]),
        _interval(reported.task, predictions),
        others=dict(list(others.items())[:_MORE_SCORES]),
        seconds=result.get("seconds"),
        search_seconds=result.get("search_seconds"),
        stage_one_seconds=result.get("stage_one_seconds"),
        best=bool(result.get("best")),
        chosen_elsewhere=test,
    )


def _role(name: str, result: Mapping[str, Any]) -> str:
    if name == "student":
        return "student" if "steps" in result else "start"
    return "teacher" if name == "teacher" else "method"


def _interval(task: Task | None, predictions: Predictions | None) -> tuple[float, float] | None:
    """The 95 % interval of the score over other rows that might have been drawn; None without predictions."""
    if task is None or predictions is None:
        return None
    rows = task.rows[predictions.split]
    draws = Draws(task.examples(predictions.predictions, rows), _RESAMPLES)
    return mean_interval(task.sampled_score(predictions.predictions, rows, draws)[:, None])


def _gaps(found: Sequence[Standing], lower_is_better: bool) -> dict[str, float]:
    """Share of the gap between the teacher and the plain student that each method closes.

    None without a gap: where the teacher's score is one that other rows might have given the plain student.
    """
    scores = {one.name: -one.score if lower_is_better else one.score for one in found}
    plain = plain_student(found)
    if plain is None or "teacher" not in scores or scores["teacher"] <= scores[plain]:
        return {}
    teacher, student = (next(one for one in found if one.name == name) for name in ("teacher", plain))
    if student.interval and student.interval[0] <= teacher.score <= student.interval[1]:
        return {}
    gap = scores["teacher"] - scores[plain]
    methods = [one.name for one in found if one.role == "method" and one.name != plain]
    return {name: (scores[name] - scores[plain]) / gap for name in methods}


def plain_student(found: Sequence[Standing]) -> str | None:
    """The student that was trained on the labels alone, which every method has to beat."""
    trained = [one.name for one in found if one.role == "student"]
    alone = [one.name for one in found if one.role == "method" and not METHODS[one.name].needs_teacher]
    return next(iter([*alone, *trained]), None)


def best_student(found: Sequence[Standing], lower_is_better: bool) -> Standing | None:
    """The trained student with the best score, or that the validation rows chose; None if none was trained."""
    trained = [one for one in found if one.role in ("method", "student")]
    trained = [one for one in trained if one.best] or trained
    return min(trained, key=lambda one: one.score if lower_is_better else -one.score, default=None)


def _of_comparison(reported: Reported) -> list[Standing]:
    comparison = reported.comparison
    assert comparison is not None
    metric, found = comparison.metric, []
    for name in reported.names:
        of_seeds = comparison.scores.get(name) or [comparison.single.get(name, {})]
        values = [scores[metric] for scores in of_seeds if metric in scores]
        if not values:
            continue
        result = reported.results.get(name, {})
        several = len(values) > 1
        note = ", ".join(f"{key} {value}" for key, value in comparison.chosen.get(name, {}).items())
        found.append(
            Standing(
                name,
                model_title(name, result),
                _role(name, result),
                float(np.mean(values)),
                comparison.intervals.get(name),
                float(np.std(values, ddof=1)) if several else None,
                values if name in comparison.scores else [],
                comparison.gap_closed.get(name),
                seconds=comparison.seconds.get(name, result.get("seconds")),
                search_seconds=comparison.search_seconds.get(name, result.get("search_seconds")),
                stage_one_seconds=result.get("stage_one_seconds"),
                note=note,
            )
        )
    return found
