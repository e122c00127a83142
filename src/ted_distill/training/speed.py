"""The same model in less time: changes that the stages make inside a model while they use it, and undo afterwards."""

from __future__ import annotations

import logging

import torch
from datasets import Dataset, IterableDataset
from torch import nn
from transformers import PreTrainedModel

from ..errors import InputError
from ..fast.attention import undo_fast_attention, use_fast_attention
from ..fast.dropout import undo_fast_dropout, use_fast_dropout
from ..fast.embeddings import predicts_tokens, seen_tokens, token_table, undo_seen_embeddings, use_seen_embeddings
from ..fast.flash_attention import flash_attention_available, undo_flash_attention, use_flash_attention
from ..fast.packed_linear import undo_packed_linear
from ..tasks.base import Task
from .sharded.shard_arguments import asks_for_fsdp
from .stage_arguments import StageArguments

logger = logging.getLogger(__name__)

_ADAMW = ("adamw_torch", "adamw_torch_fused")


def use_fast_modules(model: nn.Module, args: StageArguments, *, frozen: bool = False, flash: bool = True) -> None:
    """Swap attention and dropout, as set by `disentangled_attention` and `fast_dropout`.

    Args:
        model: its weights, names and saved files do not change.
        frozen: the model is only read; it has its final device and type, and is not saved until this is undone.
        flash: False where queries, keys and values are recorded: flash attention has those of real tokens alone.

    Raises:
        InputError: `flash` was asked for, but its package or a GPU is missing.
    """
    if frozen:
        model.requires_grad_(False)
    if args.disentangled_attention != "plain":
        use_fast_attention(model, frozen=frozen)
    asked = args.disentangled_attention == "flash" and flash
    if asked and args.device.type != "cuda":
        raise InputError(
            f"disentangled_attention: expected an NVIDIA GPU for flash, got {args.device}; use fast or auto"
        )
    if asked or (flash and args.disentangled_attention == "auto" and flash_attention_available(args.device)):
        used = use_flash_attention(model, training=not frozen)  # modules it does not support keep the above
        if asked and not used:
            logger.warning(
                "disentangled_attention: expected a model that flash supports, got %s; using its other attention",
                type(model).__name__,
            )
    if args.fast_dropout and not frozen:
        use_fast_dropout(model)


def freeze_unseen_rows(
    model: PreTrainedModel, args: StageArguments, task: Task, features: Dataset, pad_token_id: int | None
) -> None:
    """Freeze embedding rows of tokens that are not in `features`, if the optimizer would not change them anyway.

    Call it before the optimizer is made. Only with AdamW, without weight decay, and if it at least halves the table.
    """
    table = token_table(model)
    # A model that predicts tokens trains the rows of all of them; those of a stream are not known, nor what random
    # changes put in.
    if table is None or isinstance(features, IterableDataset) or predicts_tokens(model) or task.augments():
        return
    if not args.freeze_unseen_embeddings or args.weight_decay or args.optim not in _ADAMW or asks_for_fsdp(args):
        return
    tokens = seen_tokens(features)
    if pad_token_id is not None:
        tokens = torch.cat([tokens, torch.tensor([pad_token_id])]).unique()
    if 2 * len(tokens) <= table.num_embeddings:
        rows = use_seen_embeddings(model, tokens)
        logger.info("%d of %d word embeddings occur in the training data", rows, table.num_embeddings)


def undo_fast_modules(model: PreTrainedModel) -> None:
    """Undo `use_fast_modules` and `freeze_unseen_rows`; the model is then as transformers made it."""
    undo_seen_embeddings(model)
    undo_packed_linear(model)
    undo_flash_attention(model)
    undo_fast_dropout(model)
    undo_fast_attention(model)
