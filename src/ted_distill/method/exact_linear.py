"""The layer that makes a score, in float32 whatever the rest of the model computes in.

A score is often a small signal on a large offset, the mean score. bfloat16 has 64 steps between 2 and 3 and steps of 4
around 1000, so that scores computed in it are rounded to a few values.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_ROUGH = (torch.bfloat16, torch.float16)


class ExactLinear(nn.Linear):
    """A linear layer that computes in float32 under autocast, and in a model whose other weights are of 16 bits."""

    def forward(self, input: Tensor) -> Tensor:
        """Outputs (..., C) of inputs (..., D), of at least 32 bits."""
        weights = (self.weight, self.bias)
        if not torch.is_autocast_enabled(input.device.type) and not any(
            tensor is not None and tensor.dtype in _ROUGH for tensor in (input, *weights)
        ):
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            weight, bias = (None if one is None else one.to(_fine(one.dtype)) for one in weights)
            return nn.functional.linear(input.to(_fine(input.dtype)), weight, bias)


def make_exact(head: nn.Module, outputs: int) -> None:
    """Let the linear layers of a head that have this many outputs compute in float32; they are saved as before."""
    for layer in head.modules():
        if type(layer) is nn.Linear and layer.out_features == outputs:
            layer.__class__ = ExactLinear


def _fine(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in _ROUGH else dtype
