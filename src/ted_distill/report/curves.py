"""Curves of the trainings: loss terms, layer losses of pairs and validation scores over steps, from `history.jsonl`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .comparison import is_number

_LAYER, _SCORE = "layer_loss/", "eval_"
_POINTS = 80
"""The most points of a curve; more than a plot of this size can show."""
Curve = list[tuple[int, float]]
"""(step, value)"""


def read_history(file: Path) -> list[dict[str, Any]]:
    """The points that a stage logged; none of an older stage, and no line that is cut off."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [entry for entry in map(_entry, lines) if entry is not None]


def _entry(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("step"), int) else None


def curves(history: list[dict[str, Any]], metric: str) -> dict[str, dict[str, Curve]]:
    """Curves: `losses` by term, `pairs` by pair, such as `4 → 2`, and `scores`, those of the metric."""
    found: dict[str, dict[str, Curve]] = {"losses": {}, "pairs": {}, "scores": {}}
    for entry in history:
        for name, value in entry.items():
            if not is_number(value):
                continue
            if name.startswith(_LAYER):
                _add(found["pairs"], _pair(name), entry["step"], value)
            elif _is_term(name):
                _add(found["losses"], name, entry["step"], value)
            elif name == f"{_SCORE}{metric}":
                _add(found["scores"], metric, entry["step"], value)
    return {kind: {name: thinned(curve) for name, curve in of.items()} for kind, of in found.items()}


def _is_term(name: str) -> bool:
    return name == "loss" or (name.endswith("_loss") and name != "train_loss" and not name.startswith(_SCORE))


def _add(curves: dict[str, Curve], name: str, step: int, value: float) -> None:
    curves.setdefault(name, []).append((step, float(value)))


def _pair(name: str) -> str:
    """`layer_loss/teacher_4_student_2` -> `4 → 2`."""
    parts = name.removeprefix(_LAYER).split("_")
    if len(parts) == 4 and parts[0] == "teacher" and parts[2] == "student":
        return f"{parts[1]} \N{RIGHTWARDS ARROW} {parts[3]}"
    return name.removeprefix(_LAYER)


def thinned(curve: Curve) -> Curve:
    """At most about `_POINTS` points: means of equally many neighbours, the last point as it is.

    Values are rounded to five digits, which no plot can show either.
    """
    size = -(-len(curve) // _POINTS)
    if size > 1:
        head, last = curve[:-1], curve[-1]
        groups = [head[start : start + size] for start in range(0, len(head), size)]
        curve = [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups] + [last]
    return [(step, float(f"{value:.5g}")) for step, value in curve]
