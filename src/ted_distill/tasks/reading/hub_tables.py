"""Csv files of the Hub or of a folder, which `datasets` reads with pandas -> the columns of a file that is named.

pandas takes words such as None and null for missing ones, and 01 for 1.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import fsspec
from datasets import Dataset, Features, IterableDataset, Value

from ...errors import InputError
from ...identity import fingerprint
from .columns import values
from .delimited import typed
from .file_options import FileOptions
from .headers import check_header

_Rows = TypeVar("_Rows", bound=Dataset | IterableDataset)


def as_written(found: Any, builder: Callable[[], Any]) -> dict[str, Any]:
    """Options of `load_dataset` with which the fields of these splits stay as they are written; none for other kinds
    of files.

    Args:
        builder: what read them, which knows what separates the fields.
    """
    first = next(iter(found.values()), None)
    if first is None or first.info.builder_name != "csv":
        return {}
    config = builder().config
    # Of a stream no more is known than the first line of its first file.
    features = first.features or dict.fromkeys(_header(config), Value("string"))
    kinds = {name: Value("string") if isinstance(kind, Value) else kind for name, kind in features.items()}
    # In a tsv file a quotation mark is a character like any other.
    tabs = {"quoting": csv.QUOTE_NONE} if config.sep == "\t" else {}
    return {"keep_default_na": False, "features": Features(kinds), **tabs}


def _header(config: Any) -> list[str]:
    """The first fields of the first csv file of a data set."""
    place = str(next(iter(config.data_files.values()))[0])
    with fsspec.open(place, "rt", encoding=config.encoding or "utf-8-sig", newline="", compression="infer") as file:
        return next(csv.reader(file, delimiter=config.sep), [])


def typed_columns(rows: _Rows, by_pandas: Mapping[str, Any], options: FileOptions, where: str) -> _Rows:
    """Rows with numbers where a file that is named has them; those of a stream are text, as there.

    Args:
        by_pandas: the columns as pandas, or the data set's own description, has them: what is text there stays text.
        where: they are from, for messages.

    Raises:
        InputError: the first line of the file is no header.
    """
    if isinstance(rows, IterableDataset):
        return rows
    try:
        check_header(rows, options, where)
    except InputError as error:
        raise InputError([f"{where}: {problem}" for problem in error.problems]) from error
    names = rows.column_names
    for name in names:
        if rows.features[name] != Value("string") or (name in by_pandas and "string" in by_pandas[name].dtype):
            continue
        column = typed(name, ["" if field is None else field for field in values(rows, name).to_pylist()], options)
        kind = Value(str(column.type).replace("double", "float64"))
        named = fingerprint([rows._fingerprint, name, str(kind)])[:32]
        rows = rows.remove_columns(name).add_column(name, column.to_pylist(), feature=kind, new_fingerprint=named)
    return rows.select_columns(names)
