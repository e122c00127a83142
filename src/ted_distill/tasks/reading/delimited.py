"""Csv and tsv files -> tables. Their delimiter is found in the first line unless it is named."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice
from typing import Any

import pyarrow as pa

from ...errors import InputError, shown
from .encodings import decoded, lines_of, text_lines
from .file_options import FileOptions

# Neither matches text that a number would not give back: 007, an identifier of 20 digits, or a code such as 1E50. What
# writes E writes the sign of the exponent, too: 1E+05.
_INTEGER = re.compile(r"[+-]?(0|[1-9]\d{0,17})", re.ASCII)
_DECIMAL = re.compile(r"[+-]?((0|[1-9]\d{0,17})(\.\d*)?|\.\d+)(e[+-]?\d+|E[+-]\d+)?", re.ASCII)
_EXCEL = re.compile(r"sep=(.)\r?\n")
"""The first line of csv files that Excel writes where commas are in numbers."""
_FIRST = 1 << 16
"""Characters that hold the first line."""
_LOOKED_AT = 100
"""Lines in which blanks after delimiters are looked for."""
_QUOTED_LATE = re.compile(r' +".*', re.DOTALL)
"""A field in quotes, read as if the blank before them were part of it."""

Lines = Iterator[tuple[int, list[str]]]


def read_csv(data: bytes, options: FileOptions) -> pa.Table:
    """Fields in quotes where need be; no word means "missing", so that the text "null" or "NA" stays as it is."""
    return _read_table(decoded(data, options.encoding), options, usual_delimiters(".csv"))


def read_tsv(data: bytes, options: FileOptions) -> pa.Table:
    """Tab-separated without quoting, like GLUE's own files: a quotation mark is an ordinary character.

    A file without tabs in its first line is read as a csv file, if another delimiter is there.
    """
    return _read_table(decoded(data, options.encoding), options, usual_delimiters(".tsv"))


def _read_table(text: str, options: FileOptions, usual: str) -> pa.Table:
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    named, delimiter = named_or_found(text, options, usual)
    text = text[len(named) :]
    lines = lines_of(text) if usual[0] == delimiter == "\t" else text_lines(text)
    return _table(numbered_fields(iter(lines), delimiter, usual, bool(named)), delimiter, options)


def usual_delimiters(extension: str) -> str:
    """Those that are looked for in a file of this extension, the most likely first."""
    return "\t;,|" if extension == ".tsv" else ",;\t|"


def named_or_found(start: str, options: FileOptions, usual: str) -> tuple[str, str]:
    """The first line if Excel wrote it to name the delimiter, else nothing; and the delimiter.

    Args:
        start: the beginning of the text, in which the delimiter is looked for.
    """
    named = _EXCEL.match(start)
    line = named[0] if named else ""
    return line, options.delimiter or (named[1] if named else find_delimiter(start[len(line) :], usual))


def numbered_fields(lines: Iterator[str], delimiter: str, usual: str, first: int) -> Lines:
    """Numbered lines of fields, without quoting between tabs in a tsv file; blank lines are left out.

    A blank after each delimiter is no part of the fields, as in `text, label`, and comes before quotes around one.

    Args:
        first: number of lines before these.
    """
    if usual[0] == delimiter == "\t":
        numbered = ((number, line.rstrip("\r\n")) for number, line in enumerate(lines, start=first + 1))
        return ((number, line.split("\t")) for number, line in numbered if line)
    start = list(islice(lines, _LOOKED_AT))
    return csv_lines(chain(start, lines), delimiter, first, blanks=_have_blanks(start, delimiter))


def _have_blanks(start: Sequence[str], delimiter: str) -> bool:
    """Whether a blank comes after the delimiters: before all names but the first, or before quotes in every row."""
    rows: list[list[str]] = []
    with suppress(InputError):  # in the last line that was looked at a field may go on, and what is wrong is said later
        rows.extend(fields for _, fields in csv_lines(start, delimiter))
    if not rows or len(rows[0]) < 2 or delimiter == " ":
        return False
    after = rows[1:]
    return all(name.startswith(" ") for name in rows[0][1:]) or (
        bool(after) and all(any(map(_QUOTED_LATE.fullmatch, fields)) for fields in after)
    )


def csv_lines(text: Iterable[str], delimiter: str, first: int = 0, blanks: bool = False) -> Lines:
    """Numbered lines of fields, some of them in quotes; blank lines are left out.

    Args:
        text: lines with their ends.
        first: number of lines before these.
        blanks: whether those after a delimiter are no part of the field.

    Raises:
        InputError: when a line is read whose quotation marks are not those of a csv file.
    """
    # Strict: otherwise a quotation mark that is never closed would put the rest of the file into one field.
    reader = csv.reader(iter(text), delimiter=delimiter, strict=True, skipinitialspace=blanks)
    try:
        yield from ((first + reader.line_num, fields) for fields in reader if fields)
    except csv.Error as error:
        raise InputError(
            f"line {first + reader.line_num}: expected quotes around a field with quotation marks, {shown(delimiter)} "
            f'or line breaks, and its own quotation marks doubled (""), got {error}; fix the line or give a tsv file'
        ) from error


# --- which delimiter ------------------------------------------------------------------------------------------


def find_delimiter(text: str, usual: str) -> str:
    """The usual delimiter that separates names in the first line; of several, the one that fits every line."""
    names = {delimiter: len(_first(text, delimiter)) for delimiter in usual}
    possible = [delimiter for delimiter in usual if names[delimiter] > 1]
    if len(possible) > 1:
        fitting = [delimiter for delimiter in possible if _fits(text, delimiter, names[delimiter])]
        return fitting[0] if fitting else max(possible, key=names.__getitem__)
    return possible[0] if possible else usual[0]


def _first(text: str, delimiter: str) -> list[str]:
    try:
        return next((fields for _, fields in csv_lines(io.StringIO(text[:_FIRST], newline=""), delimiter)), [])
    except InputError:
        return []


def _fits(text: str, delimiter: str, width: int) -> bool:
    try:
        return all(len(fields) == width for _, fields in csv_lines(io.StringIO(text, newline=""), delimiter))
    except InputError:
        return False


# --- the table ------------------------------------------------------------------------------------------------


def _table(lines: Lines, delimiter: str, options: FileOptions) -> pa.Table:
    """A table from numbered lines of fields, of which the first is the header."""
    _, header = next(lines, (0, []))
    rows = []
    for number, fields in lines:
        require_width(number, fields, header, delimiter)
        rows.append(fields)
    columns: Iterable[Sequence[str]] = zip(*rows, strict=True) if rows else ([] for _ in header)
    named = [(name, column) for name, column in zip(header, columns, strict=True) if name or any(column)]
    require_distinct([name for name, _ in named])
    return pa.table({name: typed(name, column, options) for name, column in named})


def require_width(number: int, fields: Sequence[str], header: Sequence[str], delimiter: str) -> None:
    """Raise `InputError` for a line with more or fewer fields than the header has."""
    if len(fields) != len(header):
        raise InputError(
            f"line {number}: expected {len(header)} fields, as in the first line, got {len(fields)}, separated by "
            f"{shown(delimiter)}; fix the line, or name another separator with --delimiter"
        )


def require_distinct(names: Sequence[str]) -> None:
    """Raise `InputError` if two columns have the same name."""
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise InputError(f"line 1: expected different column names, got {shown(repeated[0])} twice; rename one")


def typed(name: str, fields: Sequence[str], options: FileOptions) -> pa.Array:
    """A column of fields: numbers if all of them are and no option says that it is text, else unchanged text."""
    if not options.typed:
        return pa.array(fields, pa.string())
    return _column(*_as_read(name, fields, options))


def _as_read(name: str, fields: Sequence[str], options: FileOptions) -> tuple[Sequence[str], bool]:
    """The fields of a column, and whether they are text whatever they look like."""
    if name in options.lists and "" in fields and all(_DECIMAL.fullmatch(field) for field in fields if field):
        # As whole numbers are named: pandas writes 1.0 for them besides empty fields.
        return [str(int(float(field))) if field and float(field).is_integer() else field for field in fields], True
    return fields, name in options.texts


def _column(fields: Sequence[str], is_text: bool) -> pa.Array:
    """Numbers if every field that is not empty is one (empty fields are then null), else unchanged text."""
    filled = [] if is_text else [field for field in fields if field]
    if filled and all(map(_INTEGER.fullmatch, filled)):
        return pa.array([int(field) if field else None for field in fields], pa.int64())
    if filled and all(map(_DECIMAL.fullmatch, filled)):
        numbers: list[Any] = [float(field) if field else None for field in fields]
        if all(number is None or math.isfinite(number) for number in numbers):
            return pa.array(numbers, pa.float64())
    return pa.array(fields, pa.string())
