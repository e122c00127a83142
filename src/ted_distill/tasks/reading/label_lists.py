"""Several labels in one field of text -> lists: written by JSON, Python or numpy, or with a separator between them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from ...errors import InputError, shown
from .columns import row_list

SEPARATORS = "|;,"
"""Those that are looked for, in this order: names with commas in them are usual, names with a bar are not. A blank is
one where all labels are whole numbers."""

_ARRAY = re.compile(r"array\((\[.*\])(?:,\s*dtype=[^()]+)?\)", re.DOTALL)
_NUMPY_SCALAR = re.compile(r"""\bnp\.\w+\(((?:'[^']*'|"[^"]*"|[^()'"]*))\)""")
_ITEM = re.compile(r"""\s*(?:('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|([^\s,'"\[\](){}]+))\s*(,?)""", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d{1,18}\.?\d*|\.\d+)", re.ASCII)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4}|.)", re.DOTALL)
_CONTROL = {"n": "\n", "r": "\r", "t": "\t"}
_CONSTANTS = {"True": True, "False": False, "None": None, "nan": None}
_NUMBERS = re.compile(r"\d+( +\d+)*", re.ASCII)
_PAIRS = {"[": "]", "(": ")", "{": "}"}


def split_fields(fields: Sequence[Any], column: str, split: str, separator: str | None) -> list[Any]:
    """The fields with a list in place of each text; other values as they are.

    Args:
        separator: what is between labels [lists in brackets if there are any, else the first of `SEPARATORS` that is
            in a field].

    Raises:
        InputError: a field is no list although others are, or two separators are possible.
    """
    if separator is None and _have_lists(fields):
        return _parsed_fields(fields, column, split)
    separator = separator or find_separator(fields, column, split) or ","
    return [field.split(separator) if isinstance(field, str) else field for field in fields]


def find_separator(fields: Sequence[Any], column: str, split: str) -> str | None:
    """The separator of these fields, None if they have none. Raises `InputError` if it is one of two."""
    texts = [] if _have_lists(fields) else [field for field in fields if isinstance(field, str)]
    found = [separator for separator in SEPARATORS if any(separator in text for text in texts)]
    if set("|;") <= set(found):
        raise InputError(
            f"{split}: expected one separator between labels in column {column!r}, got | and ; in its fields; name the "
            "right one with --label_separator"
        )
    return found[0] if found else " " if blank_between_numbers(texts) else None


def blank_between_numbers(texts: Sequence[str]) -> bool:
    """Whether all texts are whole numbers, some several with blanks between them.

    No name of a class is a few whole numbers; a name in words may well have blanks.
    """
    filled = [text.strip() for text in texts if text.strip()]
    return all(map(_NUMBERS.fullmatch, filled)) and any(" " in text for text in filled)


def parsed_list(text: str) -> list[Any] | None:
    """The list that a text is in the notation of JSON, Python (also a tuple or set) or numpy; None for other text."""
    text = text.strip()
    if array := _ARRAY.fullmatch(text):
        text = array[1]
    if _PAIRS.get(text[:1]) != text[-1:] or len(text) < 2:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return _items(_NUMPY_SCALAR.sub(r"\1", text[1:-1]))
    return found if isinstance(found, list) else None


def _items(text: str) -> list[Any] | None:
    """Items between commas, as Python writes them, or between blanks, as numpy does."""
    found: list[tuple[Any, bool, bool]] = []  # item, is a word without quotes, has a comma after it
    text, place = text.strip(), 0
    while place < len(text):
        match = _ITEM.match(text, place)
        if match is None:
            return None
        item = _unquoted(match[1]) if match[1] else _bare(match[2])
        found.append((item, not match[1] and isinstance(item, str), bool(match[3])))
        place = match.end()
    commas = {comma for _, _, comma in found[:-1]}
    # Words without quotes and commas are a sentence, or an array that numpy cut short with dots.
    if len(commas) > 1 or (commas == {False} and any(is_word for _, is_word, _ in found)):
        return None
    return [item for item, _, _ in found]


def _unquoted(text: str) -> str:
    def character(escape: re.Match[str]) -> str:
        code = escape[1]
        return chr(int(code[1:], 16)) if len(code) > 1 else _CONTROL.get(code, code)

    return _ESCAPE.sub(character, text[1:-1])


def _bare(text: str) -> Any:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if not _NUMBER.fullmatch(text):
        return text
    return int(text) if text.lstrip("+-").isdigit() else float(text)


def _have_lists(fields: Sequence[Any]) -> bool:
    texts = (field.strip() for field in fields if isinstance(field, str))
    return any(text.startswith("[") or parsed_list(text) is not None for text in texts if text)


def _parsed_fields(fields: Sequence[Any], column: str, split: str) -> list[Any]:
    found: list[Any] = [
        ([] if not field.strip() else parsed_list(field)) if isinstance(field, str) else field for field in fields
    ]
    broken = [number for number, field in enumerate(fields) if isinstance(field, str) and found[number] is None]
    if broken:
        raise InputError(
            f'{split}: expected lists of labels in column {column!r}, such as ["a", "b"], as other rows have, got '
            f"{shown(fields[broken[0]])} in {row_list(broken)}; fix them, or name what is between labels with "
            "--label_separator"
        )
    return found
