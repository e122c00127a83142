"""Which columns hold the texts and the labels: as named by arguments, by the data set, or by habit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pyarrow as pa
from datasets import Dataset, Features, Value

from ...errors import raise_if_any

USUAL_PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("text", "text_pair"),
    ("query", "passage"),
)
USUAL_TEXTS = ("text", "sentence", "sentence1", "question", "review", "content")
USUAL_LABELS = ("label", "labels", "score")


class Columns(NamedTuple):
    """Names of columns; None where they are to be guessed, and for the pair also where there is none."""

    text: str | None
    text_pair: str | None
    label: str | None


def find_columns(available: Sequence[str], named: Columns, split: str) -> Columns:
    """The named columns, and for those not named the ones whose names are usual.

    Raises:
        InputError: a named column is missing, or no column or several have a usual name.
    """
    problems = [
        f"{split}: column {name!r} is missing ({_listed(available)}); name it with --{role}_column"
        for role, column in named._asdict().items()
        for name in (label_columns(column, available) if role == "label" and column else [column])
        if name is not None and name not in available
    ]
    raise_if_any(problems)
    text, text_pair, label = named
    if text is None:
        rest = [name for name in available if name not in (text_pair, label)]
        pairs = [pair for pair in USUAL_PAIRS if text_pair is None and set(pair) <= set(rest)]
        in_pairs = {name for pair in pairs for name in pair}
        singles = [(name, text_pair) for name in USUAL_TEXTS if name in rest and name not in in_pairs]
        candidates = pairs + singles
        if len(candidates) != 1:
            problems.append(_not_unique(split, "text", [text for text, _ in candidates], available))
        else:
            text, text_pair = candidates[0]
    if label is None:
        labels = [name for name in USUAL_LABELS if name in available and name not in (text, text_pair)]
        if len(labels) != 1:
            problems.append(_not_unique(split, "label", labels, available))
        else:
            label = labels[0]
    raise_if_any(problems)
    return Columns(text, text_pair, label)


def label_columns(label: str, available: Sequence[str]) -> list[str]:
    """The columns that a label column stands for: itself, or a, b and c for `a,b,c`."""
    return [label] if label in available else label.split(",")


def _not_unique(split: str, role: str, candidates: Sequence[str], available: Sequence[str]) -> str:
    came = f"{' and '.join(map(repr, candidates))} may all be it" if candidates else "no column has a usual name"
    return f"{split}: which column is the {role}? {came} ({_listed(available)}); name it with --{role}_column"


def _listed(available: Sequence[str]) -> str:
    return f"columns are: {', '.join(available)}"


def values(rows: Dataset, column: str) -> pa.ChunkedArray:
    """A column as Arrow, in the order of the rows."""
    return rows.select_columns([column]).with_format("arrow")[:].column(0)


def with_texts(rows: Dataset, columns: Columns, split: str) -> Dataset:
    """The texts as string columns `text` and, if there is one, `text_pair`; other columns of these names go.

    Numbers and truth values become text, as a csv file cannot tell them from it.

    Raises:
        InputError: a text column holds something else, such as lists.
    """
    new_names = {columns.text: "text"} | ({columns.text_pair: "text_pair"} if columns.text_pair else {})
    problems = [
        f"{split}: column {name!r} holds {rows.features[name]}, text was expected; name another one with --{new}_column"
        for name, new in new_names.items()
        if not _is_text_like(rows.features[name])
    ]
    raise_if_any(problems)
    in_the_way = [name for name in ("text", "text_pair") if name in rows.column_names and name not in new_names]
    rows = rows.remove_columns(in_the_way).rename_columns(new_names)
    others = {name: Value("string") for name in new_names.values() if rows.features[name] != Value("string")}
    return rows.cast(Features({**rows.features, **others})) if others else rows


def _is_text_like(feature: object) -> bool:
    kinds = ("string", "large_string", "int", "uint", "float", "bool", "null")
    return isinstance(feature, Value) and feature.dtype.startswith(kinds)


def with_labels(rows: Dataset, labels: Sequence[object], feature: object) -> Dataset:
    """The rows with `labels` as their column `label`."""
    others = rows.remove_columns("label") if "label" in rows.column_names else rows
    return others.add_column("label", list(labels), feature=feature)


def row_list(numbers: Iterable[int]) -> str:
    """Rows in words: "2 rows (3 and 8)", counted from 1, the first few only."""
    rows = [number + 1 for number in numbers]
    first = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
    return f"{len(rows)} {'row' if len(rows) == 1 else 'rows'} ({first}; the first is 1)"
