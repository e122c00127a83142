"""Words and their tags in rows: which columns hold them, and lists of them, also written as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from datasets import Dataset, List, Value

from ...errors import InputError, raise_if_any, shown
from ...wording import listed
from .columns import missing_column, plain_number, row_list, values
from .label_lists import parsed_list

USUAL_WORDS = "tokens"
_USUAL_TAGS = ("ner_tags", "tags", "labels")


def word_columns(rows: Dataset, words: str | None, tags: str | None, split: str) -> tuple[str, str]:
    """The columns of words and tags: those that arguments name or number, or else those with usual names or, where all
    columns are lists of text, as in a CoNLL file, the first that does not number the words and the last.

    Raises:
        InputError: a column is missing, or the words are not in the first.
    """
    found = (
        _by_number(words, rows.column_names) or _usual_words(rows, split),
        _by_number(tags, rows.column_names) or _usual_tags(rows),
    )
    raise_if_any(
        missing_column(split, name, rows.column_names, f"name it with --{role}_column")
        for role, name in zip(("text", "label"), found, strict=True)
        if name not in rows.column_names
    )
    return found


def words_column(rows: Dataset, words: str | None, split: str) -> str:
    """The column of words alone, of rows without tags. Raises `InputError` if it is missing or not the first."""
    found = _by_number(words, rows.column_names) or _usual_words(rows, split)
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
    lists = [[*map(plain_number, row)] if isinstance(row, list) else row for row in lists]
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


def _usual_words(rows: Dataset, split: str) -> str:
    available = rows.column_names
    if _is_universal(available):
        return "FORM"
    return _first_with_words(rows, split) if _is_conll(rows) else USUAL_WORDS


def _usual_tags(rows: Dataset) -> str:
    available = rows.column_names
    if _is_universal(available):
        return "UPOS"
    return available[-1] if _is_conll(rows) else next((name for name in _USUAL_TAGS if name in available), "ner_tags")


def _is_universal(available: Sequence[str]) -> bool:
    """Whether columns are those of Universal Dependencies."""
    return {"FORM", "UPOS"} <= set(available)


def _is_conll(rows: Dataset) -> bool:
    only_lists = all(feature == List(Value("string")) for feature in rows.features.values())
    return only_lists and USUAL_WORDS not in rows.column_names


def _first_with_words(rows: Dataset, split: str) -> str:
    """The first column, or the second if the first numbers the words of each sentence.

    Raises:
        InputError: the first holds something else, such as the name of the document.
    """
    available = rows.column_names
    if len(available) < 3:  # a word and its tag
        return available[0]
    sentences = _longer(rows, available[0])
    if sentences and all(map(_is_count, sentences)):
        return available[1]
    # A word may be repeated, but not in every sentence while another column has different values.
    repeated = len(sentences) > 1 and all(len({*row}) == 1 for row in sentences)
    if repeated and any(len({*row}) > 1 for name in available[1:-1] for row in _longer(rows, name)):
        raise InputError(
            f"{split}: expected words in the first column, got {listed(map(shown, sentences[0]), 3)}; name them with "
            "--text_column"
        )
    return available[0]


def _longer(rows: Dataset, column: str) -> list[list[str | None]]:
    """The lists with two or more items."""
    return [row for row in values(rows, column).to_pylist() if row and len(row) > 1]


def _is_count(row: Sequence[str | None]) -> bool:
    """Whether a list holds the numbers from 0 or 1 on, in their order."""
    return any(row == [str(number) for number in range(first, first + len(row))] for first in (0, 1))


def _by_number(column: str | None, available: Sequence[str]) -> str | None:
    """A column that is named, or counted from 1, or from the end: -1 is the last."""
    if column is None or column in available or not re.fullmatch(r"-?[1-9]\d{0,3}", column):
        return column
    number = int(column)
    found = available[number - 1 if number > 0 else number :][:1]
    return found[0] if found and abs(number) <= len(available) else column
