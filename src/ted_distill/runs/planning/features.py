"""The amount of data a recipe trains on, and the lengths of its rows: a sample of them is tokenised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import datasets
import numpy as np
from datasets import IterableDataset
from transformers import PreTrainedTokenizerBase

from ...tasks import Task
from ...tasks.base import TEST
from ..spread import spread
from .unknown import Unknown

LOOKED_AT = 1000
"""Number of rows that are tokenised, spread evenly over the training rows."""


@dataclass(frozen=True)
class PlannedData:
    """Rows, and the features (tokenised rows, windows or blocks) made from them."""

    rows: dict[str, int | str]
    """Of each split; `stream` where the number is not known."""
    features: int | Unknown
    """To train on."""
    exact: bool
    """Whether `features` is counted rather than estimated."""
    tokens: float
    """Of a feature, on average."""
    longest: int
    """Tokens of the longest feature seen."""
    looked_at: int
    """Rows that were tokenised; 0 where `tokens` and `longest` are what `max_seq_length` allows."""

    @property
    def all_to_train(self) -> float:
        """Rows to train on and to choose by divided by the training rows."""
        counts = [count for split, count in self.rows.items() if isinstance(count, int) and split != TEST]
        return sum(counts) / int(self.rows["train"])


def look_at_data(task: Task, tokenizer: PreTrainedTokenizerBase | Unknown) -> PlannedData:
    """Count rows, and tokens of some of them.

    Raises:
        InputError: the tokenizer does not fit this task.
    """
    train, counts, most = task.rows["train"], task.row_counts, task.max_seq_length
    if isinstance(train, IterableDataset):
        return PlannedData(counts, Unknown("the end of a stream is not known"), False, most, most, 0)
    # If Stage I reads only the first token of a row, a row is a feature.
    by_row = task.first_token_only
    if isinstance(tokenizer, Unknown):
        return PlannedData(counts, len(train) if by_row else tokenizer, by_row, most, most, 0)
    sample = spread(train, LOOKED_AT)
    with without_progress_bars():
        lengths = np.asarray(task.encode_training(sample, tokenizer)["length"])
    features = round(len(train) * len(lengths) / len(sample))
    exact = by_row or len(sample) == len(train)
    return PlannedData(counts, features, exact, float(lengths.mean()), int(lengths.max()), len(sample))


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """`datasets` shows no bars inside."""
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
