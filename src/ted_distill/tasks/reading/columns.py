"""Which columns hold the texts and the labels: as arguments name them, as the data set does, or as is usual."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, Value

from ...errors import InputError, did_you_mean, near_names, raise_if_any, shown
from ...identity import fingerprint
from ...wording import and_list, counted, listed

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


class TextColumns(NamedTuple):
    """Names of columns; None for those to be guessed, and for a pair that does not exist."""

    text: str | None
    text_pair: str | None
    label: str | None


def find_columns(available: Sequence[str], named: TextColumns, split: str, check_label: bool = True) -> TextColumns:
    """The named columns; in place of those not named, the ones with usual names.

    Args:
        check_label: False if the label is a pattern that names several columns.

    Raises:
        InputError: a named column is missing, or not exactly one column has a usual name.
    """
    problems = [
        missing_column(split, name, available, f"name it with --{role}_column")
        for role, column in named._asdict().items()
        for name in (label_columns(column, available) if role == "label" and column else [column])
        if name is not None and name not in available and (check_label or role != "label")
    ]
    if named.text is not None and named.text == named.text_pair:
        problems.append(
            f"{split}: expected two columns for the text and its pair, got {shown(named.text)} twice; name another "
            "with --text_pair_column, or leave that out"
        )
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
    return TextColumns(text, text_pair, label)


def text_names(named: TextColumns) -> set[str]:
    """Names that columns of text may have: those given, and where none is the usual ones."""
    usual = {*USUAL_TEXTS, *(name for pair in USUAL_PAIRS for name in pair)} if named.text is None else set()
    return {name for name in (named.text, named.text_pair) if name} | (usual - {named.label})


def label_columns(label: str, available: Sequence[str]) -> list[str]:
    """The columns that a label column names: itself, or a, b and c for `a,b,c`; with or without blanks around them."""
    if label in available or "," not in label:
        return [label]
    known = {name.strip(): name for name in reversed(available)} | {name: name for name in available}
    parts, found = label.split(","), []
    most = 1 + max(name.count(",") for name in known)
    while parts:
        # A name may have commas itself: of the names that come next the longest one is meant.
        names = {number: ",".join(parts[:number]) for number in range(min(most, len(parts)), 0, -1)}
        number = next((number for number, name in names.items() if name in known or name.strip() in known), 1)
        found.append(known.get(names[number], known.get(names[number].strip(), names[number].strip())))
        parts = parts[number:]
    return found


def plain_name(name: str) -> str:
    """The name of a class without blanks around it, in one Unicode form: letters with accents are one character."""
    return unicodedata.normalize("NFC", name).strip()


def distinct_names(names: Sequence[str], where: str) -> list[str]:
    """Names of classes as `plain_name` gives them. Raises `InputError` if two are then the same."""
    found = [*map(plain_name, names)]
    if len(set(found)) < len(found):
        twice = next(name for place, name in enumerate(found) if name in found[:place])
        raise InputError(
            f"{where}: expected different names of classes, got {shown(twice)} twice; rename or remove one (blanks "
            "around a name and its Unicode form do not count)"
        )
    return found


def _not_unique(split: str, role: str, candidates: Sequence[str], available: Sequence[str]) -> str:
    return (
        f"{split}: expected one column with a usual name for the {role}, got "
        f"{and_list([*map(shown, candidates)]) or 'none'} (columns: {listed(available)}); name it with --{role}_column"
    )


def values(rows: Dataset, column: str) -> pa.ChunkedArray:
    """A column as Arrow, in the order of the rows."""
    # Unless rows were selected or shuffled they are in memory in this order, and the long way takes ten times as long.
    if rows._indices is None:
        return rows.data.column(column)
    return rows.select_columns([column]).with_format("arrow")[:].column(0)


def plain_number(value: Any) -> Any:
    """A finite decimal number, as Spark and SQL write them, as the `int` or `float` that it is; any other value as it
    is.
    """
    if not isinstance(value, Decimal) or not value.is_finite():
        return value
    return int(value) if value == value.to_integral_value() else float(value)


def with_texts(rows: Dataset, columns: TextColumns, split: str) -> Dataset:
    """The texts as string columns `text` and, for pairs, `text_pair`; other columns of these names are removed.

    Numbers and truth values become text, as a csv file does not tell them apart.

    Raises:
        InputError: a text column holds anything else, such as lists.
    """
    new_names = {columns.text: "text"} | ({columns.text_pair: "text_pair"} if columns.text_pair else {})
    problems = [
        f"{split}: expected text in column {name!r}, got {shown(rows.features[name])}; name another with --{new}_column"
        for name, new in new_names.items()
        if not is_text_like(rows.features[name])
    ]
    raise_if_any(problems)
    rows = _with_finite_numbers(rows, map(str, new_names), split)
    in_the_way = [name for name in ("text", "text_pair") if name in rows.column_names and name not in new_names]
    rows = rows.remove_columns(in_the_way).rename_columns(new_names)
    others = {name: Value("string") for name in new_names.values() if rows.features[name] != Value("string")}
    return rows.cast(Features({**rows.features, **others})) if others else rows


def _with_finite_numbers(rows: Dataset, names: Iterable[str], split: str) -> Dataset:
    """The rows with null for NaN, a missing number, in text columns. Raises `InputError` for infinity."""
    for name in names:
        if not pa.types.is_floating(rows.features[name].pa_type):
            continue
        column = values(rows, name).cast(pa.float64())
        if infinite := np.flatnonzero(pc.fill_null(pc.is_inf(column), False).to_numpy()).tolist():
            raise InputError(
                f"{split}: expected text in column {name!r}, got infinity in {row_list(infinite)}; fix or remove them"
            )
        if pc.any(pc.is_nan(column)).as_py():
            present = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
            rows = rows.remove_columns(name).add_column(name, present.to_pylist(), feature=Value("float64"))
    return rows


def is_text_like(feature: object) -> bool:
    """Whether a column holds text, or numbers or truth values that can be written as text."""
    kinds = ("string", "large_string", "int", "uint", "float", "bool", "null")
    return isinstance(feature, Value) and feature.dtype.startswith(kinds)


def with_labels(rows: Dataset, labels: Sequence[object], feature: object) -> Dataset:
    """The rows with `labels` as their column `label`."""
    others = rows.remove_columns("label") if "label" in rows.column_names else rows
    column = list(labels)
    # `datasets` would pickle the column to name the rows after it, which takes ten times as long.
    named = fingerprint([others._fingerprint, str(feature), column])[:32]
    return others.add_column("label", column, feature=feature, new_fingerprint=named)


# --- words of messages ----------------------------------------------------------------------------------------


def missing_column(split: str, name: str, available: Sequence[str], what_to_do: str) -> str:
    """The problem that a column is missing."""
    near = did_you_mean(near_names(name, available))
    then = f"{near} Otherwise" if near else ";"
    return f"{split}: expected a column {shown(name)}, got columns {listed(available)}{then} {what_to_do}"


_rows_of_file: ContextVar[Sequence[int] | None] = ContextVar("rows of the file", default=None)


@contextmanager
def numbered(rows_of_file: Sequence[int] | None) -> Iterator[None]:
    """Rows that messages name inside are some of a file: each has its number there, counted from 0 [its place]."""
    token = _rows_of_file.set(rows_of_file)
    try:
        yield
    finally:
        _rows_of_file.reset(token)


def row_number(place: int) -> int:
    """The number of a row in its file, counted from 1."""
    rows = _rows_of_file.get()
    return 1 + (place if rows is None else rows[place])


def row_list(numbers: Iterable[int]) -> str:
    """Rows by number: "2 rows (3, 8; counted from 1)", the first five only."""
    rows = [str(row_number(number)) for number in numbers]
    return f"{counted(len(rows), 'row')} ({listed(rows, 5)}; counted from 1)"
