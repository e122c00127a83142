"""Which classes a model knows: the F1 of each, and the mistakes that are made most often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import Any

import numpy as np
from datasets import Dataset

from ..runs.kept_predictions import Predictions
from ..tasks import Task
from ..tasks.multi_label_classification import MultiLabelClassification
from ..tasks.regression import Regression
from ..tasks.sequence_classification import SequenceClassification
from ..tasks.token_classification import TokenClassification
from .folders import Reported
from .standings import Standing, best_student

_MISTAKES = 10
"""How many kinds of mistakes are listed."""


def by_class(
    reported: Reported, found: Sequence[Standing], predictions: Mapping[str, Predictions]
) -> dict[str, Any] | None:
    """The F1 of each model by class, in percent, and the mistakes of the best student, as `report.json` has them.

    Returns:
        None for tasks without classes, and without predictions.
    """
    task, shown = reported.task, [one for one in found if one.role in ("teacher", "method") and one.name in predictions]
    if task is None or not shown:
        return None
    rows = task.rows[predictions[shown[0].name].split]
    scores = {one.name: class_scores(task, predictions[one.name].predictions, rows) for one in shown}
    first = scores[shown[0].name]
    if not first:
        return None
    best = best_student(found, reported.lower_is_better)
    kinds = _mistakes(task, rows, predictions, best.name) if best is not None and best.name in predictions else []
    unit = ("entities" if task.has_entities else "words") if isinstance(task, TokenClassification) else "rows"
    return {
        "unit": unit,
        "classes": [{"name": name, "rows": count} for name, (count, _) in first.items()],
        "models": [{"name": one.name, "title": one.title, "f1": _second(scores[one.name] or {})} for one in shown],
        "model": None if best is None else best.title,
        "mistakes": kinds,
    }


def _second(found: Mapping[str, tuple[int, float]]) -> dict[str, float]:
    return {name: f1 for name, (_, f1) in found.items()}


@singledispatch
def class_scores(task: Task, predictions: Any, rows: Dataset) -> dict[str, tuple[int, float]] | None:
    """Class -> how many rows, words or entities have it, and its F1 in percent; None for tasks without classes."""
    return None


@class_scores.register
def _of_rows(task: SequenceClassification, predictions: Any, rows: Dataset) -> dict[str, tuple[int, float]]:
    names, classes = task.label_names or [], np.arange(len(task.label_names or []))
    return _f1(names, np.asarray(rows["label"])[:, None] == classes, np.asarray(predictions)[:, None] == classes)


@class_scores.register
def _of_numbers(task: Regression, predictions: Any, rows: Dataset) -> None:
    return None


@class_scores.register
def _of_label_sets(task: MultiLabelClassification, predictions: Any, rows: Dataset) -> dict[str, tuple[int, float]]:
    return _f1(task.label_names or [], np.asarray(rows["label"]) > 0, np.asarray(predictions) > 0)


@class_scores.register
def _of_words(task: TokenClassification, predictions: Any, rows: Dataset) -> dict[str, tuple[int, float]]:
    names = task.label_names or []
    gold = [[names[tag] for tag in row] for row in rows["tags"]]
    if task.has_entities:
        # Here, since scikit-learn takes a second to import.
        from seqeval.metrics import classification_report

        parts = task.entity_parts(gold), task.entity_parts(predictions)
        found = classification_report(*parts, output_dict=True, zero_division=0)
        return {
            name: (int(of["support"]), 100 * float(of["f1-score"]))
            for name, of in found.items()
            if not name.endswith(" avg")
        }
    all_gold, all_found = (np.array([tag for row in of for tag in row])[:, None] for of in (gold, predictions))
    return _f1(names, all_gold == np.array(names), all_found == np.array(names))


def _f1(names: Sequence[str], gold: np.ndarray, found: np.ndarray) -> dict[str, tuple[int, float]]:
    """From two tables (rows, classes) of what has which class; a class that is nowhere has 0."""
    right, of_gold, of_found = (part.sum(axis=0) for part in (gold & found, gold, found))
    scores = 200 * right / np.maximum(of_gold + of_found, 1)
    return {name: (int(count), float(f1)) for name, count, f1 in zip(names, of_gold, scores, strict=True)}


def _mistakes(task: Task, rows: Dataset, predictions: Mapping[str, Predictions], best: str) -> list[dict[str, Any]]:
    """The kinds of mistakes of a student, most frequent first, with how often the teacher makes them."""
    if not isinstance(task, SequenceClassification) or isinstance(task, (MultiLabelClassification, Regression)):
        return []
    names = task.label_names or []
    labels = np.asarray(rows["label"]).tolist()
    made = {
        name: Counter(zip(labels, np.asarray(predictions[name].predictions).tolist(), strict=True))
        for name in {"teacher", best} & predictions.keys()
    }
    wrong = [(pair, count) for pair, count in sorted(made[best].items()) if pair[0] != pair[1]]
    return [
        {
            "label": names[label],
            "predicted": names[said],
            "student": count,
            "teacher": made["teacher"][label, said] if "teacher" in made else None,
        }
        for (label, said), count in sorted(wrong, key=lambda one: -one[1])[:_MISTAKES]
    ]
