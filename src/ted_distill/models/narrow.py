"""A narrower copy of a model: the same blocks with fewer heads, of the leading part of the weights or of random ones.

The width of a head stays the same, so that whole heads are kept: the first ones. Whatever comes after them is cut off
every weight matrix, and the remaining rows and columns keep their meaning. Nothing is rescaled: such a student is a
start for a training, not a model to use.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel, set_seed

from ..errors import InputError

WEIGHTS = ("truncated", "random")
_FAMILIES = {
    "albert", "bert", "deberta-v2", "distilbert", "electra", "gpt2", "llama", "mistral", "modernbert", "qwen2", "qwen3",
    "roberta", "xlm-roberta",
}  # fmt: skip
# Matrices that hold several others side by side: (family, end of the module's name) -> how many, and on which axis.
_FUSED = {
    ("gpt2", "attn.c_attn"): (3, -1),
    ("modernbert", "attn.Wqkv"): (3, 0),
    ("modernbert", "mlp.Wi"): (2, 0),
}
_INNER = ("intermediate_size", "hidden_dim", "n_inner")
_AS_WIDE = ("pooler_hidden_size", "embedding_size")
"""Widths that are the hidden size in some models and another number in others."""


def narrow_config(config: PretrainedConfig, hidden_size: int) -> PretrainedConfig:
    """The config of a model of this width: heads and inner width in proportion.

    Raises:
        InputError: a width that is not a whole number of heads.
    """
    width, heads = config.hidden_size, config.num_attention_heads
    shared = heads // (getattr(config, "num_key_value_heads", None) or heads)
    # The smallest step that keeps whole heads, and whole groups of those that share their keys.
    step = width * shared // heads if width * shared % heads == 0 else width
    if not 0 < hidden_size <= width or hidden_size % step:
        nearest = min(range(step, width + 1, step), key=lambda known: abs(known - hidden_size))
        raise InputError(
            f"hidden_size: expected a multiple of {step} up to {width}, which keeps whole heads, got {hidden_size}; "
            f"the nearest is {nearest}"
        )
    values = config.to_dict()
    narrow = copy.deepcopy(config)
    for name in _AS_WIDE:
        if values.get(name) == width:
            setattr(narrow, name, hidden_size)
    for name in _INNER:
        if isinstance(values.get(name), int):
            setattr(narrow, name, max(8, round(values[name] * hidden_size / width / 8) * 8))
    narrow.num_attention_heads = heads * hidden_size // width
    if getattr(config, "num_key_value_heads", None):
        narrow.num_key_value_heads = narrow.num_attention_heads // shared
    narrow.hidden_size = hidden_size
    return narrow


def narrow_model(
    model: PreTrainedModel, hidden_size: int, weights: str = "truncated", seed: int = 42
) -> PreTrainedModel:
    """A model of this width, of the same kind and with the same vocabulary and head.

    Args:
        weights: `truncated` (the leading part of each of the model's weights) or `random` (drawn from `seed`).

    Raises:
        InputError: see `narrow_config`; or weights to be cut in a family whose layout of weights is not known.
    """
    family = model.config.model_type
    if weights not in WEIGHTS:
        raise InputError(f"narrow: expected one of {', '.join(WEIGHTS)}, got {weights}")
    if weights == "truncated" and family not in _FAMILIES:
        raise InputError(
            f"narrow: expected a family whose layout of weights is known, got {family}; use --narrow random"
        )
    set_seed(seed)
    student = type(model)(narrow_config(model.config, hidden_size)).to(model.dtype).train(model.training)
    if weights == "truncated":
        teacher_state = model.state_dict()
        student.load_state_dict(
            {name: _leading(teacher_state, name, weight, family) for name, weight in student.state_dict().items()}
        )
        student.tie_weights()
    return student


def _leading(teacher_state: dict[str, Tensor], name: str, wanted: Tensor, family: str) -> Tensor:
    """The leading part of the teacher's weight of this name, in the wanted shape."""
    if name not in teacher_state:
        raise InputError(f"narrow: expected a weight {name} in the teacher, got no such weight; use --narrow random")
    parts, axis = _parts(name, family)
    shape = list(wanted.shape)
    if parts == 1:
        return teacher_state[name][tuple(slice(0, size) for size in shape)].clone()
    shape[axis] //= parts
    pieces = teacher_state[name].chunk(parts, dim=axis)
    return torch.cat([piece[tuple(slice(0, size) for size in shape)] for piece in pieces], dim=axis)


def _parts(name: str, family: str) -> tuple[int, int]:
    module, _, kind = name.rpartition(".")
    for (known, ending), (parts, axis) in _FUSED.items():
        if known == family and module.endswith(ending):
            return parts, axis if kind == "weight" else 0
    return 1, 0
