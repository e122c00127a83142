"""The fastest number type of a machine, and frozen models in that type."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import nn

from ..method.exact_linear import ExactLinear

FrozenDtype = Literal["auto", "float32", "bfloat16", "float16"]
FROZEN_DTYPES = get_args(FrozenDtype)


def does_bfloat16_well(device: torch.device) -> bool:
    """Whether the device has its own instructions for bfloat16 matrix products, instead of using those of float32."""
    if device.type == "cuda":
        return bool(torch.version.hip) or torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and any(_cpu_capabilities().get(name) for name in ("amx_bf16", "avx512_bf16"))


def _cpu_capabilities() -> dict[str, bool]:
    if hasattr(torch.cpu, "get_capabilities"):
        return dict(torch.cpu.get_capabilities())
    # Before about torch 2.10.
    return {
        "amx_bf16": torch.cpu._is_amx_tile_supported(),
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
    }


def resolve_dtype(frozen_dtype: str, device: torch.device, fp16: bool = False) -> torch.dtype:
    """The type of a frozen model's weights.

    Args:
        frozen_dtype: one of `FROZEN_DTYPES`; `auto` is bfloat16 if the device supports it well, float16 if the
            stage trains in float16, and float32 otherwise.
    """
    if frozen_dtype != "auto":
        return getattr(torch, frozen_dtype)
    if does_bfloat16_well(device):
        return torch.bfloat16
    return torch.float16 if fp16 else torch.float32


def cast_weights(module: nn.Module, dtype: torch.dtype) -> None:
    """Round a module's weights to a type, but not its buffers: the angles of rotary positions must stay exact.

    The layer that makes a score keeps its own, see `ExactLinear`.
    """
    for part in module.modules():
        if not isinstance(part, ExactLinear):
            for weight in part.parameters(recurse=False):
                weight.data = weight.data.to(dtype)


def restore_weights(model: nn.Module, originals: nn.Module) -> None:
    """Give a cast model the weights of its uncast copy; both then share them."""
    for weight, original in zip(model.parameters(), originals.parameters(), strict=True):
        weight.data = original.data
