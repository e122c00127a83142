"""The sentences between the tables of a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..wording import and_list, counted, told_together
from . import words


def unit(content: Mapping[str, Any]) -> str:
    """What speed is counted in: rows, or blocks of a running text."""
    return str(((content["costs"] or {}).get("speed") or {}).get("unit", "row"))


def about_scores(content: Mapping[str, Any]) -> str:
    """What the columns of the table of scores are."""
    scores, several = content["scores"], content["kind"] == "comparison"
    models = scores["models"]
    said = [f"Scores are {scores['metric']} on {scores['rows']}{'; lower is better' * scores['lower_is_better']}."]
    if any(one["interval"] for one in models):
        said.append(f"Interval: {scores['interval']}.")
    if not several and any(one["interval"] for one in models):
        said.append("It says what other rows might have given, and nothing of what another seed might have.")
    if any(one["gap_closed"] is not None for one in models):
        said.append("Gap closed: 0 % is the student trained on the labels alone, 100 % is the teacher.")
    elif not several and any(one["interval"] for one in models):
        said.append("These rows show no gap between the student alone and the teacher, so no share of it is given.")
    if any(one["seconds"] for one in models):
        searched = any(one.get("search_seconds") for one in models)
        more = ["of the search for the learning rate"] * searched
        more += ["of Stage I"] * any(one.get("stage_one_seconds") for one in models)
        beside = f", with those {and_list(more)} beside them" if more else ""
        said.append(f"Seconds are those of training{beside}.")
    if several:
        seeds = ", ".join(map(str, scores["seeds"]))
        said.append(f"Methods have the mean over the seeds {seeds}.")
    return " ".join(said)


def how_chosen(content: Mapping[str, Any]) -> dict[str, str]:
    """How the weights of models were chosen, by their titles: of those chosen alike it is said once."""
    return told_together(content["scores"]["chosen"])


def about_classes(content: Mapping[str, Any], most: int) -> str:
    """What the table of classes and that of mistakes are.

    Args:
        most: how many classes are shown.
    """
    found = content["by_class"]
    said = f"Each model's F1 of each class, in percent, on the rows above{_of_seed(content)}."
    if len(found["classes"]) > most:
        said += f" The {most} most frequent of {len(found['classes']):,} are shown; report.json has all."
    if found["mistakes"]:
        said += f" Then the mistakes that {found['model']} makes most often."
    return said


def about_costs(content: Mapping[str, Any]) -> str:
    """How speed was measured."""
    how, hardware = content["costs"].get("speed"), content["facts"].get("hardware") or {}
    if not how:
        return "Speed was not measured."
    where = "the GPU" if how["device"] == "cuda" else f"{hardware.get('processor') or 'the processor'}"
    threads = "" if how["device"] == "cuda" else f", {counted(how['threads'], 'thread')}"
    kind = {"no": "float32"}.get(how["precision"], how["precision"])
    return (
        f"Speed was measured when this report was first made, not during the run: the median of {how['passes']} "
        f"alternating forward passes over {counted(how['rows'], unit(content))} in batches of "
        f"{how['batch_size']}, in {kind} on {where}{threads}. Models of one shape share a measurement."
    )


def about_heads(content: Mapping[str, Any]) -> str:
    """What the scores of filter heads are."""
    known = content["filter_heads"]["uninformed"]
    metric = content["filter_heads"]["metric"]
    said = (
        f"Stage I trains a small head on the filtered states of each block: its {metric} on the validation rows says "
        "how much of the task that block knows. These are scores of heads that are thrown away, not of a model."
    )
    if known is None:
        return said
    return f"{said} A predictor that says the same of every row reaches {words.score(known)}."


def about_differences(content: Mapping[str, Any]) -> str:
    """How many rows differ, and who is right there."""
    found = content["disagreements"]
    if "why_none" in found:
        return str(found["why_none"])
    if not found["count"]:
        return f"{words.capital(found['model'])} and the teacher predict the same everywhere."
    first = found["shown"][0]["texts"]
    what = "word" if "word" in first else "question" if "question" in first else "row"
    right = "nearer to the label" if "difference" in first else "right"
    names = {"student": "the student is", "teacher": "the teacher is", "both": "both are", "neither": "neither is"}
    counts = [f"{names[name]} {right} on {found['right'][name]:,}" for name in names if name in found["right"]]
    where = f"{words.capital(found['model'])}{_of_seed(content)}"
    said = f"{where} and the teacher differ on {counted(found['count'], what)}"
    said += f": {and_list(counts)}." if counts else "."
    order = "by how far apart they are" if "difference" in first else "by how sure the student is"
    shown = len(found["shown"])
    more = f"The first {shown} are shown" if found["count"] > shown else "They are shown"
    return f"{said} {more}, ordered {order}; disagreements.csv has all of every student."


def about_curves(content: Mapping[str, Any]) -> str:
    """What the curves are."""
    said = "Loss terms are shown before they are weighted; the loss is their weighted sum."
    seed = _of_seed(content).strip(" ()")
    return f"Curves are those of {seed}. {said}" if seed else said


def _of_seed(content: Mapping[str, Any]) -> str:
    """` (seed 1)` in a comparison, whose models and rows are those of the first seed."""
    seeds = content["scores"]["seeds"]
    return f" (seed {seeds[0]})" if content["kind"] == "comparison" and seeds else ""


def difference_line(one: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, value) of a row's label and predictions."""
    found = [("label", one["label"])]
    for name in ("teacher", "student"):
        sure = one[f"{name}_confidence"]
        found.append((name, one[name] + ("" if sure is None else f" ({100 * sure:.0f} %)")))
    return found
