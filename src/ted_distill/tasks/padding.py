"""Rows of unequal length -> one tensor, padded on the right."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_MULTIPLE = 8
"""Widths of batches are rounded up to this: GPUs multiply such matrices faster, and see fewer different shapes."""


def padded_width(lengths: Sequence[int], longest_allowed: int) -> int:
    """The width of a batch: its longest row's, rounded up, but no more than a model may have positions."""
    longest = max(lengths)
    return max(longest, min(-(-longest // _MULTIPLE) * _MULTIPLE, longest_allowed))


def padded(rows: Sequence[Sequence[int]], width: int, fill: int) -> Tensor:
    """(B, `width`) of rows of token numbers or labels, `fill` behind each."""
    tensor = torch.full((len(rows), width), fill, dtype=torch.long)
    for number, row in enumerate(rows):
        tensor[number, : len(row)] = torch.as_tensor(row, dtype=torch.long)
    return tensor
