"""Requirements on the scores of a run, such as `ted.f1 >= 0.97 * teacher.f1`: a pipeline stops where one does not hold.

A requirement compares two expressions of numbers, scores (`MODEL.SCORE`), + - * / and parentheses. Models and scores
are those of the run's table, and `best` is what RUN/best holds; a seed comparison has the means over its seeds. A score
whose name has a dash or a dot, as data of `score_on` may, is written `MODEL["SCORE"]`.
"""

from __future__ import annotations

import ast
import logging
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import GateError, InputError, nearest, raise_if_any, shown
from ..tasks.base import TEST, Task
from ..training.scores.best_score import score_names
from .table import BEST, TRIMMED

logger = logging.getLogger(__name__)

Scores = Mapping[str, Mapping[str, float]]
"""Model -> score -> value."""

_COMPARE: dict[type, Callable[[float, float], bool]] = {
    ast.GtE: operator.ge,
    ast.Gt: operator.gt,
    ast.LtE: operator.le,
    ast.Lt: operator.lt,
}
_ARITHMETIC: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
NO_SCORES = ("parameters", "seconds")
"""Numbers of the table that are not of a model's predictions."""
_QUOTE = 'write a score with - or . in its name as ted["SCORE"]'
_FORM = "a comparison such as ted.f1 >= 0.97 * teacher.f1"


@dataclass(frozen=True)
class Verdict:
    """Whether a requirement holds."""

    requirement: str
    holds: bool
    values: str
    """Both sides as numbers."""

    def __str__(self) -> str:
        """One line for the screen."""
        return f"{'holds' if self.holds else 'does not hold'}: {self.requirement} ({self.values})"


def _number(value: float) -> str:
    """All digits of a count, four of another number."""
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 10_000 else f"{value:.4g}"


@dataclass(frozen=True)
class Requirement:
    """A requirement that was read, but not yet looked at."""

    text: str
    comparison: ast.Compare

    @property
    def names(self) -> list[tuple[str, str]]:
        """(model, score) of each score that it names."""
        return [found for node in ast.walk(self.comparison) if (found := _score(node)) is not None]

    @property
    def shares(self) -> list[tuple[str, float]]:
        """(score, number) where one side is a score and the other a number between 0 and 1."""
        sides = [self.comparison.left, self.comparison.comparators[0]]
        return [
            (score[1], float(str(number.value)))
            for score, number in ((_score(one), other) for one, other in (sides, sides[::-1]))
            if score is not None and isinstance(number, ast.Constant) and 0 < float(str(number.value)) < 1
        ]

    def check(self, scores: Scores) -> Verdict:
        """Whether it holds: not where a score is no number, or something is divided by 0.

        Raises:
            InputError: a model or a score that the run does not have.
        """
        left = _value(self.comparison.left, scores, self.text)
        right = _value(self.comparison.comparators[0], scores, self.text)
        (sign,) = self.comparison.ops
        holds = not math.isnan(left + right) and _COMPARE[type(sign)](left, right)
        return Verdict(self.text, holds, f"{_number(left)} and {_number(right)}")


def read_requirement(text: str) -> Requirement:
    """A requirement, checked in all but the models and scores that it names.

    Raises:
        InputError: it is no comparison of the form above.
    """
    try:
        found = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        found = None
    if not isinstance(found, ast.Compare) or len(found.ops) != 1 or type(found.ops[0]) not in _COMPARE:
        hint = "; write numbers without a percent sign" if "%" in text else ""
        if re.search(r"\b(and|or)\b|[<>].*[<>]", text):
            hint = "; give each condition as a requirement of its own"
        elif found is None and not hint and re.search(r"\w\.\w+[-.]\w", text):
            hint = f"; {_QUOTE}"
        raise InputError(f"require: expected {_FORM}, got {shown(text)}{hint}")
    for side in (found.left, found.comparators[0]):
        _check(side, text)
    return Requirement(text.strip(), found)


def require(requirements: Sequence[str], scores: Scores, results: Any) -> None:
    """Check requirements on finished models, and say of each whether it holds.

    Args:
        results: of the run or comparison, which the error holds.

    Raises:
        GateError: one does not hold.
        InputError: one names a score that is not there.
    """
    found = [read_requirement(text).check(scores) for text in requirements]
    for verdict in found:
        if verdict.holds:
            logger.warning("require: %s", verdict)
    if failed := [verdict for verdict in found if not verdict.holds]:
        raise GateError("\n".join(f"require: {verdict}" for verdict in failed), results)


def with_best(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The results of a run and, as `best`, those of RUN/best: the best student, with fewer tokens if it was trimmed."""
    best = [{**result, **result.get(TRIMMED, {})} for result in results.values() if result.get("best")]
    return {**results, **({BEST: best[0]} if best else {})}


def check_models(requirements: list[Requirement], models: list[str]) -> list[str]:
    """What is wrong with the models that requirements name, before a run of these models."""
    known = ", ".join(models)
    return [
        f"require: expected one of {known}, got {model} in {shown(requirement.text)}{nearest(model, models)}"
        for requirement in requirements
        for model, _ in requirement.names
        if model not in models
    ]


def scores_of_run(task: Task, further: Mapping[str, Task]) -> list[str]:
    """Names of the numbers that every model of a run has.

    Args:
        further: data sets of `score_on` by name.
    """
    names = score_names(task) + ([f"{TEST}_{name}" for name in task.score_names] if TEST in task.rows else [])
    names += [f"{data}_{name}" for data, other in further.items() for name in score_names(other)]
    return [*names, *NO_SCORES]


def check_scores(requirements: Sequence[str], known: Sequence[str], lower_is_better: Sequence[str] = ()) -> None:
    """Refuse requirements that cannot hold or always would, before a run that has the scores `known`.

    Args:
        lower_is_better: scores that are not in percent.

    Raises:
        InputError: one names another score, or compares a score in percent with a share such as 0.9.
    """
    read = [read_requirement(text) for text in requirements]
    problems = [
        f"require: expected one of {', '.join(known)}, got {score} in {shown(one.text)}{nearest(score, known)}"
        for one in read
        for _, score in one.names
        if score not in known
    ]
    problems += [
        f"require: expected {score} in percent, as in the table, got {share:g} in {shown(one.text)}; "
        f"write {100 * share:g}"
        for one in read
        for score, share in one.shares
        if score in known and not score.endswith((*lower_is_better, *NO_SCORES))
    ]
    raise_if_any(problems)


def _check(node: ast.expr, text: str) -> None:
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        _check(node.left, text)
        _check(node.right, text)
        if isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant) and node.right.value == 0:
            raise InputError(f"require: expected no division by 0, got one in {shown(text)}")
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        _check(node.operand, text)
    elif not _is_number(node) and _score(node) is None:
        hint = f"; {_QUOTE}" if isinstance(node, ast.Name) else ""
        raise InputError(f"require: expected numbers and MODEL.SCORE in {_FORM}, got {shown(ast.unparse(node))}{hint}")


def _score(node: ast.AST) -> tuple[str, str] | None:
    """(model, score) of `MODEL.SCORE` or `MODEL["SCORE"]`; None for anything else."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.value.id, node.attr
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and isinstance(node.slice, ast.Constant):
        return (node.value.id, node.slice.value) if isinstance(node.slice.value, str) else None
    return None


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def _value(node: Any, scores: Scores, text: str) -> float:
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, scores, text), _value(node.right, scores, text)
        if isinstance(node.op, ast.Div) and right == 0:
            return math.nan
        return _ARITHMETIC[type(node.op)](left, right)
    if isinstance(node, ast.UnaryOp):
        return -_value(node.operand, scores, text)
    if isinstance(node, ast.Constant):
        return float(str(node.value))
    model, score = _score(node) or ("", "")
    if model not in scores:
        raise InputError(f"require: expected one of {', '.join(scores)}, got {model} in {shown(text)}")
    known = {name: value for name, value in scores[model].items() if isinstance(value, (int, float))}
    if score not in known:
        raise InputError(
            f"require: expected a score of {model} ({', '.join(known)}), got {score} in {shown(text)}"
            f"{nearest(score, known)}"
        )
    return float(known[score])
