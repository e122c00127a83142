"""Rows that are in memory already, in place of a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import datasets
import numpy as np
import pyarrow as pa
from datasets import Dataset, IterableDataset

from ...errors import InputError, collect, raise_if_any, reason_of, shown
from .arrow_types import plain_dataset
from .file_options import FileOptions

if TYPE_CHECKING:
    import pandas

Rows: TypeAlias = Union[Dataset, IterableDataset, "pandas.DataFrame", list[dict[str, Any]]]
"""Rows of one split, with the columns that a file would have."""


def given_rows(given: Mapping[str, Any], options: FileOptions) -> dict[str, Dataset | IterableDataset]:
    """The splits that were given, as data sets; of columns that no data set holds, those that are read.

    Raises:
        InputError: rows of another kind, no rows, or a column of mixed types that may be read.
    """
    found: dict[str, Dataset | IterableDataset] = {}
    problems: list[str] = []
    for split, rows in given.items():
        if rows is not None:
            with collect(problems):
                found[split] = _as_dataset(rows, split, options)
    raise_if_any(problems)
    return found


def _as_dataset(rows: Any, split: str, options: FileOptions) -> Dataset | IterableDataset:
    if isinstance(rows, (Dataset, IterableDataset)):
        # Rows as tensors or arrays are another kind of values than those that files give.
        rows = rows.with_format(None)
    if isinstance(rows, IterableDataset):
        return rows
    if isinstance(rows, Dataset):
        found = rows
    elif hasattr(rows, "to_dict") and hasattr(rows, "iloc"):
        frame = _without_arrays(rows)
        found = _held(
            list(frame.columns), lambda names: Dataset.from_pandas(frame[names], preserve_index=False), split, options
        )
    elif isinstance(rows, (list, tuple)) and all(isinstance(row, Mapping) for row in rows):
        # Not `from_list`, which takes the columns of the first row alone.
        names = dict.fromkeys(name for row in rows for name in row)
        columns = {name: [_without_array(row.get(name)) for row in rows] for name in names}
        found = _held(
            list(columns), lambda names: Dataset.from_dict({name: columns[name] for name in names}), split, options
        )
    else:
        module, kind = type(rows).__module__, type(rows).__qualname__
        kind = kind if module == "builtins" else f"{module}.{kind}"
        raise InputError(
            f"{split}: expected a datasets.Dataset, a pandas.DataFrame or a list of dicts, got {shown(kind)}; convert "
            "the rows"
        )
    if len(found) == 0:
        raise InputError(f"{split}: expected at least one row, got none; give some, or leave it out")
    return plain_dataset(found)


def _without_arrays(frame: Any) -> Any:
    """A pandas.DataFrame whose cells are lists where they were arrays."""
    objects = [place for place, kind in enumerate(map(str, frame.dtypes)) if kind == "object"]
    held = [place for place in objects if any(isinstance(value, np.ndarray) for value in frame.iloc[:, place])]
    frame = frame.copy(deep=False) if held else frame
    for place in held:
        frame.isetitem(place, frame.iloc[:, place].map(_without_array))
    return frame


def _without_array(value: Any) -> Any:
    """A list in place of an array, whose number type would be another one where it is empty."""
    return value.tolist() if isinstance(value, np.ndarray) else value


def _held(names: Sequence[Any], make: Callable[[list[Any]], Dataset], split: str, options: FileOptions) -> Dataset:
    """A data set of the columns; without those that it cannot hold and nothing reads."""
    try:
        return _made(lambda: make(list(names)), split)
    except InputError:
        if len({*names}) < len(names) or not all(isinstance(name, str) for name in names):
            raise
        kept = options.readable(names, lambda name: _made(lambda: make([name]), f"{split}, column {name}"))
        return _made(lambda: make(list(kept)), split)


def _made(make: Callable[[], Dataset], where: str) -> Dataset:
    try:
        return make()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where}: expected text that can be written as UTF-8, got half of a character (a surrogate) at place "
            f"{error.start} of {shown(error.object)}; repair the text or leave the row out"
        ) from error
    except (pa.ArrowException, datasets.exceptions.DatasetsError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{where}: expected values of one type, got others ({reason_of(error)}); convert them"
        ) from error
