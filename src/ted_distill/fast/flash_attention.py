"""DeBERTa-v2 and v3 on CUDA: attention by the Triton kernels of `disentangled-flash`, and no work on padding.

The package (extra `gpu`) computes the attention of `disentangled_attention` without a (T, T) matrix, forward and
backward. Its attention modules replace those of transformers; the encoder, its layers and everything else remain.
Before the first block, the rows of a batch are put one after another without their padding. Every resulting state is
put back, with zeros at padding. So all hidden states are available, and gradient checkpointing is that of transformers.

Only this packed form is used. The package's kernels for padded batches are compiled again for every number of rows
and every length if there is a backward, which takes longer than it saves; those for packed batches are not.

Cases that the package does not support are computed as before: `output_attentions`, masks that are not right padding,
devices other than CUDA, float64, and `torch.compile`, where a batch without padding has a different size each time.

The modules themselves are in `flash_encoder`, which is imported only for a DeBERTa.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import nn

from ..errors import InputError
from .attention import holds_deberta


def flash_attention_available(device: torch.device) -> bool:
    """Whether the kernels run on `device`: an NVIDIA GPU as of Ampere, and `disentangled-flash` installed."""
    if device.type != "cuda" or torch.version.cuda is None or torch.cuda.get_device_capability(device) < (8, 0):
        return False
    try:
        _library("triton")
    except InputError:
        return False
    return True


def use_flash_attention(model: nn.Module, *, training: bool, backend: str = "triton") -> bool:
    """Make the DeBERTa-v2 encoders inside `model` use the attention of `disentangled-flash`.

    Outputs and gradients at real tokens are the same up to rounding; hidden states at padding become zero.
    Dropout of attention probabilities stays, but draws different numbers. Config, names of weights and saved
    checkpoints do not change. The model may be moved and cast before or after.

    Args:
        training: True for a model that is trained: its parameters stay the same objects, so an optimizer may be
            made before or after. False for a frozen model: weights of query, key and value are joined, results that
            depend only on weights are computed once, and parameters are replaced. New weights are noticed if they
            are set by `load_state_dict` or as new `data`, but not if they are changed in place. The package's modules
            for it can be neither copied nor pickled.
        backend: `torch` is the package's slow version of the kernels that runs anywhere, for tests.

    Returns:
        False, with nothing changed, if there is no such encoder or one that the package does not support.

    Raises:
        InputError: the package is not installed.
        ValueError: `training` is False for a model whose parameters want gradients.
    """
    if backend not in ("triton", "torch"):
        raise ValueError(f"backend: expected triton or torch, got {backend}")
    if not holds_deberta(model):
        return False
    from .flash_encoder import Settings, supported_encoders, swap_attention

    undo_flash_attention(model)
    encoders = supported_encoders(model, backend)
    if not encoders:
        return False
    if not training and any(parameter.requires_grad for encoder in encoders for parameter in encoder.parameters()):
        raise ValueError("flash attention without training replaces parameters: freeze the model first")
    package = _library(backend)
    for encoder in encoders:
        swap_attention(encoder, package, Settings(training, backend))
    return True


def undo_flash_attention(model: nn.Module) -> int:
    """Undo `use_flash_attention`: the modules are again as they were before.

    Returns:
        The number of encoders changed back.
    """
    if not holds_deberta(model):
        return 0
    from .flash_encoder import FlashEncoder, restore_attention

    encoders = [module for module in model.modules() if type(module) is FlashEncoder]
    for encoder in encoders:
        restore_attention(encoder)
    return len(encoders)


def _library(backend: str) -> Any:
    """The package, imported only here: it imports Triton, which takes a second and is not available everywhere.

    Raises:
        InputError: it is not installed.
    """
    try:
        if backend == "triton":
            importlib.import_module("triton")
        return importlib.import_module("disentangled_flash")
    except ImportError as error:
        raise InputError(
            f"flash attention: expected the package disentangled-flash, got an import error ({error}); "
            "install it with `pip install 'ted-distill[gpu]'`"
        ) from error
