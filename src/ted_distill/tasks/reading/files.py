"""Data files -> data sets, without the network: csv, tsv, json, json lines and parquet, each also gzipped.

A file is parsed once and kept as Arrow in the cache of `datasets`, under a name made from its content. Rows then stay
on disk, and what is computed from them, such as tokens, is found there by the next stage.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, IterableDataset

from ... import identity
from ...errors import InputError
from .columns import listed, shown
from .mapped import cache_not_writable
from .squad_format import flatten_squad, is_squad_document

# Neither matches text that a number would not give back: 007, or an identifier of 20 digits.
_INTEGER = re.compile(r"[+-]?(0|[1-9]\d{0,17})")
_DECIMAL = re.compile(r"[+-]?((0|[1-9]\d{0,17})(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def read_file(path: Path, flag: str) -> Dataset:
    """The rows of a data file, with the features that a parquet file declares (such as `ClassLabel`).

    Args:
        flag: the argument that named the file, for messages.

    Raises:
        InputError: no such file, unknown extension, no rows, or a file that cannot be read to its end.
    """
    read = _reader(path, flag)
    try:
        cached = _cached_name(path)
        table = None if cached.exists() else _castable(_table_with_rows(read, _contents(path)))
    except InputError as error:
        raise InputError([f"{flag} {path}: {problem}" for problem in error.problems]) from error
    except (OSError, EOFError, zlib.error, ValueError, pa.ArrowException) as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        raise InputError(
            f"{flag} {path}: expected a complete file, its text in UTF-8, got one that cannot be read to its end "
            f"({reason}); replace it"
        ) from error
    if table is not None:
        _write_arrow(table, cached)
    return Dataset.from_file(str(cached))


def stream_file(path: Path, flag: str) -> IterableDataset:
    """The rows of a data file, read as they are needed: parquet, json lines, csv, and text with one row per line.

    Raises:
        InputError: no such file, or unknown extension.
    """
    _reader(path, flag)
    suffix = next(suffix for suffix in reversed(path.suffixes) if suffix.lower() != ".gz").lower()
    kinds = {".jsonl": "json", ".txt": "text", ".parquet": "parquet", ".csv": "csv", ".json": "json"}
    if suffix not in kinds:
        raise InputError(
            f"{flag} {path}: expected one of {listed(kinds)} for streaming, got {suffix}; convert the file"
        )
    options = {"keep_linebreaks": True} if suffix == ".txt" else {}
    return datasets.load_dataset(kinds[suffix], data_files=str(path), split="train", streaming=True, **options)


def _reader(path: Path, flag: str) -> Callable[[bytes], pa.Table]:
    """The reader of this file's extension, if there is such a file."""
    if path.is_dir():
        raise InputError(f"{flag} {path}: expected a file, got a folder; name a file in it")
    if not path.exists():
        raise InputError(f"{flag} {path}: expected a file, found {_nearest(path)}")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    suffix = suffixes[-2:-1] if suffixes[-1:] == [".gz"] else suffixes[-1:]
    if not suffix or suffix[0] not in READERS:
        raise InputError(
            f"{flag} {path}: expected the extension {listed(READERS)}, or one of these with .gz, got "
            f"{''.join(suffix) or 'none'}; convert the file"
        )
    return READERS[suffix[0]]


def _nearest(path: Path) -> str:
    if not path.parent.is_dir():
        return f"no folder {path.parent}; check the path"
    nearest = get_close_matches(path.name, [other.name for other in path.parent.iterdir()], n=1)
    return f"no such file; did you mean {path.parent / nearest[0]}?" if nearest else "no such file; check the path"


def _contents(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix.lower() == ".gz" else data


def _table_with_rows(read: Callable[[bytes], pa.Table], data: bytes) -> pa.Table:
    table = read(data) if data.strip() else None
    if not table:
        raise InputError("expected at least one row, got none; give a file with rows")
    return table


def _castable(table: pa.Table) -> pa.Table:
    """The table in the types that `datasets` has features for."""
    return table.cast(Features.from_arrow_schema(table.schema).arrow_schema)


# --- the cache ------------------------------------------------------------------------------------------------


def _cached_name(path: Path) -> Path:
    """Named by content and by the readers' source: another version may give other rows for the same bytes."""
    readers = [identity.source_fingerprint(reader) for reader in (read_file, flatten_squad)]
    key = [readers, [suffix.lower() for suffix in path.suffixes], identity.file_fingerprint(path)]
    return Path(datasets.config.HF_DATASETS_CACHE) / "ted_distill" / f"{identity.fingerprint(key)[:32]}.arrow"


def _write_arrow(table: pa.Table, file: Path) -> None:
    """Written under another name first, so that a second process never sees half a file. Raises `InputError`."""
    part = file.with_suffix(f".{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=1000)
        part.replace(file)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise cache_not_writable(error) from error


# --- readers: bytes -> table ----------------------------------------------------------------------------------


def _read_parquet(data: bytes) -> pa.Table:
    table = pq.ParquetFile(io.BytesIO(data)).read()
    for index, column in enumerate(table.schema):
        # A categorical column of pandas, which `datasets` has no feature for.
        if pa.types.is_dictionary(column.type):
            table = table.set_column(index, column.name, table.column(index).cast(column.type.value_type))
    return table


def _read_csv(data: bytes) -> pa.Table:
    """Comma-separated with quotes; no word means "missing", so that the text "null" or "NA" stays as it is."""
    csv.field_size_limit(max(csv.field_size_limit(), len(data) + 1))
    # Strict: otherwise a quotation mark that is never closed would put the rest of the file into one field.
    reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
    try:
        return _table((reader.line_num, fields) for fields in reader if fields)
    except csv.Error as error:
        raise InputError(
            f"line {reader.line_num}: expected quotes around a field with quotation marks, commas or line breaks, and "
            f'its own quotation marks doubled (""), got {error}; fix the line or give a tsv file'
        ) from error


def _read_tsv(data: bytes) -> pa.Table:
    """Tab-separated without quoting, like GLUE's own files: a quotation mark is an ordinary character."""
    lines = (line.rstrip("\r") for line in data.decode("utf-8-sig").split("\n"))
    return _table((number, line.split("\t")) for number, line in enumerate(lines, start=1) if line)


def _table(lines: Iterator[tuple[int, list[str]]]) -> pa.Table:
    """A table from numbered lines of fields, of which the first is the header."""
    _, header = next(lines, (0, []))
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise InputError(f"line 1: expected different column names, got {shown(repeated[0])} twice; rename one")
    rows = []
    for number, fields in lines:
        if len(fields) != len(header):
            raise InputError(
                f"line {number}: expected {len(header)} fields, as in the first line, got {len(fields)}; fix the line"
            )
        rows.append(fields)
    columns = zip(*rows, strict=True) if rows else ([] for _ in header)
    return pa.table({name: _column(column) for name, column in zip(header, columns, strict=True)})


def _column(fields: Any) -> pa.Array:
    """Numbers if every field that is not empty is one (empty fields are then null), else unchanged text."""
    filled = [field for field in fields if field]
    if filled and all(map(_INTEGER.fullmatch, filled)):
        return pa.array([int(field) if field else None for field in fields], pa.int64())
    if filled and all(map(_DECIMAL.fullmatch, filled)):
        return pa.array([float(field) if field else None for field in fields], pa.float64())
    return pa.array(fields, pa.string())


def _read_json(data: bytes) -> pa.Table:
    """A list of records, records line by line, `{"data": [records]}`, or the official SQuAD document."""
    document = _parse_json(data.decode("utf-8-sig"))
    if is_squad_document(document):
        return _records_table(flatten_squad(document))
    if isinstance(document, dict):
        document = document["data"] if isinstance(document.get("data"), list) else [document]
    return _records_table(document)


def _parse_json(text: str) -> Any:
    """One JSON value, or a list of the values of all lines."""
    try:
        return json.loads(text) if text.strip() else []
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data"):
            raise
    records = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise InputError(
                    f"line {number}: expected a JSON record, got {shown(line)} ({error.msg}); is the file complete?"
                ) from error
    return records


def _records_table(records: Any) -> pa.Table:
    every = records if isinstance(records, list) else [records]
    strangers = [record for record in every if not isinstance(record, dict)]
    if strangers:
        raise InputError(
            f'expected records {{"column": value, ...}}, in a list or one per line, got {shown(strangers[0])}; '
            "convert the file"
        )
    columns = {}
    for name in dict.fromkeys(name for record in records for name in record):
        try:
            columns[name] = pa.array([record.get(name) for record in records])
        except pa.ArrowException as error:
            raise InputError(
                f"expected values of one kind in column {name!r}, got several ({error}); convert them to one"
            ) from error
    return pa.table(columns)


def _read_text(data: bytes) -> pa.Table:
    """One row per line, newline included, so that the rows joined are the text."""
    return pa.table({"text": pa.array(data.decode("utf-8-sig").splitlines(keepends=True), pa.string())})


READERS: dict[str, Callable[[bytes], pa.Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".json": _read_json,
    ".jsonl": _read_json,
    ".parquet": _read_parquet,
    ".txt": _read_text,
}
"""Extension -> reader. A new format is one function and one line."""
