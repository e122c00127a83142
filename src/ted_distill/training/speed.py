"""The same model in less time: what the stages change inside a model while they use it, and take back after."""

from __future__ import annotations

import logging

import torch
from datasets import Dataset, IterableDataset
from torch import nn
from transformers import PreTrainedModel

from ..errors import InputError
from ..fast.attention import use_fast_attention, use_plain_attention
from ..fast.dropout import use_fast_dropout, use_plain_dropout
from ..fast.embeddings import seen_tokens, train_all_embeddings, train_seen_embeddings
from ..fast.flash_attention import flash_attention_available, undo_flash_attention, use_flash_attention
from ..fast.packed_linear import use_packed_linear, use_plain_linear
from .stage_arguments import StageArguments

logger = logging.getLogger(__name__)

_ADAMW = ("adamw_torch", "adamw_torch_fused")


def make_fast(model: nn.Module, args: StageArguments, *, frozen: bool = False) -> None:
    """Change attention, dropout and linear layers as `disentangled_attention`, `fast_dropout`, `packed_linear` say.

    Args:
        model: weights, names and saved files stay what they are.
        frozen: the model is only read; it is where it will be, and in its type, and is not saved before `make_plain`.

    Raises:
        InputError: `flash` was asked for, and its package or a GPU is missing.
    """
    if frozen:
        model.requires_grad_(False)
    if args.disentangled_attention != "plain":
        use_fast_attention(model, frozen=frozen)
    asked = args.disentangled_attention == "flash"
    if asked and args.device.type != "cuda":
        raise InputError(
            f"disentangled_attention: flash needs an NVIDIA GPU, the stage runs on {args.device}; use fast or auto"
        )
    if asked or (args.disentangled_attention == "auto" and flash_attention_available(args.device)):
        used = use_flash_attention(model, training=not frozen)  # what it does not do stays with the above
        if asked and not used:
            logger.warning("disentangled_attention: flash does not know this model; it attends as without it")
    if args.fast_dropout and not frozen:
        use_fast_dropout(model)
    if args.packed_linear and frozen and not args.torch_compile:
        use_packed_linear(model)


def train_seen_rows(model: PreTrainedModel, args: StageArguments, features: Dataset, pad_token_id: int | None) -> None:
    """Let embedding rows of tokens that `features` lack be, where the optimizer would not change them anyway.

    Before the optimizer is made. Only with AdamW and without weight decay, and where it halves the table at least.
    """
    table = model.get_input_embeddings()
    # A model that predicts tokens trains the rows of all of them; and a stream cannot be looked through.
    if isinstance(features, IterableDataset) or model.get_output_embeddings() is not None:
        return
    if not args.freeze_unseen_embeddings or args.weight_decay or args.optim not in _ADAMW:
        return
    tokens = seen_tokens(features)
    if pad_token_id is not None:
        tokens = torch.cat([tokens, torch.tensor([pad_token_id])]).unique()
    if 2 * len(tokens) <= table.num_embeddings:
        rows = train_seen_embeddings(model, tokens)
        logger.info("%d of %d word embeddings occur in the training data", rows, table.num_embeddings)


def make_plain(model: PreTrainedModel) -> None:
    """Take back what `make_fast` and `train_seen_rows` did: the model is again what transformers made of it."""
    train_all_embeddings(model)
    use_plain_linear(model)
    undo_flash_attention(model)
    use_plain_dropout(model)
    use_plain_attention(model)
