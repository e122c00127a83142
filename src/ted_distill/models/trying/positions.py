"""How many tokens a model can read: as many as its table of positions has rows, if it has such a table."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...errors import InputError
from ...tasks.base import Task

logger = logging.getLogger(__name__)

_TABLE = re.compile(r"(^|\.)(wpe|pos_emb|position_embed\w*|positions_embed\w*|embed_positions|pos_encoder)$")
_WHERE_STEADY = " that are the same in every batch (rope_type dynamic or longrope)"
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


def steady_length(model: PreTrainedModel) -> int | None:
    """Tokens up to which a row has the same positions in every batch; None if it always has.

    Longer rows have other angles with `rope_type` dynamic and longrope, for all rows of their batch, or from then on.
    """
    limits: list[int] = []
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        for name, kind in kinds.items() if isinstance(kinds, dict) else [("", kinds)]:
            if kind == "dynamic":
                limits.append(int(getattr(module, "original_max_seq_len")))  # noqa: B009  (not of every module)
            elif kind == "longrope":
                config: Any = module.config
                parameters = config.rope_parameters[name] if name else config.rope_parameters
                limits.append(int(parameters["original_max_position_embeddings"]))
    return min(limits, default=None)


def reading_limit(model: PreTrainedModel) -> int | None:
    """Tokens that a model is known to read, alike in every batch, without being tried out; None if nothing says so."""
    limits = position_limit(model), steady_length(model)
    return min((limit for limit in limits if limit is not None), default=None)


def _offset(table: nn.Embedding) -> int:
    """Rows before that of the first token."""
    if isinstance(offset := getattr(table, "offset", None), int):  # OPT, BART
        return offset
    return 0 if table.padding_idx is None else table.padding_idx + 1  # RoBERTa


def fit_length(
    limit: int | None, tokenizer: PreTrainedTokenizerBase, task: Task, name: str, *, steady: bool = False
) -> None:
    """Cut rows to what a model can read, by the limit of its tokenizer; refuse a greater length that was asked for.

    Args:
        limit: tokens that the model can read; None if rows can be as long as the task makes them.
        steady: the limit is a `steady_length`.

    Raises:
        InputError: `max_seq_length` is more than the limit.
    """
    longest = task.longest(tokenizer)
    if limit is None or longest <= limit:
        return
    called = f"{name} has positions" + (_WHERE_STEADY if steady else "")
    if task.arguments.max_seq_length:
        raise InputError(
            f"max_seq_length: expected at most {limit} tokens, as many as {called}, got {longest}; set "
            f"--max_seq_length {limit} or less"
        )
    logger.warning(
        "max_seq_length: expected the %d tokens that are usual for this task, got %d, as many as %s; cutting "
        "rows there", longest, limit, called,
    )  # fmt: skip
    tokenizer.model_max_length = limit


def length_limit(model: PreTrainedModel, wanted: int, reads: Callable[[int], bool]) -> int | None:
    """Tokens that a model can read, alike in every batch, if that is fewer than wanted; None otherwise.

    Args:
        reads: whether the model reads a row of this many tokens.
    """
    steady = steady_length(model)
    if steady is not None and steady < wanted:
        return length_limit(model, steady, reads) or steady
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
