"""How many tokens a model can read: as many as its table of positions has rows, if it has such a table."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...errors import InputError
from ...tasks.base import Task

logger = logging.getLogger(__name__)

_TABLE = re.compile(r"(^|\.)(wpe|pos_emb|position_embed\w*|positions_embed\w*|embed_positions|pos_encoder)$")
_TRIED = 2048
"""Longest row that is tried out on a model; attention to more tokens takes minutes on a CPU."""


def position_limit(model: PreTrainedModel) -> int | None:
    """Tokens that a model's table of positions has rows for; None if no such table is found."""
    limits = [
        module.num_embeddings - _offset(module)
        for path, module in model.named_modules()
        if isinstance(module, nn.Embedding) and _TABLE.search(path)
    ]
    return min(limits, default=None)


def _offset(table: nn.Embedding) -> int:
    """Rows before that of the first token."""
    if isinstance(offset := getattr(table, "offset", None), int):  # OPT, BART
        return offset
    return 0 if table.padding_idx is None else table.padding_idx + 1  # RoBERTa


def fit_length(limit: int | None, tokenizer: PreTrainedTokenizerBase, task: Task, name: str) -> None:
    """Cut rows to what a model can read, by the limit of its tokenizer; refuse a greater length that was asked for.

    Args:
        limit: tokens that the model can read; None if rows can be as long as the task makes them.

    Raises:
        InputError: `max_seq_length` is more than the limit.
    """
    longest = task.longest(tokenizer)
    if limit is None or longest <= limit:
        return
    if task.arguments.max_seq_length:
        raise InputError(
            f"max_seq_length: expected at most {limit} tokens, as many as {name} has positions, got {longest}; "
            f"set --max_seq_length {limit} or less"
        )
    logger.warning(
        "max_seq_length: expected the %d tokens that are usual for this task, got a model with %d positions, %s; "
        "cutting rows there", longest, limit, name,
    )  # fmt: skip
    tokenizer.model_max_length = limit


def length_limit(model: PreTrainedModel, wanted: int, reads: Callable[[int], bool]) -> int | None:
    """Tokens that a model can read, if that is fewer than wanted; None otherwise.

    Args:
        reads: whether the model reads a row of this many tokens.
    """
    table = position_limit(model)
    if wanted > _TRIED:
        return table if table is not None and table < wanted else None
    if reads(wanted):
        return None
    if table is not None and table < wanted and reads(table) and not reads(table + 1):
        return table
    low, high = 0, wanted
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if reads(middle) else (low, middle)
    return low
