"""Words and their tags in rows: which columns hold them, and lists of them, also written as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from datasets import Dataset, List, Value

from ...errors import InputError, raise_if_any, shown
from .columns import missing_column, row_list, values
from .label_lists import parsed_list

USUAL_WORDS = "tokens"
_USUAL_TAGS = ("ner_tags", "tags", "labels")


def word_columns(rows: Dataset, words: str | None, tags: str | None, split: str) -> tuple[str, str]:
    """The columns of words and tags: those that arguments name or number, or else those with usual names or, where all
    columns are lists of text, as in a CoNLL file, the first and the last.

    Raises:
        InputError: a column is missing.
    """
    usual_words, usual_tags = _usual_columns(rows)
    found = _by_number(words, rows.column_names) or usual_words, _by_number(tags, rows.column_names) or usual_tags
    raise_if_any(
        missing_column(split, name, rows.column_names, f"name it with --{role}_column")
        for role, name in zip(("text", "label"), found, strict=True)
        if name not in rows.column_names
    )
    return found


def words_column(rows: Dataset, words: str | None, split: str) -> str:
    """The column of words alone, of rows without tags. Raises `InputError` if it is missing."""
    found = _by_number(words, rows.column_names) or _usual_columns(rows)[0]
    if found not in rows.column_names:
        raise InputError(missing_column(split, found, rows.column_names, "name it with --text_column"))
    return found


def read_lists(
    rows: Dataset, column: str, split: str, what: str, is_item: Callable[[Any], bool]
) -> list[list[Any] | None]:
    """A list per row, None where missing; lists may be written as text.

    Args:
        what: they hold, for messages.
        is_item: whether a value may be in a list.

    Raises:
        InputError: other values than lists, or other values in them.
    """
    found = values(rows, column).to_pylist()
    lists = [parsed_list(value) if isinstance(value, str) else value for value in found]
    broken = [
        number
        for number, (value, row) in enumerate(zip(found, lists, strict=True))
        if value is not None and not (isinstance(row, list) and all(map(is_item, row)))
    ]
    if broken:
        raise InputError(
            f"{split}: expected a list of {what}, with one entry per word, in column {column!r}, got "
            f"{shown(found[broken[0]])} in {row_list(broken)}; fix them, or give a conll file, json lines or "
            "parquet with lists"
        )
    return lists


def _usual_columns(rows: Dataset) -> tuple[str, str]:
    available = rows.column_names
    if {"FORM", "UPOS"} <= set(available):  # Universal Dependencies
        return "FORM", "UPOS"
    if USUAL_WORDS not in available and all(feature == List(Value("string")) for feature in rows.features.values()):
        return available[0], available[-1]
    return USUAL_WORDS, next((name for name in _USUAL_TAGS if name in available), _USUAL_TAGS[0])


def _by_number(column: str | None, available: Sequence[str]) -> str | None:
    """A column that is named, or counted from 1, or from the end: -1 is the last."""
    if column is None or column in available or not re.fullmatch(r"-?[1-9]\d{0,3}", column):
        return column
    number = int(column)
    found = available[number - 1 if number > 0 else number :][:1]
    return found[0] if found and abs(number) <= len(available) else column
