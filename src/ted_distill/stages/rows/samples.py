"""Samples of the training rows on which a stage measures something before it trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase

from ...method.filters import Batch
from ...progress import watched
from ...tasks.base import Task
from ...training.stage_arguments import StageArguments
from ...training.updates import collate, row_seeds

SAMPLE_TOKENS = 100_000
"""Tokens on which states are measured, about: enough for covariances of a width of thousands."""


def drawn(features: Dataset | IterableDataset, seed: int, most: int) -> Iterable[dict[str, Any]]:
    """At most `most` features, drawn at random: the first ones of a sorted file are not like the others.

    Those of a stream are its first, which come out of a shuffled buffer.
    """
    if isinstance(features, IterableDataset):
        return islice(features, most)
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))
    return features.select(order[:most].sort().values.tolist())


def drawn_batches(
    task: Task,
    args: StageArguments,
    tokenizer: PreTrainedTokenizerBase,
    features: Dataset | IterableDataset,
    most: int | None = None,
    size: int | None = None,
) -> Iterator[Batch]:
    """Batches of features drawn by the seed, on the stage's device; tokens are hidden in them as in training.

    Args:
        most: features [as many as have about `SAMPLE_TOKENS` tokens]. They are in the order of the file: whoever takes
            only the first batches has the beginning of a sorted file.
        size: features of a batch [as many as in training].
    """
    if most is None:
        length = task.max_seq_length if isinstance(features, IterableDataset) else np.mean(features["length"][:])
        most = max(1, int(SAMPLE_TOKENS / length))
    if not isinstance(features, IterableDataset):
        most = min(most, len(features))
    rows = watched(drawn(features, args.seed, most), "measuring states", most, "rows")
    for number in count():
        chosen = list(islice(rows, size or args.per_device_train_batch_size))
        if not chosen:
            return
        batch = collate(chosen, task, tokenizer)
        batch = task.augment(batch, tokenizer, row_seeds(batch, args.seed, number))
        yield {name: tensor.to(args.device) for name, tensor in batch.items()}
