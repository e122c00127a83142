"""The recipes of a comparison: the same one with another seed, other settings of a method, and the last weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import IterableDataset

from ...errors import raise_if_any, shown
from ...tasks import Task
from ...wording import and_list
from ..recipe import Recipe, make_recipe
from ..recipe_keys import SCORE_ON

Settings = dict[str, Any]
CHOOSES = {"eval_strategy", "load_best_model_at_end", "metric_for_best_model", "early_stopping_patience"}
"""Keys by which a recipe asks for the best of several evaluations."""

_ONE_ORDER: dict[str, Callable[[Any], bool]] = {
    "train_sampling_strategy": lambda value: value == "sequential",
    "data_seed": lambda value: value is not None,
}
"""Keys, and which of their values give the rows one order, whatever the seed."""


def recipe_of(
    recipe: Recipe, folder: Path, methods: Sequence[str], settings: Mapping[str, Settings], seed: int | None = None
) -> Recipe:
    """A recipe for a run of its own.

    Args:
        folder: of the run.
        methods: those that it trains, and no others.
        settings: method -> keys that win over the recipe's.
        seed: of the methods; None for a trial, which has the recipe's. What comes before the methods keeps it.
    """
    # What must hold at the end, and what is kept then, is of the whole comparison. Nothing is chosen on further data.
    of_others = {"require", "keep"} | ({SCORE_ON} if seed is None else set())
    content = {key: copy.deepcopy(value) for key, value in recipe.content.items() if key not in of_others}
    for method in methods:
        section = content.setdefault(method, {})
        section |= last_weights(recipe, method) | settings.get(method, {})
        section |= {} if seed is None else {"seed": seed}
    made = make_recipe({**content, "methods": list(methods), "output_dir": str(folder)})
    # A recipe adds `alone`, which a trial of another method has no use for.
    made.run.methods = list(methods)
    made.run.workers = recipe.run.workers
    return made


def refuse_one_order(recipe: Recipe, task: Task, grid: Mapping[str, Sequence[Any]], seeds: int) -> None:
    """Refuse several seeds that all have the rows in one order: the spread over them would say nothing.

    Raises:
        InputError: names the keys, and the methods that they are for.
    """
    if seeds == 1 or isinstance(task.rows.get("train"), IterableDataset):  # a stream has an order of its own
        return
    problems = []
    for key, is_one_order in _ONE_ORDER.items():
        by_method = {name: grid.get(key) or [recipe.stage(name).get(key)] for name in recipe.run.methods}
        fixed = {name: next(filter(is_one_order, values), None) for name, values in by_method.items()}
        if found := {name: value for name, value in fixed.items() if value is not None}:
            problems.append(
                f"{key}: expected rows in another order for each seed of {and_list([*found])}, got "
                f"{shown(next(iter(found.values())))}, which is one order for all; leave it out, or give --seeds 1"
            )
    raise_if_any(problems)


def last_weights(recipe: Recipe, method: str) -> Settings:
    """Keys that make the last weights the result, scored once; none if the recipe says how weights are chosen.

    The best of several evaluations on the reported rows is too good, and the more so the more evaluations there are.
    """
    if CHOOSES & recipe.stage(method).keys():
        return {}
    return {"eval_strategy": "no", "load_best_model_at_end": False}
