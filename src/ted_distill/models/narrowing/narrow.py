"""A narrower copy of a model: the same blocks with fewer heads, of a part of the weights or of random ones.

The width of a head stays the same, so that whole heads are kept: the first ones, or those that matter (`important`).
Whatever else there was is cut out of every weight matrix, and the remaining rows and columns keep their meaning.
Nothing is rescaled here: such a student is a start for a training, not a model to use.
"""

from __future__ import annotations

import copy
from typing import Literal, get_args

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel, set_seed

from ...errors import InputError, reason_of
from ..as_computed import built_like
from .wiring import WIRINGS, Kept, Wiring

Narrow = Literal["truncated", "random", "important"]
WEIGHTS = get_args(Narrow)
_INNER = (
    "intermediate_size", "hidden_dim", "n_inner", "d_ff", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "d_inner",
    "dff", "ffn_hidden_size", "moe_intermediate_size", "shared_expert_intermediate_size",
)  # fmt: skip
_AS_WIDE = ("pooler_hidden_size", "embedding_size", "word_embed_proj_dim")
"""Widths that are the hidden size in some models and another number in others."""


def narrow_config(config: PretrainedConfig, hidden_size: int, setting: str = "hidden_size") -> PretrainedConfig:
    """The config of a model of this width: heads and inner width in proportion. Messages call the width `setting`.

    Raises:
        InputError: a width that is not a whole number of heads, or a family whose config does not say one width.
    """
    if not all(isinstance(getattr(config, name, None), int) for name in ("hidden_size", "num_attention_heads")):
        raise InputError(
            f"{setting}: expected a model with one width and a number of heads, got a {config.model_type}; leave it out"
        )
    width, heads = config.hidden_size, config.num_attention_heads
    shared = heads // (getattr(config, "num_key_value_heads", None) or heads)
    known = widths(config)
    step = known.step
    if hidden_size not in known:
        nearest = min(known, key=lambda other: abs(other - hidden_size))
        raise InputError(
            f"{setting}: expected a multiple of {step} up to {width}, which keeps whole heads, got {hidden_size}; "
            f"the nearest is {nearest}"
        )
    if loses_projection(config, hidden_size):
        raise InputError(
            f"{setting}: expected another width than that of the embeddings, at which {config.model_type} has no "
            f"projection of them, got {hidden_size}; choose another"
        )
    values = config.to_dict()
    narrow = copy.deepcopy(config)
    for name in _AS_WIDE:
        if values.get(name) == width:
            setattr(narrow, name, hidden_size)
    for name in _INNER:
        if isinstance(values.get(name), int) and hidden_size != width:
            setattr(narrow, name, max(8, round(values[name] * hidden_size / width / 8) * 8))
    narrow.num_attention_heads = heads * hidden_size // width
    if isinstance(values.get("decoder_attention_heads"), int):
        narrow.decoder_attention_heads = values["decoder_attention_heads"] * hidden_size // width
    if getattr(config, "num_key_value_heads", None):
        narrow.num_key_value_heads = narrow.num_attention_heads // shared
    narrow.hidden_size = hidden_size
    return narrow


def loses_projection(config: PretrainedConfig, hidden_size: int) -> bool:
    """Whether a narrower model lacks the projection of its embeddings, whose states then mean something else.

    ELECTRA has one only where its embeddings have another width than its blocks.
    """
    embeddings = getattr(config, "embedding_size", None)
    return config.model_type == "electra" and embeddings == hidden_size != config.hidden_size


def widths(config: PretrainedConfig) -> range:
    """The widths that a narrower model can have, up to the model's own: those that keep whole heads."""
    width, heads = config.hidden_size, config.num_attention_heads
    shared = heads // (getattr(config, "num_key_value_heads", None) or heads)
    # The smallest step that keeps whole heads, and whole groups of those that share their keys.
    step = width * shared // heads if width * shared % heads == 0 else width
    return range(step, width + 1, step)


def narrow_model(
    model: PreTrainedModel, hidden_size: int, weights: str = "truncated", seed: int = 42, kept: Kept | None = None
) -> PreTrainedModel:
    """A model of this width, of the same kind and with the same vocabulary and head.

    Args:
        weights: `truncated` (the leading part of each of the model's weights), `random` (drawn from `seed`) or
            `important` (the part that is `kept`; see `important.important_student`, which finds it).
        kept: with `important`: what of the model is kept.

    Raises:
        InputError: see `narrow_config`; or weights to be cut in a family whose layout of weights is not known.
    """
    check_narrow(model.config.model_type, weights)
    set_seed(seed)
    config = narrow_config(model.config, hidden_size)
    # Families check their own configs, each in its way.
    try:
        student = built_like(model, config)
    except Exception as error:
        raise InputError(
            f"hidden_size: expected a width that a {type(model).__name__} can have, got {hidden_size} "
            f"({reason_of(error, whole=True)}); choose another, or keep the width"
        ) from error
    if weights != "random":
        kept = kept or _leading(model, student)
        wiring = WIRINGS[model.config.model_type]
        state = model.state_dict()
        if lost := sorted(state.keys() - student.state_dict().keys()):
            raise InputError(
                f"hidden_size: expected a width at which a {type(model).__name__} keeps all of its layers, got "
                f"{hidden_size}, without {lost[0]}; choose another, or narrow random"
            )
        student.load_state_dict(
            {name: _part(state, name, weight, wiring, kept) for name, weight in student.state_dict().items()}
        )
    if model.can_generate():
        student.generation_config = copy.deepcopy(model.generation_config)
    return student


def check_narrow(family: str, weights: str) -> None:
    """Refuse unknown kinds of weights, and those that a family cannot have.

    Raises:
        InputError: weights to be cut in a family whose layout of weights is not known.
    """
    if weights not in WEIGHTS:
        raise InputError(f"narrow: expected one of {', '.join(WEIGHTS)}, got {weights}")
    if weights != "random" and family not in WIRINGS:
        raise InputError(f"narrow: expected a family whose layout of weights is known, got {family}; use narrow random")


def key_groups(config: PretrainedConfig) -> int:
    """The number of heads, or of groups of heads that share their keys."""
    return int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)


def inner_width(config: PretrainedConfig) -> int:
    """The number of neurons of a block; GPT-2's may be left to follow from its width."""
    return next((int(found) for name in _INNER if (found := getattr(config, name, None))), 4 * config.hidden_size)


def block_names(model: PreTrainedModel) -> list[str]:
    """Names of the modules that are the model's blocks, in order; a block that is used again and again has one."""
    wiring = WIRINGS[model.config.model_type]
    places = [wiring.place(name) for name, _ in model.named_modules()]
    return [block for block, role in places if role == "after_heads"]


def _leading(model: PreTrainedModel, student: PreTrainedModel) -> Kept:
    """The leading part of everything."""
    blocks = block_names(model)
    heads, neurons = torch.arange(key_groups(student.config)), torch.arange(inner_width(student.config))
    return Kept(
        torch.arange(student.config.hidden_size),
        dict.fromkeys(blocks, heads), dict.fromkeys(blocks, neurons), key_groups(model.config),
    )  # fmt: skip


def _part(state: dict[str, Tensor], name: str, wanted: Tensor, wiring: Wiring, kept: Kept) -> Tensor:
    """The kept part of the teacher's weight of this name, in the wanted shape."""
    if name not in state:
        raise InputError(f"narrow: expected a weight {name} in the teacher, got no such weight; use narrow random")
    found = state[name]
    for axis, (before, after) in enumerate(zip(found.shape, wanted.shape, strict=True)):
        if before != after:
            found = found.index_select(axis, kept.along(wiring, name, axis, before).to(found.device))
    return found.clone()
