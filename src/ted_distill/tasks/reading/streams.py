"""Data files -> streams of rows, read as they are needed: parquet, json lines, csv, tsv, and text line by line."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO, cast

import pyarrow.parquet as pq
from datasets import IterableDataset

from ...errors import InputError, shown
from ...wording import listed
from .delimited import named_or_found, numbered_fields, require_distinct, require_width, usual_delimiters
from .encodings import likely_encoding
from .file_options import FileOptions
from .files import contents, extension, problems_of, reader
from .headers import check_names
from .json_records import by_column, parse_line, read_json
from .quoted_fields import say_quotes

_LOOKED_AT = 100
"""Lines in which the delimiter is looked for."""

Row = dict[str, Any]


def stream_file(path: Path, flag: str, options: FileOptions | None = None) -> IterableDataset:
    """The rows of a data file as a stream. What is wrong with a row is an `InputError` when that row is read.

    Raises:
        InputError: no such file, unknown extension, or one that can only be read whole.
    """
    reader(path, flag)
    if extension(path) not in STREAMS:
        raise InputError(
            f"{flag} {path}: expected one of {listed(STREAMS)} for streaming, got {extension(path)}; convert the file"
        )
    arguments = {"path": str(path), "flag": flag, "options": tuple(options or FileOptions())}
    return IterableDataset.from_generator(_rows, gen_kwargs=arguments)


def _rows(path: str, flag: str, options: tuple[Any, ...]) -> Iterator[Row]:
    file, how = Path(path), FileOptions(*options)
    with problems_of(file, flag):
        try:
            yield from STREAMS[extension(file)](file, how)
        except UnicodeDecodeError as error:
            raise InputError(
                f"expected text in {(how.encoding or 'utf-8').upper()}, got byte 0x{error.object[error.start]:02x} in "
                f"{shown(error.object[max(0, error.start - 20) : error.start + 20])}; set --encoding "
                f"{likely_encoding(error.object)}, or the file's own encoding"
            ) from error


def _lines(path: Path, options: FileOptions) -> Iterator[str]:
    """The lines of a text file, with their ends."""
    name = options.encoding or "utf-8"
    # With or without a mark of the byte order, which is no part of the text.
    name = "utf-8-sig" if codecs.lookup(name).name == "utf-8" else name
    open_ = gzip.open if path.suffix.lower() == ".gz" else open
    with cast(TextIO, open_(path, "rt", encoding=name, newline="")) as text:
        for first in islice(text, 1):
            yield first.removeprefix("\ufeff")
        yield from text


def _text_rows(path: Path, options: FileOptions) -> Iterator[Row]:
    return ({"text": line} for line in _lines(path, options))


def _json_lines(path: Path, options: FileOptions) -> Iterator[Row]:
    """Records with the names of the first."""
    names: list[str] = []
    for number, line in enumerate(_lines(path, options), start=1):
        if line.strip():
            row = parse_line(line, number)
            if not isinstance(row, dict):
                raise InputError(
                    f'line {number}: expected a record {{"column": value, ...}}, got {shown(row)}; give one per line'
                )
            names = names or list(row)
            yield {name: row.get(name) for name in names}


def _json_rows(path: Path, options: FileOptions) -> Iterator[Row]:
    """Records one per line, as they are needed; a list of records can only be read whole."""
    first = next((line for line in _lines(path, options) if line.strip()), "")
    try:
        record = parse_line(first, 1)
        one_per_line = isinstance(record, dict) and by_column(record, options) is None
    except InputError:
        one_per_line = False
    return _json_lines(path, options) if one_per_line else iter(read_json(contents(path), options).to_pylist())


def _table_rows(path: Path, options: FileOptions) -> Iterator[Row]:
    """Rows of a csv or tsv file; all fields are text."""
    lines, usual = _lines(path, options), usual_delimiters(extension(path))
    first = list(islice(lines, _LOOKED_AT))
    named, delimiter = named_or_found("".join(first), options, usual)
    csv.field_size_limit(max(csv.field_size_limit(), 1 << 30))
    every = chain(first[bool(named) :], lines)
    fields = numbered_fields(every, delimiter, usual, bool(named))
    _, header = next(fields, (0, []))
    require_distinct([name for name in header if name])
    rows: list[list[str]] = []
    with suppress(InputError):  # which is said when the row is read
        rows.extend(row for _, row in numbered_fields(iter(first[bool(named) :]), delimiter, usual, 0))
    columns = {name: [row[place] for row in rows[1:] if place < len(row)] for place, name in enumerate(header)}
    check_names(columns, options, str(path))
    if extension(path) == ".tsv":
        say_quotes(columns, str(path))
    for number, row in fields:
        require_width(number, row, header, delimiter)
        yield dict(zip(header, row, strict=True))


def _parquet_rows(path: Path, options: FileOptions) -> Iterator[Row]:
    # Its table of contents is at its end, which a gzipped file must be unpacked for.
    packed = path.suffix.lower() == ".gz"
    with pq.ParquetFile(io.BytesIO(contents(path)) if packed else path) as file:
        for batch in file.iter_batches(batch_size=1000):
            yield from batch.to_pylist()


STREAMS: dict[str, Callable[[Path, FileOptions], Iterator[Row]]] = {
    ".jsonl": _json_lines,
    ".json": _json_rows,
    ".txt": _text_rows,
    ".parquet": _parquet_rows,
    ".csv": _table_rows,
    ".tsv": _table_rows,
}
"""Extension -> reader of a stream."""
