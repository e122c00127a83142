"""Filters on disk: two files beside the model they were learnt on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from ..errors import InputError, raise_if_any
from .filters import FilterConfig, Filters

FILTERS_NAME = "filters.safetensors"


FILTERS_CONFIG_NAME = "filters.json"


def fingerprint(model: nn.Module) -> str:
    """sha256 over names, shapes and bytes of a model's weights: the same weights, and no others, give it again."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_filters(folder: Path, filters: Filters, model: PreTrainedModel) -> None:
    """Write `filters.safetensors` and `filters.json`, which names the model (by its weights) they belong to."""
    if filters.config is None:
        raise ValueError("identity filters have no weights to save")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in filters.state_dict().items()}
    save_file(state, folder / FILTERS_NAME, metadata={"format": "pt"})
    description = {**asdict(filters.config), "model_type": model.config.model_type, "model_sha256": fingerprint(model)}
    (folder / FILTERS_CONFIG_NAME).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def load_filters(folder: str | Path, model: PreTrainedModel, owner: str = "model") -> Filters:
    """Filters saved by `save_filters`, checked against the model they are to read.

    Args:
        owner: "teacher" or "student", for the message.

    Raises:
        InputError: no filters there, damaged files, or filters of another model or width. Filters are never filled
            in at random: that would turn TED into noise without an error.
    """
    folder = Path(folder)
    missing = [name for name in (FILTERS_CONFIG_NAME, FILTERS_NAME) if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{owner} filters: {' and '.join(missing)} expected in {folder}, not found; "
            f"make them with `ted learn-filters --model_name_or_path ... --output_dir {folder}`"
        )
    config, model_sha256 = _read_config(folder, owner)
    raise_if_any(_mismatches(config, model_sha256, model, folder, owner))
    filters = Filters.random(config)
    try:
        filters.load_state_dict(load_file(folder / FILTERS_NAME))
    except (RuntimeError, SafetensorError, OSError) as error:
        raise InputError(
            f"{owner} filters: {folder / FILTERS_NAME} does not hold what {FILTERS_CONFIG_NAME} describes "
            f"({str(error).splitlines()[-1].strip()}); make them again with `ted learn-filters`"
        ) from error
    return filters


def _read_config(folder: Path, owner: str) -> tuple[FilterConfig, str]:
    try:
        description = json.loads((folder / FILTERS_CONFIG_NAME).read_text(encoding="utf-8"))
        model_sha256 = description.pop("model_sha256")
        description.pop("model_type")
        return FilterConfig(**description), model_sha256
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{owner} filters: {folder / FILTERS_CONFIG_NAME} is not a description of filters ({error}); "
            "make them again with `ted learn-filters`"
        ) from error


def _mismatches(config: FilterConfig, model_sha256: str, model: PreTrainedModel, folder: Path, owner: str) -> list[str]:
    """Why these filters cannot read this model's hidden states."""
    again = "give the model they were learnt on, or learn them again with `ted learn-filters`"
    if config.hidden_size != model.config.hidden_size:
        return [
            f"{owner} filters: those in {folder} read hidden states of width {config.hidden_size}, "
            f"the {owner}'s are {model.config.hidden_size} wide; {again}"
        ]
    if max(config.blocks, default=0) > model.config.num_hidden_layers:
        return [
            f"{owner} filters: those in {folder} read block {max(config.blocks)}, "
            f"the {owner} has {model.config.num_hidden_layers}; {again}"
        ]
    if model_sha256 != fingerprint(model):
        return [f"{owner} filters: those in {folder} were learnt on other weights than this {owner}'s; {again}"]
    return []
