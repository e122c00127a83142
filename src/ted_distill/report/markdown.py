"""`report.md`: the sentences and tables of a report, without plots."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..runs.table import markdown_table
from . import bench, tables, texts, words

_MEANT = re.compile(r"([\\`*\[\]<>|&~$]|(?<!\w)_|_(?!\w))")
_TEXT = 300


def markdown(content: Mapping[str, Any]) -> str:
    """The report; the most important things first."""
    parts = [f"# {_escaped(content['title'])}", _escaped(content["sentence"])]
    parts.append("\n".join(f"- {_escaped(sentence)}" for sentence in content["verdicts"]))
    parts += ["## Scores", _table(tables.scores_table(content)), _escaped(texts.about_scores(content))]
    if chosen := texts.how_chosen(content):
        parts.append("\n".join(f"- {_escaped(titles)}: {_escaped(text)}" for titles, text in chosen.items()))
    if searched := tables.chosen_table(content):
        parts.append(_table(searched))
    if pairs := tables.pairs_table(content):
        parts += ["## Which methods can be told apart", _table(pairs)]
    if classes := tables.classes_table(content):
        parts += ["## Scores by class", _table(classes), _escaped(texts.about_classes(content, tables.CLASSES))]
        parts += [_table(mistakes)] if (mistakes := tables.mistakes_table(content)) else []
    if costs := tables.costs_table(content):
        parts += ["## Size and speed", _table(costs), _escaped(texts.about_costs(content))]
    if measured := content["bench"]:
        parts += ["## Formats", _escaped(bench.verdict(measured)), _table(bench.bench_table(measured))]
        parts += [_escaped(bench.about_bench(measured).replace("`", ""))]
    if heads := tables.heads_table(content):
        parts += ["## Filter heads by block", _table(heads), _escaped(texts.about_heads(content))]
    if content["agreement"]:
        parts += ["## Agreement with the teacher", _table(tables.agreement_table(content))]
    if content["disagreements"]:
        parts += ["## Where student and teacher differ", _escaped(texts.about_differences(content))]
        parts += [_rows(content["disagreements"].get("shown", []))]
    parts += ["## How it was made", _facts(content)]
    if content["missing"]:
        parts += ["## What is missing", "\n".join(f"- {_escaped(line)}" for line in content["missing"])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(rows: Sequence[Sequence[str]]) -> str:
    return markdown_table([[_escaped(cell) for cell in row] for row in rows])


def _rows(shown: Sequence[Mapping[str, Any]]) -> str:
    """The rows that differ, as a numbered list."""
    lines = []
    for one in shown:
        said = "; ".join(f"{name}: {_escaped(words.cut(value, _TEXT))}" for name, value in texts.difference_line(one))
        read = " / ".join(_escaped(words.cut(text, _TEXT)) for text in one["texts"].values())
        lines.append(f"- row {one['row']}: {read}  \n  {said}")
    return "\n".join(lines)


def _facts(content: Mapping[str, Any]) -> str:
    found = content["facts"]
    parts = [_table([["", ""], *tables.facts_table(content)[1:]])]
    if found["commands"]:
        parts.append("Commands:\n\n" + _block("\n".join(found["commands"]), ""))
    if found["recipe"]:
        parts.append("Recipe:\n\n" + _block(found["recipe"], "yaml"))
    return "\n\n".join(parts)


def _block(text: str, language: str) -> str:
    """A block of code, in fences longer than any in the text."""
    longest = max((len(fence) for fence in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.strip()}\n{fence}"


def _escaped(text: str) -> str:
    """A text in one line in which nothing is taken for Markdown or HTML."""
    return _MEANT.sub(r"\\\1", " ".join(text.split()))
