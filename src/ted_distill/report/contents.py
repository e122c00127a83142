"""All that a report says, as plain values: `report.json`, which the Markdown and the page are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..errors import InputError
from ..runs.kept_predictions import Predictions
from ..training.scores.selection import described
from ..training.shown.history import HISTORY_NAME
from .bench import read_bench_of
from .by_class import by_class
from .curves import curves, read_history
from .differences import Difference, differences, why_none
from .facts import facts
from .filter_heads import read_filter_heads, uninformed
from .folders import Reported
from .standings import Standing, best_student, interval_name, standings
from .verdict import sentence, split_name, verdicts

_SHOWN = 36
"""How many differing rows the page shows."""


def contents(
    reported: Reported,
    predictions: Mapping[str, Predictions],
    costs: Mapping[str, Any],
    different: Mapping[str, Sequence[Difference] | None],
) -> dict[str, Any]:
    """The whole report."""
    found = standings(reported, predictions)
    task = reported.task
    split = next(iter(predictions.values())).split if predictions else None
    rows = len(task.rows[split]) if task and split else _rows(reported)
    content = {
        "title": _title(reported),
        "kind": "run" if reported.comparison is None else "comparison",
        "sentence": sentence(reported, found, costs, rows),
        "verdicts": verdicts(reported, found, costs),
        "scores": {
            "metric": reported.metric,
            "lower_is_better": reported.lower_is_better,
            "rows": split_name(reported),
            "interval": interval_name(reported),
            "seeds": reported.comparison.seeds if reported.comparison else [],
            "models": [asdict(one) for one in found],
            "chosen": _chosen(reported, found),
        },
        "by_class": by_class(reported, found, predictions),
        "comparisons": reported.comparison.comparisons if reported.comparison else [],
        "costs": {name: costs.get(name) for name in ("models", "speed")},
        "bench": read_bench_of(reported),
        "filter_heads": _filter_heads(reported),
        "curves": _curves(reported, found),
        "agreement": _agreement(reported, found, predictions),
        "disagreements": _disagreements(reported, found, different, predictions),
        "facts": {**facts(reported), "date": costs.get("date"), "hardware": costs.get("hardware")},
    }
    return content | {"missing": list(dict.fromkeys(reported.missing))}


def _title(reported: Reported) -> str:
    """The name of the run's folder, which a comparison is in."""
    name = reported.shared.resolve().name
    return name if reported.comparison is None else f"{name}: comparison"


def _rows(reported: Reported) -> int | None:
    """How many rows the results say they were scored on."""
    splits = next(iter(reported.results.values()), {}).get("scored_on", {})
    known = splits.get("test") or splits.get("validation") or {}
    return known.get("rows") if isinstance(known.get("rows"), int) else None


def _chosen(reported: Reported, found: Sequence[Standing]) -> dict[str, str]:
    """On which rows the weights of each model were chosen, by title."""
    said = {one.title: " ".join(described(reported.results.get(one.name, {}))).replace("`", "") for one in found}
    return {title: text for title, text in said.items() if text}


def _filter_heads(reported: Reported) -> dict[str, Any] | None:
    """Scores of Stage I's heads by block; None if there was no Stage I."""
    folders = reported.stage_folders()
    heads = [
        found
        for owner in ("teacher", "student")
        if (folder := folders.get(f"learn_filters_{owner}")) and (found := read_filter_heads(folder, owner))
    ]
    if not heads:
        return None
    return {
        "metric": heads[0].metric,
        "models": [asdict(one) for one in heads],
        "uninformed": uninformed(reported.task),
    }


def _curves(reported: Reported, found: Sequence[Standing]) -> dict[str, Any]:
    """Curves of each training by its title."""
    titles = {"finetune_teacher": "teacher, fine-tuning", "finetune_student": "student, fine-tuning"}
    titles |= {one.name: one.title for one in found if one.role == "method"}
    drawn, lacking = {}, []
    for name, folder in reported.stage_folders().items():
        if name not in titles:
            continue
        history = read_history(folder / HISTORY_NAME)
        if history:
            drawn[titles[name]] = {"name": name, **curves(history, reported.metric)}
        elif (folder / "stage.json").is_file():
            lacking.append(titles[name])
    if lacking:
        reported.missing.append(f"No curves of {', '.join(lacking)}: there is no {HISTORY_NAME} in the folder.")
    return drawn


def _agreement(
    reported: Reported, found: Sequence[Standing], predictions: Mapping[str, Predictions]
) -> list[dict[str, Any]]:
    """How often each student predicts what the teacher does."""
    teacher, task = predictions.get("teacher"), reported.task
    if teacher is None or task is None:
        return []
    agreed = []
    for one in found:
        if one.name == "teacher" or one.name not in predictions:
            continue
        try:
            scores = task.agreement(predictions[one.name].predictions, teacher.predictions)
        except (InputError, ValueError) as error:  # models with different tokens, say
            reported.missing.append(f"Agreement of {one.title} with the teacher: {error}")
            continue
        agreed.append({"name": one.name, "title": one.title, "scores": scores})
    return agreed


def _disagreements(
    reported: Reported,
    found: Sequence[Standing],
    different: Mapping[str, Sequence[Difference] | None],
    predictions: Mapping[str, Predictions],
) -> dict[str, Any] | None:
    """The first rows where the best student and the teacher differ; None without predictions."""
    best = best_student(found, reported.lower_is_better)
    if best is None or best.name not in different or reported.task is None:
        return None
    rows = different[best.name]
    if rows is None:
        return {"model": best.title, "why_none": why_none(reported.task)}
    return {
        "model": best.title,
        "count": len(rows),
        "right": dict(sorted(Counter(one.right for one in rows if one.right).items())),
        "counted": {name: len(of or []) for name, of in different.items()},
        "shown": [{key: value for key, value in asdict(one).items() if key != "weight"} for one in rows[:_SHOWN]],
    }


def all_differences(reported: Reported, predictions: Mapping[str, Predictions]) -> dict[str, list[Difference] | None]:
    """The differences of each student from the teacher, by name."""
    teacher, task = predictions.get("teacher"), reported.task
    if teacher is None or task is None:
        return {}
    students = [name for name in predictions if name != "teacher"]
    return {name: differences(task, predictions[name], teacher, task.rows[teacher.split]) for name in students}
