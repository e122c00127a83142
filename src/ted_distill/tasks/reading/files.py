"""Data files -> data sets, without the network: csv, tsv, json, json lines, parquet, conll and txt, each also gzipped.

A file is parsed once and kept as Arrow in the cache of `datasets`, under a name made from its content. Rows then stay
on disk, and what is computed from them, such as tokens, is found there by the next stage.
"""

from __future__ import annotations

import gzip
import io
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, List

from ... import identity
from ...errors import InputError, did_you_mean, near_names, reason_of
from ...wording import listed
from .arrow_types import plain_table
from .conll import is_a_sentence_a_line, is_table, read_conll
from .delimited import read_csv, read_tsv
from .encodings import decoded, text_lines
from .file_options import FileOptions
from .headers import LOOKED_AT, check_header
from .json_records import read_json
from .labelled_lines import LABELLED_LINES, are_labelled_lines
from .mapped import cache_not_writable
from .notices import notice
from .quoted_fields import say_quotes
from .squad_format import flatten_squad

Reader = Callable[[bytes, FileOptions], pa.Table]
_END = b"\xff\xff\xff\xff\0\0\0\0"
"""The last bytes of an Arrow stream."""


def read_file(path: Path, flag: str, options: FileOptions | None = None) -> Dataset:
    """The rows of a data file, with the features that a parquet file declares (such as `ClassLabel`).

    Args:
        flag: the argument that named the file, for messages.
        options: how it is read [found in the file].

    Raises:
        InputError: no such file, unknown extension, no rows, or a file that cannot be read to its end; or the cache of
            `datasets` cannot be written.
    """
    options = options or FileOptions()
    read = reader(path, flag)
    with problems_of(path, flag):
        cached = _cached_name(path, options)
        rows = _cached_rows(cached)
        table = None if rows is not None else _table_with_rows(read, contents(path), options)
    if rows is None:
        _write_arrow(table, cached)
        rows = Dataset.from_file(str(cached))
    # Not only when a file is parsed: what is said of it is meant for every process that reads it.
    with problems_of(path, flag):
        _check_first(rows, f"{flag} {path}", extension(path), options)
    return rows


def _check_first(rows: Dataset, where: str, kind: str, options: FileOptions) -> None:
    """Whether the first rows are what a file of this extension should hold. Raises `InputError`."""
    if any(isinstance(feature, List) for feature in rows.features.values()):
        return  # of a CoNLL file
    if kind in (".csv", ".tsv"):
        check_header(rows, options, where)
        if kind == ".tsv":
            say_quotes(rows[:LOOKED_AT], where)
    elif kind == ".txt" and are_labelled_lines(rows[:LOOKED_AT]["text"]):
        notice(f"{where}: {LABELLED_LINES}")


def reader(path: Path, flag: str) -> Reader:
    """The reader of this file's extension, if there is such a file. Raises `InputError`."""
    if path.is_dir():
        raise InputError(f"{flag} {path}: expected a file, got a folder; name a file in it")
    if not path.exists():
        raise InputError(f"{flag} {path}: expected a file, found {_nearest(path)}")
    suffix = extension(path)
    if suffix not in READERS:
        raise InputError(
            f"{flag} {path}: expected the extension {listed(READERS)}, or one of these with .gz, got "
            f"{suffix or 'none'}; convert the file"
        )
    return READERS[suffix]


def extension(path: Path) -> str:
    """The extension of a file in lower case, without `.gz`; empty if it has none."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return "".join(suffixes[-2:-1] if suffixes[-1:] == [".gz"] else suffixes[-1:])


@contextmanager
def problems_of(path: Path, flag: str) -> Iterator[None]:
    """Whatever goes wrong inside becomes an `InputError` about this file."""
    try:
        yield
    except InputError as error:
        raise InputError([f"{flag} {path}: {problem}" for problem in error.problems]) from error
    except PermissionError as error:
        raise InputError(f"{flag} {path}: expected a file that may be read, got {error.strerror}; change it") from error
    # Damaged files make libraries raise anything: there is no list of it to rely on.
    except Exception as error:
        reason = reason_of(error)
        raise InputError(
            f"{flag} {path}: expected a complete file, its text in UTF-8, got one that cannot be read to its end "
            f"({reason}); replace it"
        ) from error


def _nearest(path: Path) -> str:
    if not path.parent.is_dir():
        return f"no folder {path.parent}; check the path"
    near = near_names(path.name, [other.name for other in path.parent.iterdir()])
    return f"no such file{did_you_mean([str(path.parent / name) for name in near]) or '; check the path'}"


def contents(path: Path) -> bytes:
    """The bytes of a file, unpacked if it is gzipped."""
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix.lower() == ".gz" else data


def _table_with_rows(read: Reader, data: bytes, options: FileOptions) -> pa.Table:
    table = read(data, options) if data.strip() else None
    if not table:
        raise InputError("expected at least one row, got none; give a file with rows")
    return plain_table(table, options)


# --- the cache ------------------------------------------------------------------------------------------------


def _cached_name(path: Path, options: FileOptions) -> Path:
    """Named by content and by the readers' source: another version may give other rows for the same bytes."""
    code = (read_file, plain_table, read_csv, read_json, flatten_squad, read_conll, decoded)
    key = [
        [_source(function) for function in code],
        list(options),
        extension(path),
        path.suffix,
        identity.file_fingerprint(path),
    ]
    return Path(datasets.config.HF_DATASETS_CACHE) / "ted_distill" / f"{identity.fingerprint(key)[:32]}.arrow"


_source = cache(identity.source_fingerprint)


def _cached_rows(file: Path) -> Dataset | None:
    """The rows of the file if it is there and whole; a power cut may leave less, which reads like a shorter table."""
    try:
        rows = Dataset.from_file(str(file)) if file.exists() and _has_end(file) else None
    except Exception:
        return None
    return rows or None


def _has_end(file: Path) -> bool:
    """Whether an Arrow stream has its end mark."""
    with file.open("rb") as stream:
        stream.seek(-len(_END), os.SEEK_END)
        return stream.read() == _END


def _write_arrow(table: pa.Table, file: Path) -> None:
    """Written under another name first, so that a second process never sees half a file. Raises `InputError`."""
    part = file.with_suffix(f".{uuid.uuid4().hex}.part")  # processes of two containers may have the same number
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=1000)
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        part.replace(file)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise cache_not_writable(error) from error


# --- readers: bytes -> table ----------------------------------------------------------------------------------


def _read_parquet(data: bytes, options: FileOptions) -> pa.Table:
    return pq.ParquetFile(io.BytesIO(data)).read()


def _read_text(data: bytes, options: FileOptions) -> pa.Table:
    """One row per line, newline included, so that the rows joined are the text; or words with their tags."""
    if options.words is not None:
        if options.has_labels or not is_a_sentence_a_line(data, options):
            return read_conll(data, options)
        sentences = [line.split() for line in text_lines(decoded(data, options.encoding))]
        kind = pa.list_(pa.string())
        return pa.table({options.words: pa.array([words for words in sentences if words], kind)})
    lines = list(text_lines(decoded(data, options.encoding)))
    return pa.table({"text": pa.array(lines, pa.string())})


def _read_tsv(data: bytes, options: FileOptions) -> pa.Table:
    """Fields separated by tabs; or words with their tags."""
    if options.words is not None and not is_table(data, options):
        return read_conll(data, options)
    return read_tsv(data, options)


READERS: dict[str, Reader] = {
    ".csv": read_csv,
    ".tsv": _read_tsv,
    ".json": read_json,
    ".jsonl": read_json,
    ".parquet": _read_parquet,
    ".txt": _read_text,
    ".conll": read_conll,
    ".conllu": read_conll,
}
"""Extension -> reader. A new format is one function and one line."""
