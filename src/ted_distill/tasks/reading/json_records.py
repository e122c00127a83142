"""Json and json lines files -> tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from ...errors import InputError, shown
from .encodings import decoded
from .file_options import FileOptions
from .squad_format import flatten_squad, is_squad_document

_DEEPEST = 32
"""Lists in lists: no task has more than three, and a hundred thousand would end the process."""


def read_json(data: bytes, options: FileOptions) -> pa.Table:
    """A list of records, records line by line, `{"data": [records]}`, the official SQuAD document, or a table column by
    column, as pandas writes it.
    """
    document = parse_json(decoded(data, options.encoding))
    if is_squad_document(document):
        return records_table(flatten_squad(document), options)
    if isinstance(document, dict):
        if columns := by_column(document, options):
            rows = zip(*columns.values(), strict=True)
            return records_table([dict(zip(columns, row, strict=True)) for row in rows], options)
        document = document["data"] if isinstance(document.get("data"), list) else [document]
    return records_table(document, options)


def by_column(document: dict[str, Any], options: FileOptions) -> dict[str, Sequence[Any]] | None:
    """Name -> values of all rows, if this is a table that pandas wrote; None for a record.

    Its `to_json` writes each column as a dictionary by the number of the row or, with `orient="split"`, names and rows
    apart; `to_dict` makes a list of each column.
    """
    values = [*document.values()]
    if {*document} >= {"columns", "data"} and {*document} <= {"columns", "index", "data"}:
        names, rows = document["columns"], document["data"]
        is_table = isinstance(rows, list) and bool(rows) and _are_texts(names)
        if is_table and all(isinstance(row, list) and len(row) == len(names) for row in rows):
            return dict(zip(names, zip(*rows, strict=True), strict=True))
    if values and all(isinstance(value, dict) and value and all(map(str.isdecimal, value)) for value in values):
        numbers = values[0].keys()
        if all(value.keys() == numbers for value in values):
            return {name: [value[number] for number in numbers] for name, value in document.items()}
    # One record of a list of words and a list of tags looks the same.
    if options.words is None and "tokens" not in document and all(isinstance(value, list) for value in values):
        return document if len(values) > 1 and len({*map(len, values)}) == 1 and len(values[0]) > 1 else None
    return None


def _are_texts(names: Any) -> bool:
    return isinstance(names, list) and bool(names) and all(isinstance(name, str) for name in names)


def parse_json(text: str) -> Any:
    """One JSON value, or a list of the values of all lines. Raises `InputError`."""
    try:
        return _value(text) if text.strip() else []
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data"):
            raise InputError(
                f"line {error.lineno}: expected complete JSON, got {shown(text.split(chr(10))[error.lineno - 1])} "
                f"({error.msg}, character {error.colno}); is the file complete?"
            ) from error
    return [parse_line(line, number) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def parse_line(line: str, number: int) -> Any:
    """The JSON value of one line. Raises `InputError`."""
    try:
        return _value(line)
    except json.JSONDecodeError as error:
        raise InputError(
            f"line {number}: expected a JSON record, got {shown(line)} ({error.msg}); is the file complete?"
        ) from error
    except InputError as error:
        raise InputError([f"line {number}: {problem}" for problem in error.problems]) from error


def _value(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_record)
    except json.JSONDecodeError:
        raise
    except RecursionError as error:
        raise InputError(f"expected lists up to {_DEEPEST} deep, got thousands; give flat records") from error
    except ValueError as error:  # a number of thousands of digits
        raise InputError(f"expected numbers of up to 64 bits, got a longer one ({error}); shorten it") from error


def _record(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"expected different names in a record, got {shown(twice)} twice; rename one")
    return record


def records_table(records: Any, options: FileOptions) -> pa.Table:
    """A table of the records; null where one lacks a field. A column that no table holds, such as one with values of
    several kinds, is left out if it is not read.

    Raises:
        InputError: other values than records, or a column with values of several kinds that may be read, or no others.
    """
    every = records if isinstance(records, list) else [records]
    strangers = [number for number, record in enumerate(every) if not isinstance(record, dict)]
    if strangers:
        raise InputError(
            f'row {strangers[0] + 1}: expected records {{"column": value, ...}}, in a list or one per line, got '
            f"{shown(every[strangers[0]])}; convert the file"
        )
    names = dict.fromkeys(name for record in every for name in record)
    return pa.table(options.readable(names, lambda name: _column(name, [record.get(name) for record in every])))


def _column(name: str, values: Sequence[Any]) -> pa.Array:
    deep = next((number for number, value in enumerate(values) if not _is_flat(value, _DEEPEST)), None)
    if deep is not None:
        raise InputError(
            f"row {deep + 1}: expected lists up to {_DEEPEST} deep in column {shown(name)}, got deeper ones; flatten "
            "them"
        )
    try:
        return _array(values)
    except (pa.ArrowException, OverflowError, ValueError, TypeError) as error:
        raise InputError(_misfit(name, values)) from error


def _is_flat(value: Any, deepest: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return True
    return deepest > 0 and all(_is_flat(part, deepest - 1) for part in value)


def _misfit(name: str, values: Sequence[Any]) -> str:
    """The first value that does not fit those before it."""
    low, high = 0, len(values)  # values[:low] fit, values[:high] do not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _fits(values[:middle]) else (low, middle)
    value = values[low]
    where = f"row {high}: expected"
    if not _fits([value]):
        return (
            f"{where} text, numbers of up to 64 bits or lists of one kind in column {shown(name)}, got {shown(value)}; "
            "fix it"
        )
    others = next((other for other in values[:low] if other is not None), None)
    return (
        f"{where} values of one kind in column {shown(name)}, got several, such as {shown(others)} and {shown(value)}; "
        "convert them to one"
    )


def _array(values: Sequence[Any]) -> pa.Array:
    """The values as Arrow, which would take `true` among fractions for 1. Raises what Arrow raises."""
    array = pa.array(values)
    if "double" in str(array.type) and any(map(_holds_truth, values)):
        raise TypeError("expected numbers, got a truth value")
    return array


def _holds_truth(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return any(map(_holds_truth, value)) if isinstance(value, list) else isinstance(value, bool)


def _fits(values: Sequence[Any]) -> bool:
    try:
        _array(values)
    except (pa.ArrowException, OverflowError, ValueError, TypeError):
        return False
    return True
