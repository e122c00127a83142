"""Filters on disk: two files next to the model that they were trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from ..entries import typed
from ..errors import InputError, raise_if_any, reason_of
from ..identity import file_of_model, fingerprint, weights_fingerprint
from ..wording import and_list
from .filters import FilterConfig, Filters
from .shapes import num_blocks, width

FILTERS_NAME = "filters.safetensors"
FILTERS_CONFIG_NAME = "filters.json"


def filters_fingerprint(filters: Filters) -> str:
    """Fingerprint of the weights and the shape of filters."""
    return _fingerprint(filters.state_dict(), filters.config)


def _fingerprint(weights: Mapping[str, Tensor], config: FilterConfig | None) -> str:
    return fingerprint([weights_fingerprint(weights), config and asdict(config)])


@typed
def save_filters(folder: str | Path, filters: Filters, model: PreTrainedModel) -> None:
    """Write `filters.safetensors` and `filters.json`, which names the model (by its weights) they belong to.

    Args:
        folder: that of the model, which is there already.

    Raises:
        InputError: identity filters, which have no weights.
    """
    folder = Path(folder)
    if filters.config is None:
        raise InputError("filters: expected filters with weights, got identity filters; nothing needs to be saved")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in filters.state_dict().items()}
    save_file(state, folder / FILTERS_NAME, metadata={"format": "pt"})
    description = {
        **asdict(filters.config),
        "model_type": model.config.model_type,
        "model_sha256": weights_fingerprint(model),
        "filters_sha256": filters_fingerprint(filters),
    }
    (folder / FILTERS_CONFIG_NAME).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


@typed
def load_filters(folder: str | Path, model: PreTrainedModel, owner: str = "model") -> Filters:
    """Filters saved by `save_filters`, checked against the model they are to read.

    Args:
        folder: or a Hub id.
        owner: "teacher" or "student", for the message.

    Raises:
        InputError: no filters there, damaged files, or filters of another model or width. Filters are never filled
            in at random: that would turn TED into noise without an error.
    """
    # On the Hub they are beside the model that they read.
    weights_of_hub = file_of_model(str(folder), FILTERS_NAME)
    both = weights_of_hub is not None and file_of_model(str(folder), FILTERS_CONFIG_NAME) is not None
    folder = weights_of_hub.parent if weights_of_hub is not None and both else Path(folder)
    missing = [name for name in (FILTERS_CONFIG_NAME, FILTERS_NAME) if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{owner} filters: expected {and_list(missing)} in {folder}, found no such file; "
            f"make them with `ted learn-filters --model_name_or_path ... --output_dir {folder}`"
        )
    config, sums = _read_config(folder, owner)
    raise_if_any(_mismatches(config, sums, model, folder, owner))
    filters = Filters.random(config)
    try:
        weights = load_file(folder / FILTERS_NAME)
        filters.load_state_dict(weights)
    except (RuntimeError, SafetensorError, OSError) as error:
        raise InputError(
            f"{owner} filters: {folder / FILTERS_NAME} does not hold what {FILTERS_CONFIG_NAME} describes "
            f"({reason_of(error)}); make them again with `ted learn-filters`"
        ) from error
    # Filters written by version 0.1.0 do not have their own sum.
    if sums["filters_sha256"] not in (None, _fingerprint(weights, config)):
        raise InputError(
            f"{owner} filters: {folder / FILTERS_NAME} is damaged: its content is not what {FILTERS_CONFIG_NAME} says; "
            "make them again with `ted learn-filters`"
        )
    return filters


def _read_config(folder: Path, owner: str) -> tuple[FilterConfig, dict[str, Any]]:
    """The shape of the filters, and the sums of their model and of themselves."""
    try:
        description = json.loads((folder / FILTERS_CONFIG_NAME).read_text(encoding="utf-8"))
        sums = {
            "model_sha256": description.pop("model_sha256"),
            "filters_sha256": description.pop("filters_sha256", None),
        }
        description.pop("model_type")
        return FilterConfig(**description), sums
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{owner} filters: {folder / FILTERS_CONFIG_NAME} is not a description of filters ({error}); "
            "make them again with `ted learn-filters`"
        ) from error


def _mismatches(
    config: FilterConfig, sums: dict[str, Any], model: PreTrainedModel, folder: Path, owner: str
) -> list[str]:
    """Why these filters cannot read this model's hidden states."""
    again = "pass the model they were trained with, or learn them again with `ted learn-filters`"
    if config.hidden_size != width(model.config):
        return [
            f"{owner} filters: expected filters of hidden states of width {width(model.config)}, got those in "
            f"{folder}, of width {config.hidden_size}; {again}"
        ]
    if max(config.blocks, default=0) > num_blocks(model.config):
        return [
            f"{owner} filters: expected filters of blocks 1 to {num_blocks(model.config)}, got in {folder} "
            f"that of block {max(config.blocks)}; {again}"
        ]
    if sums["model_sha256"] != weights_fingerprint(model):
        return [f"{owner} filters: those in {folder} were trained with a different model; {again}"]
    return []
