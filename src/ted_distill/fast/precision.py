"""The fastest number type of a machine, and frozen models in that type."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from ..method.exact_linear import ExactLinear

FrozenDtype = Literal["auto", "float32", "bfloat16", "float16"]


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


def resolve_dtype(frozen_dtype: FrozenDtype, device: torch.device, fp16: bool = False) -> torch.dtype:
    """The type of a frozen model's weights.

    Args:
        frozen_dtype: `auto` is bfloat16 if the device supports it well, float16 if the stage trains in float16, and
            float32 otherwise.
    """
    if frozen_dtype != "auto":
        return getattr(torch, frozen_dtype)
    if does_bfloat16_well(device):
        return torch.bfloat16
    return torch.float16 if fp16 else torch.float32


def cast_weights(module: nn.Module, dtype: torch.dtype) -> None:
    """Round a module's weights to a type, but not its buffers: the angles of rotary positions must stay exact.

    The layer that makes a score keeps its own, see `ExactLinear`; so do those that transformers keeps in float32 when
    it loads a model in this type, such as T5's, whose products are too large for float16.
    """
    exact = _kept_in_float32(module, dtype)
    for name, part in module.named_modules():
        if not isinstance(part, ExactLinear) and not exact & {*name.split(".")}:
            for weight in part.parameters(recurse=False):
                weight.data = weight.data.to(dtype)


def cast_buffers(module: nn.Module, dtype: torch.dtype) -> None:
    """Round a module's tables of numbers as well, all but the angles of rotary positions."""
    for name, table in module.named_buffers():
        if table.is_floating_point() and "inv_freq" not in name:
            table.data = table.data.to(dtype)


def _kept_in_float32(module: nn.Module, dtype: torch.dtype) -> set[str]:
    """Names of the modules that transformers does not round to this type."""
    always, of_float16 = "_keep_in_fp32_modules_strict", "_keep_in_fp32_modules"
    asked = {torch.float16: (always, of_float16), torch.bfloat16: (always,)}.get(dtype, ())
    return {name for part in module.modules() for key in asked for name in getattr(part, key, None) or ()}


def restore_weights(model: nn.Module, originals: nn.Module) -> None:
    """Give a cast model the weights and tables of its uncast copy; both then share them."""
    for held, of in ((model.parameters(), originals.parameters()), (model.buffers(), originals.buffers())):
        for tensor, original in zip(held, of, strict=True):
            tensor.data = original.data
