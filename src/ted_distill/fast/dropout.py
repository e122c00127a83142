"""Fast dropout on CPUs: the same distribution from a quarter of the random numbers.

PyTorch draws one Bernoulli number per element from a sequential generator, which takes a fifth of the training step of
a small transformer on a CPU. Here four elements share one 64-bit draw, 16 bits each, so that p is rounded to 1/65536;
the scale makes up for that exactly: the expectation is the input.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

_STEPS = 1 << 16
"""Values of 16 random bits; p is rounded to a multiple of its inverse."""


def use_fast_dropout(model: nn.Module) -> int:
    """Make every dropout inside `model` draw its numbers faster on a CPU; other devices have fast generators.

    The numbers follow from torch's global generator, as before, but they are different: a run can be repeated exactly,
    but differs from a run without this. Weights, config and saved checkpoints do not change.

    Returns:
        The number of modules changed.
    """
    return swap_class(model, nn.Dropout, FastDropout)


def undo_fast_dropout(model: nn.Module) -> int:
    """Undo `use_fast_dropout`. Returns the number of modules changed back."""
    return swap_class(model, FastDropout, nn.Dropout)


def swap_class(model: nn.Module, old: type[nn.Module], new: type[nn.Module]) -> int:
    """Give every module inside `model` whose class is exactly `old` the class `new`; returns how many.

    The class is swapped, rather than setting `forward` on the module: copies and pickles of the module work, and no
    reference cycle keeps a deleted model in memory. Subclasses of `old` are left alone.
    """
    modules = [module for module in model.modules() if type(module) is old]
    for module in modules:
        module.__class__ = new
    return len(modules)


class FastDropout(nn.Dropout):
    """The class of a dropout while `use_fast_dropout` is on."""

    def forward(self, input: Tensor) -> Tensor:
        """Zero each element with probability p and scale the others, in training mode."""
        if not self.training or not draws_fast(self, input):
            return super().forward(input)
        factors = keep_factors(input.shape, self.p, input.dtype)
        return input.mul_(factors) if self.inplace else input * factors


def draws_fast(dropout: nn.Dropout, input: Tensor) -> bool:
    """Whether a dropout uses the fast draw for this input: it is switched, on a CPU, and p is not extreme."""
    # Compiled code draws its numbers inside its own loops.
    usual = 1 / _STEPS < dropout.p < 1 - 1 / _STEPS and not torch.compiler.is_compiling()
    return isinstance(dropout, FastDropout) and usual and input.device.type == "cpu"


def keep_factors(shape: Sequence[int], p: float, dtype: torch.dtype) -> Tensor:
    """The factors of dropout, on the CPU: 0 with probability p, otherwise 1 / (1 - p); without a gradient.

    Args:
        p: above 1/65536 and below 65535/65536.
    """
    factors = torch.empty(shape, dtype=dtype)
    kept = round((1 - p) * _STEPS)
    # numpy's generator, seeded from torch's, takes half the time of torch's.
    draws = np.random.SFC64(int(torch.randint(1 << 62, ()))).random_raw(-(-factors.numel() // 4))
    lanes = torch.from_numpy(draws.view(np.int16))[: factors.numel()].view(shape)
    torch.lt(lanes, kept - _STEPS // 2, out=factors)
    return factors.mul_(_STEPS / kept)
