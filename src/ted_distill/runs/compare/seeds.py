"""The recipes of a comparison: the same one with another seed, other settings of a method, and the last weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..recipe import Recipe, make_recipe

Settings = dict[str, Any]
CHOOSES = {"eval_strategy", "load_best_model_at_end", "metric_for_best_model", "early_stopping_patience"}
"""Keys by which a recipe asks for the best of several evaluations."""


def recipe_of(
    recipe: Recipe, folder: Path, methods: Sequence[str], settings: Mapping[str, Settings], seed: int | None = None
) -> Recipe:
    """A recipe for a run of its own.

    Args:
        folder: of the run.
        methods: those that it trains, and no others.
        settings: method -> keys that win over the recipe's.
        seed: of the methods [the recipe's]. What comes before the methods keeps the recipe's.
    """
    # What must hold at the end, and what is kept then, is of the whole comparison.
    content = {key: copy.deepcopy(value) for key, value in recipe.content.items() if key not in ("require", "keep")}
    for method in methods:
        section = content.setdefault(method, {})
        section |= last_weights(recipe, method) | settings.get(method, {})
        section |= {} if seed is None else {"seed": seed}
    made = make_recipe({**content, "methods": list(methods), "output_dir": str(folder)})
    # A recipe adds `alone`, which a trial of another method has no use for.
    made.run.methods = list(methods)
    made.run.workers = recipe.run.workers
    return made


def last_weights(recipe: Recipe, method: str) -> Settings:
    """Keys that make the last weights the result, scored once; none if the recipe says how weights are chosen.

    The best of several evaluations on the reported rows is too good, and the more so the more evaluations there are.
    """
    if CHOOSES & recipe.stage(method).keys():
        return {}
    return {"eval_strategy": "no", "load_best_model_at_end": False}
