"""A model without dropout, for as long as it is held: its config and its saved files do not change."""

from __future__ import annotations

from torch import nn


def turn_off_dropout(model: nn.Module) -> int:
    """Set every dropout rate inside `model` to 0, so that training mode computes what evaluation mode does.

    Rates are those of dropout modules, and numbers that modules hold under a name with `drop` in it, which they pass to
    a function (`attention_dropout`, `layerdrop`). Gradient checkpointing goes on working, as the mode does not change.

    Returns:
        How many rates were above 0.
    """
    found = 0
    for module in model.modules():
        for name, rate in [*vars(module).items()]:
            is_rate = isinstance(rate, float) and 0 < rate <= 1
            if is_rate and ("drop" in name or (name == "p" and "dropout" in type(module).__name__.lower())):
                setattr(module, name, 0.0)
                found += 1
    return found
