"""Training rows held out to choose settings on, so that nothing is chosen on the rows that are reported."""

from __future__ import annotations

import numpy as np
from datasets import Dataset

from ...tasks.base import Task

HELD_OUT, MOST_HELD_OUT = 0.15, 1000
"""Share of the training rows that is held out, and at most how many."""


def hold_out(task: Task, seed: int) -> Task:
    """The same task with other rows: a part of the training rows is there to score on, the rest to train on.

    Drawn at random; of lines of one text the first ones, as no line is to be missing within a text.
    """
    rows = task.rows["train"]
    assert isinstance(rows, Dataset)  # a stream has no rows to choose from
    order = np.random.default_rng(seed).permutation(len(rows))
    if task.keeps_order(rows):
        order = np.arange(len(rows))
    held_out = min(MOST_HELD_OUT, int(len(rows) * HELD_OUT))
    parts = {"train": order[held_out:], "validation": order[:held_out]}
    return task.with_rows({name: rows.select(np.sort(numbers)) for name, numbers in parts.items()})
