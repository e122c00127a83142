"""A checkpoint as it was saved: in its own class, with its own head, whatever the task."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
import transformers
from transformers import AutoModel, PretrainedConfig, PreTrainedModel

from ..errors import InputError
from ..identity import file_of_model, pinning
from ..output import check_inputs
from ..output.cards import CARD_NAME
from ..tasks import Task
from .as_computed import in_float32, keep_weights, untie_config
from .load import ModelArguments, load_config
from .places import resolve_place
from .pretrained import load_pretrained

_SEED = 42
"""Of what a checkpoint may lack."""


@pinning()
def load_as_saved(
    name: str | Path,
    arguments: ModelArguments | None = None,
    dtype: torch.dtype | str = torch.float32,
    task: Task | None = None,
) -> PreTrainedModel:
    """A model in the class it was saved from, where that is one of transformers', so that it keeps its head.

    A bare backbone may lack its pooler, as many on the Hub do: that is drawn, the same each time.

    Args:
        dtype: of its weights; `auto` for that of the checkpoint.
        task: what the model is for, if its decoder alone may be that: see `load_config`.

    Raises:
        InputError: no such model, one without some of its weights, or a folder of this package that is damaged.
    """
    name = resolve_place(name)
    check_inputs(name)
    config, hub = load_config(name, arguments), (arguments or ModelArguments()).hub
    kind = saved_class(config, name)
    if task is not None and config.is_encoder_decoder:
        config = load_config(name, arguments, task)
        kind = kind if config.is_encoder_decoder else task.auto_model
    # Some families have a config of their own for another's class. The text half of a model reads its own half of the
    # config, and a class of transformers none of the model's own code.
    is_half = getattr(kind, "config_class", None) in config.sub_configs.values()
    family = {"config": config} if type(config).__module__.startswith("transformers.") and not is_half else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        model, info = load_pretrained(kind, name, hub, dtype=dtype, output_loading_info=True, **family)
    file_of_model(name, CARD_NAME, hub["revision"])
    bare = model.base_model is model
    missing = sorted(key for key in info["missing_keys"] if not (bare and "pooler" in key))
    if missing:
        raise InputError(
            f"model: expected all weights of a {type(model).__name__} in {name}, got a checkpoint without "
            f"{len(missing)} of them (first: {missing[0]}); check that it is complete and of the class that its "
            "config.json names, and merge adapters first"
        )
    untie_config(model, name)
    keep_weights(model.config, name)
    return cast(PreTrainedModel, in_float32(model, name) if dtype == torch.float32 else model)


def saved_class(config: PretrainedConfig, name: str) -> Any:
    """The class that a model was saved from, so that it keeps its head: transformers' own, or its Auto class for the
    model's own code; `AutoModel` where the config names none.

    Raises:
        InputError: a class that neither transformers nor the model's code has.
    """
    named = (config.architectures or [None])[0]
    if named is None:
        return AutoModel
    own = {str(code).rpartition(".")[2]: auto for auto, code in (getattr(config, "auto_map", None) or {}).items()}
    found = getattr(transformers, named, None) or getattr(transformers, own.get(named, ""), None)
    if found is None:
        raise InputError(
            f"model: expected {name} to be of a class that transformers or its own code has, got {named}; correct "
            "`architectures` in its config.json"
        )
    return found
