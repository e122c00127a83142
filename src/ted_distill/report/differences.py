"""Rows for which student and teacher predict something else, the most telling first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any, TypeVar

import numpy as np
from datasets import Dataset

from ..runs.kept_predictions import Predictions
from ..tasks import Task
from ..tasks.multi_label_classification import MultiLabelClassification
from ..tasks.regression import Regression
from ..tasks.sequence_classification import SequenceClassification
from ..tasks.squad.metrics import exact_match
from ..tasks.squad.question_answering import QuestionAnswering
from ..tasks.text.language_modelling import LanguageModelling
from ..tasks.token_classification import TokenClassification

T = TypeVar("T")


@dataclass(frozen=True)
class Difference:
    """One row, word or question for which two models predict something else."""

    row: int
    """Counted from 1, in the order of the rows that are scored."""
    texts: dict[str, str]
    """What the model read, by column, and where in it the difference is."""
    label: str
    teacher: str
    student: str
    right: str
    """Who predicts the label: `teacher`, `student`, `neither`, or `both` of two right answers; who is nearer to it."""
    teacher_confidence: float | None = None
    student_confidence: float | None = None
    weight: float = field(default=0.0, repr=False)
    """What they are ordered by: how sure the student is, or how far apart two numbers are."""


@singledispatch
def differences(task: Task, student: Predictions, teacher: Predictions, rows: Dataset) -> list[Difference] | None:
    """Where student and teacher differ: first where the student is sure, or two numbers are far apart.

    Returns:
        None for tasks whose predictions cannot be shown row by row.
    """
    return None


def why_none(task: Task) -> str:
    """Why `differences` gave None."""
    if isinstance(task, LanguageModelling):
        return (
            "Language models predict a distribution for every token, so that no single rows are compared: only scores, "
            "and how often the two most likely tokens are the same."
        )
    return f"The predictions of task {task.name} have no form that could be shown row by row."


@differences.register
def _of_classes(
    task: SequenceClassification, student: Predictions, teacher: Predictions, rows: Dataset
) -> list[Difference]:
    names = task.label_names or []
    different = np.flatnonzero(np.asarray(student.predictions) != np.asarray(teacher.predictions)).tolist()

    def difference(row: int) -> Difference:
        label, said = names[rows[row]["label"]], _each(teacher, student, lambda of: names[of.predictions[row]])
        return _made(row, _texts(rows[row]), label, said, _each(teacher, student, lambda of: _sure(of, row)))

    return _in_order(map(difference, different))


@differences.register
def _of_label_sets(
    task: MultiLabelClassification, student: Predictions, teacher: Predictions, rows: Dataset
) -> list[Difference]:
    names = task.label_names or []
    unlike = np.asarray(student.predictions) != np.asarray(teacher.predictions)

    def labels(row: Sequence[float]) -> str:
        return ", ".join(name for name, has in zip(names, row, strict=True) if has) or "none"

    def difference(row: int) -> Difference:
        label, said = labels(rows[row]["label"]), _each(teacher, student, lambda of: labels(of.predictions[row]))
        return _made(row, _texts(rows[row]), label, said, _each(teacher, student, lambda of: _sure(of, row)))

    return _in_order(map(difference, np.flatnonzero(unlike.any(axis=1)).tolist()))


@differences.register
def _of_scores(task: Regression, student: Predictions, teacher: Predictions, rows: Dataset) -> list[Difference]:
    found = []
    for row, (one, other) in enumerate(zip(student.predictions, teacher.predictions, strict=True)):
        if one == other:
            continue
        label = float(rows[row]["label"])
        away = float(one) - float(other)
        texts = {**_texts(rows[row]), "difference": f"{away:+.3f}"}
        nearer = "teacher" if abs(other - label) < abs(one - label) else "student"
        said = f"{other:.3f}", f"{one:.3f}"
        found.append(Difference(row + 1, texts, f"{label:.3f}", *said, right=nearer, weight=abs(away)))
    return _in_order(found)


@differences.register
def _of_words(task: TokenClassification, student: Predictions, teacher: Predictions, rows: Dataset) -> list[Difference]:
    names = task.label_names or []
    found, place = [], 0
    for row, (one, other) in enumerate(zip(student.predictions, teacher.predictions, strict=True)):
        for number in [number for number in range(len(one)) if one[number] != other[number]]:
            words = rows[row]["tokens"]
            texts = {"word": words[number], "place": str(number + 1), "sentence": " ".join(words)}
            sure = _sure(teacher, place + number), _sure(student, place + number)
            label = names[rows[row]["tags"][number]]
            found.append(_made(row, texts, label, (other[number], one[number]), sure))
        place += len(one)
    return _in_order(found)


@differences.register
def _of_answers(task: QuestionAnswering, student: Predictions, teacher: Predictions, rows: Dataset) -> list[Difference]:
    found = []
    # Confidences are in the order of the answers.
    places = [{id_: place for place, id_ in enumerate(of.predictions.answers)} for of in (teacher, student)]
    for row, (id_, question, context, answers) in enumerate(
        zip(rows["id"], rows["question"], rows["context"], rows["answers"], strict=True)
    ):
        said = teacher.predictions.answers[id_], student.predictions.answers[id_]
        if exact_match(*said):
            continue
        gold = answers["text"] or [""]
        right = [any(exact_match(answer, one) for one in gold) for answer in said]
        who = {(True, True): "both", (True, False): "teacher", (False, True): "student"}.get((right[0], right[1]))
        texts = {"id": str(id_), "question": question, "context": context}
        label = " | ".join(dict.fromkeys(map(_answer, gold)))
        sure = _sure(teacher, places[0][id_]), _sure(student, places[1][id_])
        found.append(_made(row, texts, label, (_answer(said[0]), _answer(said[1])), sure, who or "neither"))
    return _in_order(found)


def _answer(text: str) -> str:
    return text or "no answer"


def _texts(row: dict[str, Any]) -> dict[str, str]:
    return {name: str(row[name]) for name in ("text", "text_pair") if name in row}


def _each(teacher: Predictions, student: Predictions, of: Callable[[Predictions], T]) -> tuple[T, T]:
    return of(teacher), of(student)


def _sure(of: Predictions, place: int) -> float | None:
    return None if of.confidences is None else float(of.confidences[place])


def _made(
    row: int,
    texts: dict[str, str],
    label: str,
    said: tuple[str, str],
    sure: tuple[float | None, float | None],
    right: str | None = None,
) -> Difference:
    """A difference whose weight is the student's confidence.

    Args:
        said, sure: of teacher and student.
        right: who is [whoever says the label].
    """
    teacher, student = said
    right = right or ("teacher" if label == teacher else "student" if label == student else "neither")
    return Difference(row + 1, texts, label, teacher, student, right, sure[0], sure[1], sure[1] or 0.0)


def _in_order(found: Iterable[Difference]) -> list[Difference]:
    """The heaviest first; of equals, the first row."""
    return sorted(found, key=lambda difference: (-difference.weight, difference.row))
