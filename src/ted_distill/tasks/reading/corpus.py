"""All texts of data files, whatever they are for: what is needed of a tokenizer is seen from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from datasets import Dataset

from ...errors import InputError, collect, raise_if_any
from ...wording import listed
from .columns import missing_column, values
from .file_options import FileOptions
from .files import read_file

Text = str | tuple[str, ...]
"""A text, or the words of one that comes in words."""


def read_texts(
    files: Sequence[str | Path], flag: str, columns: Sequence[str] | None = None, options: FileOptions | None = None
) -> list[Text]:
    """The texts of some files, each once, in their order.

    Args:
        flag: the argument that named the files, for messages.
        columns: those to read [all that hold texts or lists of words].

    Raises:
        InputError: with the problems of all files; or no column of a file holds texts.
    """
    problems: list[str] = []
    found: dict[Text, None] = {}
    for file in files:
        with collect(problems):
            rows = read_file(Path(file), flag, options)
            found |= dict.fromkeys(_texts(rows, f"{flag} {file}", columns))
    if not files:
        problems.append(f"{flag}: expected one or more files, got none; name some")
    raise_if_any(problems)
    if not found:
        raise InputError(f"{flag}: expected texts, got files whose texts are all empty; give others")
    return list(found)


def _texts(rows: Dataset, place: str, columns: Sequence[str] | None) -> Iterator[Text]:
    available = {name: kind for name in rows.column_names if (kind := values(rows, name).type) is not None}
    with_text = [name for name, kind in available.items() if _is_text(kind) or _is_words(kind)]
    raise_if_any(
        missing_column(place, name, list(available), "name another one with --text_column")
        if name not in available
        else f"{place}: expected texts in the column {name}, got {available[name]}; name another one with --text_column"
        for name in columns or ()
        if name not in with_text
    )
    if not with_text:
        raise InputError(f"{place}: expected a column of texts, got {listed(available)} without any; give another file")
    yield from texts_of(rows, columns or with_text)


def texts_of(rows: Dataset, columns: Sequence[str]) -> Iterator[Text]:
    """The texts in some columns of rows, which hold texts or lists of words."""
    for name in columns:
        for value in values(rows, name).to_pylist():
            if isinstance(value, str) and value:
                yield value
            elif isinstance(value, list) and (words := tuple(word for word in value if word)):
                # Words are cut one by one for tags, and may be read as running text elsewhere.
                yield words
                yield " ".join(words)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_words(kind: pa.DataType) -> bool:
    return bool((pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _is_text(kind.value_type))
