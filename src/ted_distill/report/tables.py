"""The tables of a report as rows of cells, the first row being the header; Markdown and page show the same ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..runs.compare.verdicts import larger_p
from ..runs.table import shown_score, shown_seconds
from ..wording import digits, parameters, size
from . import texts, words

Table = list[list[str]]
CLASSES = 40
"""How many classes are shown; `report.json` has all."""


def scores_table(content: Mapping[str, Any]) -> Table:
    """Each model's main score with its interval, further scores, share of the gap, parameters, seconds."""
    scores, models = content["scores"], content["scores"]["models"]
    sizes = (content["costs"] or {}).get("models") or {}
    others = list(dict.fromkeys(name for one in models for name in one["others"]))
    several = content["kind"] == "comparison"
    head = ["model", scores["metric"], *(["std. dev."] if several else []), "interval", "gap closed", *others]
    columns = [head + ["parameters", "seconds"]]
    for one in models:
        found = sizes.get(one["name"], {})
        columns.append(
            [
                one["title"],
                words.score(one["score"]),
                *([words.score(one["deviation"])] if several else []),
                words.interval(one["interval"]),
                words.percent(one["gap_closed"]),
                *(shown_score(name, one["others"].get(name)) for name in others),
                parameters(found.get("parameters")),
                _seconds(one),
            ]
        )
    return without_empty(columns)


def _seconds(one: Mapping[str, Any]) -> str:
    if not one["seconds"]:
        return ""
    return shown_seconds(one["seconds"], one.get("search_seconds"), one.get("stage_one_seconds"))


def pairs_table(content: Mapping[str, Any]) -> Table:
    """Pairs of methods of a comparison: the difference, its interval, and whether it is one."""
    titles = {one["name"]: one["title"] for one in content["scores"]["models"]}
    rows = [["better", "worse", "difference", "interval", "p (Holm)", "told apart"]]
    for pair in content["comparisons"]:
        named = [titles.get(str(pair.get(key)), str(pair.get(key))) for key in ("better", "worse")]
        p = larger_p(pair)
        rows.append(
            [
                *named,
                words.score(pair.get("difference")),
                words.interval(pair.get("interval")),
                "" if p is None else f"{p:.3f}",
                "yes" if pair.get("told_apart") else "no",
            ]
        )
    return without_empty(rows) if content["comparisons"] else []


def chosen_table(content: Mapping[str, Any]) -> Table:
    """What a search chose for each method."""
    rows = [[one["title"], one["note"]] for one in content["scores"]["models"] if one["note"]]
    return [["method", "chosen by the search"], *rows] if rows else []


def classes_table(content: Mapping[str, Any]) -> Table:
    """The F1 of each class, the most frequent ones first."""
    found = content["by_class"]
    if not found:
        return []
    classes = sorted(found["classes"], key=lambda one: -one["rows"])[:CLASSES]
    rows = [["class", found["unit"], *(f"{one['title']}, F1" for one in found["models"])]]
    for one in classes:
        scores = [words.score(model["f1"].get(one["name"])) for model in found["models"]]
        rows.append([one["name"], f"{one['rows']:,}", *scores])
    return rows


def mistakes_table(content: Mapping[str, Any]) -> Table:
    """The most frequent mistakes of the best student, and how often the teacher makes them."""
    found = content["by_class"]
    if not found or not found["mistakes"]:
        return []
    rows = [["label", "taken for", f"by {found['model']}", "by the teacher"]]
    for one in found["mistakes"]:
        times = ["" if one[name] is None else f"{one[name]:,}" for name in ("student", "teacher")]
        rows.append([one["label"], one["predicted"], *times])
    return without_empty(rows)


def costs_table(content: Mapping[str, Any]) -> Table:
    """Size and speed of each model."""
    found = (content["costs"] or {}).get("models") or {}
    rows = [["model", "blocks", "parameters", "in embeddings", "weights on disk", f"{texts.unit(content)}s a second"]]
    for one in content["scores"]["models"]:
        of = found.get(one["name"])
        if of:
            rows.append(
                [
                    one["title"],
                    str(of.get("blocks") or ""),
                    parameters(of["parameters"]),
                    parameters(of["embedding_parameters"]),
                    size(of["bytes"]),
                    digits(of["rows_per_second"]),
                ]
            )
    return without_empty(rows) if len(rows) > 1 else []


def heads_table(content: Mapping[str, Any]) -> Table:
    """The scores of Stage I's filter heads, by block."""
    heads = content["filter_heads"]
    if not heads:
        return []
    owners = heads["models"]
    blocks = sorted({int(block) for one in owners for block in one["blocks"]})
    rows = [["block", *(one["owner"] for one in owners)]]
    rows += [[str(block), *(words.score(one["blocks"].get(str(block))) for one in owners)] for block in blocks]
    whole = [words.score(one["whole_model"]) for one in owners]
    return rows + ([["whole model", *whole]] if any(whole) else [])


def agreement_table(content: Mapping[str, Any]) -> Table:
    """How far each student agrees with the teacher."""
    agreed = content["agreement"]
    names = list(dict.fromkeys(name for one in agreed for name in one["scores"]))
    counted = (content["disagreements"] or {}).get("counted", {})
    rows = [["student", *(name.replace("_", " ") for name in names), "differences"]]
    for one in agreed:
        count = counted.get(one["name"])
        rows.append(
            [
                one["title"],
                *(words.score(one["scores"].get(name)) for name in names),
                f"{count:,}" if count is not None and "why_none" not in content["disagreements"] else "",
            ]
        )
    return without_empty(rows) if agreed else []


def facts_table(content: Mapping[str, Any]) -> Table:
    """Date, hardware and versions."""
    found, hardware = content["facts"], content["facts"].get("hardware") or {}
    memory = hardware.get("memory_gib")
    rows = [
        ["date", found.get("date")],
        ["processor", hardware.get("processor")],
        ["cores", hardware.get("cores")],
        ["memory", f"{memory} GiB" if memory else None],
        ["GPU", hardware.get("gpu") or ("none" if hardware else None)],
        ["system", hardware.get("system")],
        *found["versions"].items(),
    ]
    return [["", ""], *([str(name), str(value)] for name, value in rows if value)]


def without_empty(rows: Sequence[Sequence[str]]) -> Table:
    """The columns that are not empty below the header."""
    kept = [column for column in range(len(rows[0])) if any(row[column] for row in rows[1:])]
    return [[row[column] for column in kept] for row in rows]
