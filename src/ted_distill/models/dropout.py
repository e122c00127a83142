"""A model without dropout, for as long as it is held: its config and its saved files do not change."""

from __future__ import annotations

import copy
import functools
import inspect
import re
from typing import Any

from torch import nn
from transformers import PreTrainedModel

_RATE_OF_CONFIG = re.compile(r"self\.config\.\w*drop")
_NOISE = {"jitter_noise", "input_jitter_noise"}
"""Numbers of a mixture of experts that count in training alone."""


def turn_off_dropout(model: nn.Module, kind: str = "drop") -> int:
    """Set every dropout rate inside `model` to 0, so that training mode computes what evaluation mode does.

    Rates are those of dropout modules, numbers that modules hold under a name with `drop` in it, which they pass to a
    function (`attention_dropout`, `layerdrop`), and those that modules look up in the config (Falcon), which then get a
    copy of it; also the noise that experts are chosen with in training (Mixtral). Gradient checkpointing goes on
    working, as the mode does not change.

    Args:
        kind: what the names of the rates have in them: with `layerdrop`, blocks are no longer left out, and all else
            is as it was.

    Returns:
        How many rates were above 0.
    """
    found = 0
    for module in model.modules():
        for name, rate in [*vars(module).items()]:
            is_rate = isinstance(rate, float) and 0 < rate <= 1
            if is_rate and _is_meant(name, kind, type(module).__name__):
                setattr(module, name, 0.0)
                found += 1
        # The model's own config is saved with it, so that it stays as it is.
        of: Any = type(module)
        if not isinstance(module, PreTrainedModel) and _looks_up_rates(of) and (rates := _rates(module.config, kind)):
            module.config = copy.copy(module.config)
            for name in rates:
                setattr(module.config, name, 0.0)
            found += len(rates)
    return found


@functools.cache
def _looks_up_rates(kind: type[nn.Module]) -> bool:
    """Whether a forward reads dropout rates in the module's config."""
    try:
        return bool(_RATE_OF_CONFIG.search(inspect.getsource(kind.forward)))
    except (OSError, TypeError):
        return False


def _is_meant(name: str, kind: str, of: str) -> bool:
    """Whether a number of a module is a rate of this kind.

    Args:
        of: the name of the module's class.
    """
    if kind in name:
        return True
    return kind == "drop" and (name in _NOISE or (name == "p" and "dropout" in of.lower()))


def _rates(config: Any, kind: str) -> list[str]:
    """The names of a config's dropout rates above 0."""
    return [
        name for name, value in vars(config).items() if kind in name and isinstance(value, float) and 0 < value <= 1
    ]
