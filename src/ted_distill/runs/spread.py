"""Some rows that stand for all: spread evenly over them, the first and the last among them."""

from __future__ import annotations

from itertools import islice

import numpy as np
from datasets import Dataset, IterableDataset


def spread_places(rows: int, most: int) -> np.ndarray:
    """Places of at most `most` of some rows, counted from 0, in ascending order: (N,) whole numbers."""
    return np.unique(np.linspace(0, rows - 1, min(most, rows)).round().astype(int))


def middles(rows: int, number: int) -> np.ndarray:
    """Places in the middles of this many equal parts of some rows, from 0: (number,), repeated where rows are few."""
    return ((np.arange(number) + 0.5) * rows / number).astype(int)


def spread(rows: Dataset | IterableDataset, most: int) -> Dataset:
    """At most `most` of the rows, in memory, so that nothing made of them is written into a cache of `datasets`.

    Of a stream, whose end is not known, they are the first ones.
    """
    if isinstance(rows, IterableDataset):
        return Dataset.from_list(list(islice(rows, most)))
    return Dataset.from_dict(rows[spread_places(len(rows), most).tolist()], features=rows.features)
