"""A few rows that stand for all: those that a check scores on, and batches like those of the training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase

from ...fast.states_cache import ROW
from ...tasks import QuestionAnswering, Task
from ...tasks.reading.overlap import row_texts
from ...training.sharded.shares import EpochLengthSampler, EpochSampler
from ...training.stage_arguments import StageArguments
from ..spread import middles, spread

TRAIN_ROWS = 1000
"""Training rows whose lengths stand for those of all."""
_LONGEST = 64
"""Number of longest rows that are added to them."""
_SEARCHED = 200_000
"""Number of rows that are searched for the longest."""
_MULTIPLE = 8
"""Batches are padded to a multiple of this."""


def sample_task(task: Task, scored: int) -> Task:
    """The same task with few of its rows: `TRAIN_ROWS` training rows and the longest ones beside them.

    Args:
        scored: rows of each split but the training rows.
    """
    rows = {name: spread(found, TRAIN_ROWS if name == "train" else scored) for name, found in task.rows.items()}
    train = task.rows["train"]
    if not isinstance(train, IterableDataset) and len(train) > TRAIN_ROWS:
        rows["train"] = _with_longest(rows["train"], train, task)
    found = task.with_rows(rows)
    # Rows without labels are batches like the others.
    found.leave_out_unlabelled()
    return found


def with_fewer_scored(sample: Task, scored: int) -> Task:
    """The sample with fewer rows in each split but the training rows."""
    return sample.with_rows(
        {name: rows if name == "train" else spread(rows, scored) for name, rows in sample.rows.items()}
    )


def _with_longest(sample: Dataset, rows: Dataset, task: Task) -> Dataset:
    """The sample, and after it the rows with the most characters."""
    columns = task.text_columns(rows)
    # Windows and blocks of text are as long as they may be anyway.
    if task.running_text or isinstance(task, QuestionAnswering) or not columns:
        return sample
    some = spread(rows, _SEARCHED)
    lengths = pc.utf8_length(row_texts(some, columns)).to_numpy(zero_copy_only=False)
    numbers = np.argsort(-lengths, kind="stable")[:_LONGEST].tolist()
    found = {name: [*sample[name], *some[numbers][name]] for name in sample.column_names}
    return Dataset.from_dict(found, features=sample.features)


@dataclass(frozen=True)
class Batches:
    """Batches of a sample's features: numbers of rows, and the tokens they hold, padding included."""

    longest: list[int]
    """The batch that needs most memory."""
    timed: list[list[int]]
    """Batches spread evenly over the sizes, the middle one first."""
    tokens: list[int]
    """Of each timed batch."""
    mean_tokens: float
    """Of all batches of the sample."""

    @property
    def order(self) -> list[list[int]]:
        """The longest, then every timed one twice: the second time, outputs of a frozen model are kept already."""
        return [self.longest, *(batch for batch in self.timed for _ in range(2))]

    def features(self, features: Dataset) -> Dataset:
        """The features of all these batches, one after the other; a feature has one number wherever it occurs."""
        numbers = [number for batch in self.order for number in batch]
        chosen = features.select(numbers)
        places: dict[int, int] = {}
        rows = [places.setdefault(number, place) for place, number in enumerate(numbers)]
        if ROW in chosen.column_names:
            chosen = chosen.remove_columns(ROW)
        return chosen.add_column(ROW, np.array(rows))


def choose_batches(features: Dataset, args: StageArguments, looked_at: int, most: int) -> Batches:
    """Batches as the training would make them, were the sample all there is.

    Args:
        looked_at: how many of the first features are like all the others; those after them are the longest ones.
        most: batches to time.
    """
    lengths = np.asarray(features["length"][:])
    size = args.per_device_train_batch_size
    usual = lengths[:looked_at]
    if args.train_sampling_strategy == "group_by_length":
        order = list(EpochLengthSampler(size * args.gradient_accumulation_steps, usual.tolist(), args.seed))
    else:
        order = list(EpochSampler(len(usual), args.seed))
    order = (order * -(-size // len(order)))[: max(size, len(order) // size * size)]
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    by_size = sorted(batches, key=lambda batch: _padded(usual, batch))
    number = min(most, len(by_size))
    chosen = [by_size[place] for place in middles(len(by_size), number)]
    chosen.sort(key=lambda batch: abs(by_size.index(batch) - len(by_size) // 2))
    longest = np.argsort(-lengths, kind="stable").tolist()
    longest = (longest * -(-size // len(longest)))[:size]
    mean = float(np.mean([_padded(usual, batch) for batch in batches]))
    return Batches(longest, chosen, [_padded(usual, batch) for batch in chosen], mean)


def _padded(lengths: np.ndarray, batch: list[int]) -> int:
    """Tokens of a batch, padding included."""
    return len(batch) * -(-int(lengths[batch].max()) // _MULTIPLE) * _MULTIPLE


def encode_sample(task: Task, tokenizer: PreTrainedTokenizerBase) -> tuple[Dataset, int]:
    """Features of the sampled training rows, and how many of the first of them are like all others."""
    rows = task.rows["train"]
    features = task.encode_training(rows, tokenizer)
    usual = min(TRAIN_ROWS, len(rows))
    return features, len(features) if len(features) != len(rows) else usual
