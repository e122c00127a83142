"""`compare.json`, the outcome of a comparison over several seeds, read so that a part that is missing is left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ..errors import InputError
from ..output import read_json
from ..runs.run_folder import COMPARISON_NAME
from ..tasks.base import Metrics


@dataclass(frozen=True)
class Comparison:
    """What was found about each method over the seeds."""

    metric: str
    lower_is_better: bool
    split: str
    seeds: list[int]
    methods: list[str]
    single: dict[str, Metrics]
    """Scores of the models that are the same for all seeds: `teacher`, `student`."""
    scores: dict[str, list[Metrics]]
    """Method -> scores with each seed."""
    intervals: dict[str, tuple[float, float]]
    gap_closed: dict[str, float]
    """Method -> share of the gap between teacher and student that it closes."""
    seconds: dict[str, float]
    """Method -> mean over the seeds of what its training took."""
    search_seconds: dict[str, float]
    """The same of its search for the learning rate, if it had one."""
    comparisons: list[dict[str, Any]]
    chosen: dict[str, dict[str, Any]]
    """Method -> the values that its search chose."""
    verdicts: list[str]


def read_comparison(folder: Path) -> Comparison | None:
    """The comparison of a folder; None if it holds none.

    Raises:
        InputError: the file does not name a metric, methods and their scores.
    """
    file = folder / COMPARISON_NAME
    content = read_json(file)
    if content is None and not file.is_file():
        return None
    found = _dict(content)
    methods = [str(name) for name in _list(found.get("methods"))]
    scores = _dict(found.get("scores"))
    if not isinstance(found.get("metric"), str) or not methods or not all(name in scores for name in methods):
        raise InputError(
            f"{file}: expected a metric, methods and the scores of each, got something else; run the comparison again"
        )
    return Comparison(
        metric=found["metric"],
        lower_is_better=bool(found.get("lower_is_better")),
        split=str(found.get("split") or "validation"),
        seeds=[seed for seed in _list(found.get("seeds")) if isinstance(seed, int)],
        methods=methods,
        single={name: _metrics(of) for name, of in scores.items() if isinstance(of, Mapping)},
        scores={name: [_metrics(of_seed) for of_seed in _list(scores[name])] for name in methods},
        intervals=_pairs(found.get("intervals")),
        gap_closed={name: share for name, share in _dict(found.get("gap_closed")).items() if is_number(share)},
        seconds=_means(found.get("seconds")),
        search_seconds=_means(found.get("search_seconds")),
        comparisons=[dict(pair) for pair in _list(found.get("comparisons")) if isinstance(pair, Mapping)],
        chosen={name: dict(values) for name, values in _dict(found.get("chosen")).items() if values},
        verdicts=[str(sentence) for sentence in _list(found.get("verdicts"))],
    )


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _dict(value: Any) -> dict[str, Any]:
    return {str(key): held for key, held in value.items()} if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _metrics(value: Any) -> Metrics:
    return {name: float(score) for name, score in _dict(value).items() if is_number(score)}


def _means(value: Any) -> dict[str, float]:
    return {name: fmean(of) for name, of in _dict(value).items() if _list(of) and all(map(is_number, of))}


def _pairs(value: Any) -> dict[str, tuple[float, float]]:
    pairs = {name: _list(pair) for name, pair in _dict(value).items()}
    return {name: (pair[0], pair[1]) for name, pair in pairs.items() if len(pair) == 2 and all(map(is_number, pair))}
