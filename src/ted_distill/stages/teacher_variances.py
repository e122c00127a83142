"""How much the teacher's states vary: what `normalized_mse` divides by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..errors import InputError
from ..method.filters import FilteredModel
from ..method.layer_losses import states_variances
from ..tasks.base import Task
from ..training.stage_arguments import StageArguments
from ..training.updates import collate

LOOKED_AT = 512
"""Number of features on which variances are measured."""


def measure_variances(
    teacher: FilteredModel,
    task: Task,
    args: StageArguments,
    tokenizer: PreTrainedTokenizerBase,
    features: Dataset | IterableDataset,
) -> Tensor:
    """(K,) variance of each pair's teacher states, over real tokens of `drawn` features, averaged over F.

    Raises:
        InputError: the states are the same for every token, so there is nothing to match.
    """
    rows_left = iter(drawn(features, args.seed))

    def batches() -> Iterator[tuple[list[Tensor], Tensor]]:
        while rows := list(islice(rows_left, args.per_device_train_batch_size)):
            batch = {name: tensor.to(args.device) for name, tensor in collate(rows, task, tokenizer).items()}
            yield teacher(batch).states, task.mask(batch)

    variances = states_variances(batches())
    constant = [block for block, variance in zip(teacher.blocks, variances.tolist(), strict=True) if not variance > 0]
    if constant:
        raise InputError(
            f"layer_loss: normalized_mse divides by the variance of the teacher's states, and that of block "
            f"{constant[0]} is {variances.min():g}; learn its filters anew or use layer_loss mse"
        )
    return variances


def drawn(features: Dataset | IterableDataset, seed: int, most: int = LOOKED_AT) -> Iterable[dict[str, Any]]:
    """At most `most` features, drawn at random: the first ones of a sorted file are not like the others.

    Those of a stream are its first, which come out of a shuffled buffer.
    """
    if isinstance(features, IterableDataset):
        return islice(features, most)
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))
    return features.select(order[:most].sort().values.tolist())
