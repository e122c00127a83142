"""The rows that models are timed on: as long and as short as those of the data are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..method.filters import Batch
from ..runs.spread import middles
from ..tasks.base import Split
from .opened import Opened

BATCH_SIZE = 32


def spread_by_length(lengths: Sequence[int], count: int) -> list[int]:
    """Places of `count` features, evenly spaced in the order of their lengths, the longest first."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    count = min(count, len(order))
    return order[middles(len(order), count)].tolist()


def batches_of(places: Sequence[int]) -> list[list[int]]:
    """Batches of `BATCH_SIZE` features, similar lengths together; all lengths have their share."""
    wanted = max(1, len(places) // BATCH_SIZE) * BATCH_SIZE
    drawn = np.asarray(places)[middles(len(places), wanted)].tolist()
    return [drawn[start : start + BATCH_SIZE] for start in range(0, wanted, BATCH_SIZE)]


def collated(opened: Opened, split: Split, groups: Sequence[Sequence[int]]) -> list[Batch]:
    """Batches of features by their places."""
    features = split.features
    return [opened.task.collate([features[place] for place in group], opened.tokenizer) for group in groups]
