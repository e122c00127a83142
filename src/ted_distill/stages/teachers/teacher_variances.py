"""How much the teacher's states vary: what `normalized_mse` divides by."""

from __future__ import annotations

from datasets import Dataset, IterableDataset
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ...errors import InputError
from ...method.filters import FilteredModel
from ...method.layer_losses import states_variances
from ...tasks.base import Task
from ...training.stage_arguments import StageArguments
from ..rows.samples import drawn_batches

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
    batches = drawn_batches(task, args, tokenizer, features, LOOKED_AT)
    variances = states_variances((teacher(batch).states, task.mask(batch)) for batch in batches)
    constant = [block for block, variance in zip(teacher.blocks, variances.tolist(), strict=True) if not variance > 0]
    if constant:
        raise InputError(
            f"layer_loss: normalized_mse divides by the variance of the teacher's states, and that of block "
            f"{constant[0]} is {variances.min():g}; learn its filters again or use layer_loss mse"
        )
    return variances
