"""Whether a run's models can go through all of its stages, found out before the first of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import InputError, collect, raise_if_any
from ..models.load import load_model
from ..stages.methods import METHODS
from ..tasks import Task
from ..training.fitting_memory import check_recomputing
from .recipe import Recipe, stage_arguments


def check_models(recipe: Recipe, models: dict[str, str], task: Task) -> None:
    """Load the models that a run starts from, as its first stages will.

    Args:
        models: those that exist already, by role: `teacher`, `student`.

    Raises:
        InputError: with all problems: a model cannot do the task, or a later stage needs hidden states it lacks.
    """
    problems: list[str] = []
    for owner, name in models.items():
        stage, tuned = f"finetune_{owner}", recipe.tunes(owner)
        with collect(problems), remedy_of_a_recipe(stage):
            arguments = stage_arguments(recipe, stage)[1] if tuned else recipe.model
            loaded = load_model(name, task, arguments, new_head=tuned)
            # A student is of the family of what it is made of.
            for trained in ([stage] if tuned else []) + ([*recipe.run.methods] if owner == list(models)[-1] else []):
                check_recomputing(loaded.model, stage_arguments(recipe, trained)[0])
            if any(METHODS[name].matches_states for name in recipe.run.methods):
                loaded.require_states()
            if any(METHODS[name].matches_relations for name in recipe.run.methods):
                loaded.require_relations()
    raise_if_any(problems)


@contextmanager
def remedy_of_a_recipe(stage: str) -> Iterator[None]:
    """Say how a recipe fine-tunes a model that must be fine-tuned first, by the stage that it says not to run."""
    try:
        yield
    except InputError as error:
        remedy = rf"\1 take {stage}: false out of the recipe, or fine-tune "
        problems = [re.sub(r"(;|,) (?:or )?fine-tune ", remedy, problem) for problem in error.problems]
        raise InputError(problems) from error
