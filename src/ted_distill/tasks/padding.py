"""Rows of unequal length -> tensors padded on the right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..errors import InputError
from ..method.filters import Batch

_MULTIPLE = 8
"""Widths of batches are rounded up to this: GPUs multiply such matrices faster, and see fewer different shapes."""


def padded_width(lengths: Sequence[int], longest_allowed: int) -> int:
    """The width of a batch: the length of its longest row, rounded up as far as the model has positions."""
    longest = max(lengths)
    return max(longest, min(-(-longest // _MULTIPLE) * _MULTIPLE, longest_allowed))


def padded(rows: Sequence[Sequence[int]], width: int, fill: int) -> Tensor:
    """Rows of token ids or labels as (B, `width`), with `fill` after each."""
    # numpy takes a row of Python's numbers in a tenth of the time that torch does.
    array = np.full((len(rows), width), fill, dtype=np.int64)
    for number, row in enumerate(rows):
        array[number, : len(row)] = row
    return torch.from_numpy(array)


def padded_batch(
    features: Sequence[Mapping[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    longest_allowed: int,
    fills: Mapping[str, int] | None = None,
) -> Batch:
    """(B, T) `input_ids`, `attention_mask` and, if features have them, `token_type_ids` and the keys of `fills`.

    Args:
        longest_allowed: T is rounded up to a multiple of 8, but not beyond this.
        fills: further columns -> what to put after their rows.
    """
    width = padded_width([len(feature["input_ids"]) for feature in features], longest_allowed)
    every = {
        "input_ids": tokenizer.pad_token_id or 0,
        "attention_mask": 0,
        "token_type_ids": tokenizer.pad_token_type_id,
        **(fills or {}),
    }
    return {
        name: padded([feature[name] for feature in features], width, fill)
        for name, fill in every.items()
        if name in features[0]
    }


def right_padded(batch: Batch) -> Batch:
    """The batch, whose padding is on the right: kept outputs and the last token of a row are found by its length.

    Raises:
        InputError: a row has padding before a token.
    """
    mask = batch.get("attention_mask")
    if mask is not None and mask.dim() == 2 and bool(((mask[:, 1:] != 0) & (mask[:, :-1] == 0)).any()):
        raise InputError(
            "task: expected batches with padding on the right alone, got a row with padding before a token; let the "
            "task's collate put the tokens first"
        )
    return batch
