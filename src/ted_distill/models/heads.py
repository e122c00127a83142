"""Which weights of a model are its backbone's and which its head's, and whether a checkpoint has both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from ..errors import InputError, reason_of
from ..method.exact_linear import make_exact
from ..tasks import Task


def without_weights(
    config: PretrainedConfig, task: Task, trust_remote_code: bool, expected: str, name: str, advice: str
) -> PreTrainedModel:
    """A model with the task's head on the meta device, which has shapes and no weights.

    Args:
        expected, name, advice: for the message: what was expected, what was given, what to do.

    Raises:
        InputError: the family has no such head, or the config makes no model.
    """
    try:
        with torch.device("meta"):
            return task.auto_model.from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:  # families check their configs each in its way
        raise InputError(f"{expected}, got {name} ({reason_of(error)}); {advice}") from error


def check_loaded(model: PreTrainedModel, info: dict[str, Any], name: str, new_head: bool) -> None:
    """Refuse a checkpoint without the whole backbone, or without a trained head unless a new one is wanted.

    Args:
        info: what `from_pretrained` tells about its loading.

    Raises:
        InputError: see above.
    """
    resized = sorted(found for found in info["mismatched_keys"] if in_backbone(found[0], model))
    if resized:
        key, held, wanted = resized[0]
        raise InputError(
            f"model: expected the backbone of {name} in the sizes of its config, got {len(resized)} weights of other "
            f"sizes (first: {key}, {_shape(held)} in place of {_shape(wanted)}); undo the changes of sizes in "
            "config_overrides, or correct its config.json"
        )
    if info["mismatched_keys"] and not new_head:
        key, held, wanted = min(info["mismatched_keys"])
        raise InputError(
            f"model: expected {key} of {name} to have the shape {_shape(wanted)}, as its config asks for, got "
            f"{_shape(held)} in its weights; correct its config.json, such as id2label, or fine-tune the model on this "
            "task first with `ted finetune`"
        )
    missing = sorted(info["missing_keys"])
    backbone = [key for key in missing if in_backbone(key, model) and "pooler" not in key]
    if backbone:
        raise InputError(
            f"model: expected the whole backbone in {name}, got a checkpoint without {len(backbone)} of its weights "
            f"(first: {backbone[0]}); check that it is complete and of the architecture that its config.json names"
        )
    if missing and not new_head:
        raise InputError(
            f"model: expected a trained head for this task in {name}, got a checkpoint without {missing[0]}, which was "
            "never fine-tuned; fine-tune it first with `ted finetune`"
        )


def _shape(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))


def in_backbone(key: str, model: PreTrainedModel) -> bool:
    """Whether a weight is the backbone's and not the head's."""
    backbone = _backbone_name(model)
    return backbone is not None and key.startswith(f"{backbone}.")


def _backbone_name(model: PreTrainedModel) -> str | None:
    """The attribute that holds the backbone; None for a model that is not a backbone with a head."""
    prefix = model.base_model_prefix
    if prefix and isinstance(getattr(model, prefix, None), nn.Module):
        return prefix
    # Remote code may forget its prefix: the backbone is then the part that holds the most weights.
    sizes = {name: sum(weight.numel() for weight in part.parameters()) for name, part in model.named_children()}
    return max(sizes, key=lambda name: sizes[name], default=None)


def make_scores_exact(model: PreTrainedModel) -> None:
    """Let the layers of the head that give one number for each label compute in float32, see `ExactLinear`."""
    for name, module in model.named_children():
        if name != _backbone_name(model):
            make_exact(module, model.config.num_labels)


def renew_head(model: PreTrainedModel) -> None:
    """Draw all weights but the backbone's anew: a head for as many, but different, labels would otherwise stay."""
    for name, module in type(model)(model.config).named_children():
        if name != _backbone_name(model):
            model.get_submodule(name).load_state_dict(module.state_dict())
