"""Data files -> streams of rows, read as they are needed: parquet, json lines, csv, tsv, and text line by line."""

from __future__ import annotations

import codecs
import csv
import gzip
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO, cast

import pyarrow.parquet as pq
from datasets import IterableDataset

from ...errors import InputError
from .columns import listed, shown
from .delimited import Lines, csv_lines, find_delimiter
from .encodings import likely_encoding
from .file_options import FileOptions
from .files import contents, extension, problems_of, reader
from .json_records import parse_line, read_json

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
        one_per_line = isinstance(parse_line(first, 1), dict)
    except InputError:
        one_per_line = False
    return _json_lines(path, options) if one_per_line else iter(read_json(contents(path), options).to_pylist())


def _table_rows(path: Path, options: FileOptions) -> Iterator[Row]:
    """Rows of a csv or tsv file; all fields are text."""
    lines = _lines(path, options)
    first = list(islice(lines, _LOOKED_AT))
    usual = "\t;,|" if extension(path) == ".tsv" else ",;\t|"
    delimiter = options.delimiter or find_delimiter("".join(first), usual)
    every = chain(first, lines)
    if usual[0] == delimiter == "\t":
        numbered = ((number, line.rstrip("\r\n")) for number, line in enumerate(every, start=1))
        fields: Lines = ((number, line.split("\t")) for number, line in numbered if line)
    else:
        csv.field_size_limit(max(csv.field_size_limit(), 1 << 30))
        fields = csv_lines(every, delimiter)
    _, header = next(fields, (0, []))
    for number, row in fields:
        if len(row) != len(header):
            raise InputError(
                f"line {number}: expected {len(header)} fields, as in the first line, got {len(row)}, separated by "
                f"{shown(delimiter)}; fix the line, or name another separator with --delimiter"
            )
        yield dict(zip(header, row, strict=True))


def _parquet_rows(path: Path, options: FileOptions) -> Iterator[Row]:
    with pq.ParquetFile(path) as file:
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
