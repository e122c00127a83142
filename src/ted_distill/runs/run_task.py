"""The task of a run, and those of its further data."""

from __future__ import annotations

from ..models.load import offer_to_task
from ..tasks import Task, load_task
from .recipe import Recipe, score_on_arguments
from .recipe_keys import FROM_SCRATCH, SCORE_ON


def task_of_run(recipe: Recipe, task: Task | None = None) -> Task:
    """The task of a recipe. As that of a single stage, it was told the labels of a teacher that is taken as it is, and
    how the rows were read that this teacher was trained on.

    To be called before rows are held out: a part of the rows keeps the labels that all had.

    Args:
        task: the recipe's, where it was loaded before.
    """
    task = load_task(recipe.task) if task is None else task
    if not task.has_offer and not recipe.tunes("teacher") and not recipe.content.get(FROM_SCRATCH):
        offer_to_task(str(recipe.run.teacher), task, recipe.model)
    return task


def further_tasks(recipe: Recipe) -> dict[str, Task]:
    """The tasks of a recipe's further data (`score_on`) by name."""
    entries = recipe.content.get(SCORE_ON) or {}
    return {name: load_task(score_on_arguments(name, values)) for name, values in entries.items()}
