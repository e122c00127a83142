"""Rows that are in memory already, in place of a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import datasets
import numpy as np
import pyarrow as pa
from datasets import Dataset, IterableDataset

from ...errors import InputError, collect, raise_if_any, reason_of, shown
from .arrow_types import plain_dataset

if TYPE_CHECKING:
    import pandas

Rows: TypeAlias = Union[Dataset, IterableDataset, "pandas.DataFrame", list[dict[str, Any]]]
"""Rows of one split, with the columns that a file would have."""


def given_rows(given: Mapping[str, Any]) -> dict[str, Dataset | IterableDataset]:
    """The splits that were given, as data sets.

    Raises:
        InputError: rows of another kind, no rows, or columns of mixed types.
    """
    found: dict[str, Dataset | IterableDataset] = {}
    problems: list[str] = []
    for split, rows in given.items():
        if rows is not None:
            with collect(problems):
                found[split] = _as_dataset(rows, split)
    raise_if_any(problems)
    return found


def _as_dataset(rows: Any, split: str) -> Dataset | IterableDataset:
    if isinstance(rows, (Dataset, IterableDataset)):
        # Rows as tensors or arrays are another kind of values than those that files give.
        rows = rows.with_format(None)
    if isinstance(rows, IterableDataset):
        return rows
    if isinstance(rows, Dataset):
        found = rows
    elif hasattr(rows, "to_dict") and hasattr(rows, "iloc"):
        found = _made(lambda: Dataset.from_pandas(_without_arrays(rows), preserve_index=False), split)
    elif isinstance(rows, (list, tuple)) and all(isinstance(row, Mapping) for row in rows):
        # Not `from_list`, which takes the columns of the first row alone.
        names = dict.fromkeys(name for row in rows for name in row)
        columns = {name: [_without_array(row.get(name)) for row in rows] for name in names}
        found = _made(lambda: Dataset.from_dict(columns), split)
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


def _made(make: Any, split: str) -> Dataset:
    try:
        return make()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{split}: expected text that can be written as UTF-8, got half of a character (a surrogate) at place "
            f"{error.start} of {shown(error.object)}; repair the text or leave the row out"
        ) from error
    except (pa.ArrowException, datasets.exceptions.DatasetsError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{split}: expected columns of one type each, got others ({reason_of(error)}); convert them"
        ) from error
