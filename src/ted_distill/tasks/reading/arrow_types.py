"""Types of Arrow and of `datasets` that hold the same values in another layout -> the plain ones that tasks know.

polars writes large lists and large strings, pandas dictionaries (categories), newer writers views: the values are lists
and texts all the same.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from datasets import ClassLabel, Dataset, Features, LargeList, List, Value

from ...errors import InputError, shown
from .file_options import FileOptions

_PLAIN_VALUES = {"large_string": "string", "string_view": "string", "large_binary": "binary", "binary_view": "binary"}


def plain_table(table: pa.Table, options: FileOptions) -> pa.Table:
    """The table with plain types, and the features that its file declares (such as `ClassLabel`). A column whose type
    `datasets` does not know is left out if it is not read.

    Raises:
        InputError: two columns have one name, or `datasets` does not know the type of a column that may be read.
    """
    names = table.column_names
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"expected different column names, got {shown(repeated[0])} twice; rename one")
    plain = pa.table({name: _plain_column(table.column(name)) for name in names})
    features = _features(table, plain, options)
    return plain.select(list(features)).cast(features.arrow_schema)


def plain_dataset(rows: Dataset) -> Dataset:
    """The same for a data set, such as one of the Hub."""
    plain = Features({name: _plain_feature(feature) for name, feature in rows.features.items()})
    return rows if plain == rows.features else rows.cast(plain)


def _features(table: pa.Table, plain: pa.Table, options: FileOptions) -> Features:
    """Those that the file declares, if they fit its columns; else those of the types."""
    try:
        declared = Features.from_arrow_schema(table.schema)
        features = Features({name: _plain_feature(declared[name]) for name in plain.column_names})
        plain.slice(0, 1).cast(features.arrow_schema)
    # Such a note in a file is for `datasets` alone; whatever is wrong with it, the columns are still there.
    except Exception:
        return Features(options.readable(plain.column_names, lambda name: _feature(name, plain.schema.field(name))))
    return features


def _feature(name: str, field: pa.Field) -> Any:
    try:
        return Features.from_arrow_schema(pa.schema([field]))[name]
    except (ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise InputError(
            f"column {shown(name)}: expected text, numbers or lists, got {shown(str(field.type))}; remove the column"
        ) from error


def _plain_feature(feature: Any) -> Any:
    if isinstance(feature, dict):
        return {name: _plain_feature(part) for name, part in feature.items()}
    if isinstance(feature, list):
        return [_plain_feature(part) for part in feature]
    if isinstance(feature, List | LargeList):
        return List(_plain_feature(feature.feature))
    if isinstance(feature, Value) and not isinstance(feature, ClassLabel):
        return Value(_PLAIN_VALUES.get(feature.dtype, feature.dtype))
    return feature


def _plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = plain_type(column.type)
    if kind == column.type:
        return column
    # Arrow casts a list view to lists that are empty.
    if "view<" not in str(column.type):
        try:
            return column.cast(kind)
        except (pa.ArrowNotImplementedError, pa.ArrowTypeError):
            pass
    return pa.chunked_array([pa.array(chunk.to_pylist(), kind) for chunk in column.chunks], kind)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The plain type that holds the values of `kind`."""
    name = str(kind).split("<")[0].split("[")[0]
    if name in _PLAIN_VALUES:
        return pa.string() if _PLAIN_VALUES[name] == "string" else pa.binary()
    if name in ("list", "large_list", "fixed_size_list", "list_view", "large_list_view"):
        return pa.list_(plain_type(kind.value_type))
    if name in ("dictionary", "run_end_encoded"):
        return plain_type(kind.value_type)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(plain_type(field.type)) for field in kind])
    return kind
