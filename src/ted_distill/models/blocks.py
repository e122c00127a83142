"""A model of some of another's blocks: which ones, and the copy that keeps them."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from ..entries import typed
from ..errors import InputError, reason_of
from ..method.shapes import is_lone_decoder, num_blocks, text_config
from .as_computed import built_like

_PLACE = re.compile(r"idx|index|layer_id|block_id|layer_num|drop|^training$|^_")
"""Attributes of a module that may differ between a block's old place and its new one."""
_PER_BLOCK = {"attention_window"}
"""Fields of a config with an entry for each block whose names do not say so."""
_NUMBERS = {"attn_layer_indices", "mlp_only_layers", "moe_layers", "cross_attention_layers"}
"""Fields of a config with numbers of blocks, whatever their length."""


def resolve_blocks(total: int, blocks: list[int] | None, num_blocks: int | None, first: bool = False) -> list[int]:
    """The blocks a student keeps: `blocks`, or as many as `num_blocks` says, or all.

    Args:
        first: `num_blocks` are the first ones, in place of evenly spaced ones that end with the last.

    Raises:
        InputError: both are given, or blocks that a model of `total` blocks does not have.
    """
    if blocks is not None and num_blocks is not None:
        raise InputError("layers: expected either layers or num_layers, got both; give one of them")
    if blocks is not None:
        check_blocks(blocks, total)
        return blocks
    if num_blocks is None:
        return list(range(1, total + 1))
    if not 1 <= num_blocks <= total:
        raise InputError(f"num_layers: expected 1 to {total} (the teacher's blocks), got {num_blocks}")
    return [number if first else total * number // num_blocks for number in range(1, num_blocks + 1)]


def check_blocks(blocks: list[int], total: int) -> None:
    """Refuse blocks of a student that a model of `total` blocks does not have.

    Raises:
        InputError: they are not ascending numbers from 1 to `total`.
    """
    if not blocks or any(not 1 <= block <= total for block in blocks) or sorted(set(blocks)) != list(blocks):
        raise InputError(f"student_layers: expected ascending numbers from 1 to {total}, got {blocks}")


@typed
def student_from_teacher(model: PreTrainedModel, blocks: list[int]) -> PreTrainedModel:
    """A copy of `model` that keeps only `blocks` (1-based, in order), with its embeddings and head.

    A model that runs one block again and again (ALBERT) runs it as often as there are `blocks`.

    Raises:
        InputError: a block the model does not have, or a model whose blocks cannot be found.
    """
    total = num_blocks(model.config)
    check_blocks(blocks, total)
    student = copy.deepcopy(model)
    if getattr(student.config, "num_hidden_groups", None) == 1:
        student.config.num_hidden_layers = len(blocks)
        return _rebuilt(student, blocks)
    if getattr(text_config(model.config), "is_heterogeneous", False):
        raise _not_cut(model, "settings of single blocks in its config (per_layer_config)")
    for module in _text_part(student).modules():
        names = [
            name for name, child in module.named_children() if isinstance(child, nn.ModuleList) and len(child) == total
        ]
        if names:
            for name in names:
                kept = [module.get_submodule(f"{name}.{block - 1}") for block in blocks]
                setattr(module, name, nn.ModuleList(kept))
            _fit_config(text_config(student.config), blocks, total)
            _fit_contact_head(student, blocks, total)
            rebuilt = _rebuilt(student, blocks, names)
            for name in names:
                _require_the_same_blocks(student, rebuilt, name, blocks)
            _require_attention(model, rebuilt, blocks)
            return rebuilt
    raise _not_cut(model, f"no list of {total} blocks")


def _not_cut(model: PreTrainedModel, what: str) -> InputError:
    return InputError(
        f"student_layers: expected a model that can be cut, got a {type(model).__name__}, which has {what}; name a "
        "smaller model as the student instead"
    )


def _text_part(model: PreTrainedModel) -> nn.Module:
    """The part of a model that the config of its text describes: one for images may have as many blocks."""
    config = text_config(model.config)
    parts = (part for part in model.modules() if getattr(part, "config", None) is config)
    return model if config is model.config else next(parts, model)


def _fit_contact_head(student: nn.Module, blocks: list[int], total: int) -> None:
    """ESM: what predicts contacts of residues reads the attention of every head of every block."""
    for module in student.modules():
        head: Any = getattr(module, "contact_head", None)
        if head is not None:
            before, one = head.regression, [block - 1 for block in blocks]
            kept = before.weight.data.unflatten(1, (total, -1))[:, one].flatten(1)
            head.in_features = kept.shape[1]
            head.regression = nn.Linear(head.in_features, 1).to(kept)
            head.regression.load_state_dict({"weight": kept, "bias": before.bias.data})


def _fit_config(config: PretrainedConfig, blocks: list[int], total: int) -> None:
    """Let a config describe a model of these blocks alone."""
    config.num_hidden_layers = len(blocks)
    if is_lone_decoder(config):
        config.decoder_layers = len(blocks)
    for key, kinds in _kinds_of_blocks(config, total).items():
        setattr(config, key, [kinds[block - 1] for block in blocks])
    for key, numbers in _numbers_of_blocks(config, total).items():
        setattr(config, key, [blocks.index(n + 1) for n in numbers if n + 1 in blocks])
    if hasattr(config, "attention_types"):  # GPT-Neo makes its list of layers of this one
        config.attention_types = [[config.attention_layers, 1]]


def _kinds_of_blocks(config: PretrainedConfig, total: int) -> dict[str, list[Any]]:
    """Fields of a config with an entry for each block, such as `layer_types` and `no_rope_layers`."""
    return {
        key: value
        for key, value in vars(config).items()
        if ("layer" in key or key in _PER_BLOCK) and isinstance(value, list) and len(value) == total
        if value != list(range(total)) and key not in _NUMBERS
    }


def _numbers_of_blocks(config: PretrainedConfig, total: int) -> dict[str, list[int]]:
    """Fields of a config with numbers of blocks, counted from 0."""
    return {
        key: value
        for key, value in vars(config).items()
        if isinstance(value, list) and (key in _NUMBERS or ("layer" in key and value == list(range(total))))
    }


def _require_attention(model: PreTrainedModel, student: PreTrainedModel, blocks: list[int]) -> None:
    """Refuse a student without any of the blocks with attention among others: transformers' cache needs one of them.

    Raises:
        InputError: names the blocks to choose from.
    """
    teacher, kept = _has_attention(model.config), _has_attention(student.config)
    if any(teacher) and not all(teacher) and not any(kept):
        numbers = ", ".join(str(number) for number, has in enumerate(teacher, start=1) if has)
        raise InputError(
            f"student_layers: expected one of the blocks with attention ({numbers}) among them, got {blocks}, which a "
            f"{type(model).__name__} cannot generate with; choose one of those too"
        )


def _has_attention(config: PretrainedConfig) -> list[bool]:
    """Of each block, whether it has attention to all or to near tokens; empty where all blocks are of one kind."""
    kinds = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or []
    return ["attention" in str(kind) and "linear" not in str(kind) for kind in kinds]


def _require_the_same_blocks(kept: PreTrainedModel, rebuilt: PreTrainedModel, name: str, blocks: list[int]) -> None:
    """Refuse a family in which what a block does depends on its place in ways that its config does not list.

    Args:
        kept: with the blocks as they were; `rebuilt` has those that a reload makes.
        name: of the list of blocks.

    Raises:
        InputError: names what would differ.
    """
    changed = {
        key
        for (path, before), (_, after) in zip(kept.named_modules(), rebuilt.named_modules(), strict=True)
        if f".{name}." in f".{path}."
        for key, value in _settings(before).items()
        if _settings(after).get(key, value) != value
    }
    if changed:
        raise InputError(
            f"student_layers: expected blocks that work at any place, got {blocks} of a {type(kept).__name__}, where "
            f"{', '.join(sorted(changed))} depends on the place; choose blocks that keep it, or give a student"
        )


def _settings(module: nn.Module) -> dict[str, Any]:
    """What a module was made with, but for its place and for dropout, which is off where numbers count."""
    return {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, (bool, int, float, str, type(None))) and not _PLACE.search(key)
    }


def _rebuilt(student: PreTrainedModel, blocks: list[int], names: Sequence[str] = ()) -> PreTrainedModel:
    """The same weights in a model made from the config, as a reload makes it: blocks may depend on their position.

    Args:
        names: of the lists of blocks.
    """
    # A config that does not fit its blocks makes families raise anything.
    try:
        rebuilt = built_like(student, student.config)
        rebuilt.load_state_dict(student.state_dict())
    except Exception as error:
        if not any(re.search(rf"""[."']{re.escape(name)}\.\d""", str(error)) for name in names):
            raise _not_cut(student, f"other weights for each number of blocks ({reason_of(error)})") from error
        first = next(number for number in range(1, len(blocks) + 2) if number not in blocks)
        raise InputError(
            f"student_layers: expected blocks that make a {type(student).__name__}, got {blocks}: in this family the "
            f"weights of a block depend on its position ({reason_of(error)}); keep block {first}, which may be of a "
            "kind of its own, or give a student"
        ) from error
    if student.can_generate():
        rebuilt.generation_config = student.generation_config
    return rebuilt
