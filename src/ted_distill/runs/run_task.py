"""The task of a run, and those of its further data."""

from __future__ import annotations

from ..models.load import offer_to_task
from ..tasks import Task, load_task
from .recipe import Recipe, score_on_arguments
from .recipe_keys import FROM_SCRATCH, SCORE_ON


def task_of_run(recipe: Recipe, task: Task | None = None) -> Task:
    """The task of a recipe. As that of a single stage, it was told the labels of a teacher that is taken as it is, and
    how the rows were read that this teacher was trained on; and by which score all stages choose.

    To be called before rows are held out: a part of the rows keeps the labels that all had.

    Args:
        task: the recipe's, where it was loaded before.
    """
    task = load_task(recipe.task) if task is None else task
    task.decides = _score_of_all_stages(recipe)
    if not task.has_offer and not recipe.tunes("teacher") and not recipe.content.get(FROM_SCRATCH):
        offer_to_task(str(recipe.run.teacher), task, recipe.model)
    return task


def _score_of_all_stages(recipe: Recipe) -> str | None:
    """The score that every stage is told to choose by; None where they are told none, or not the same one."""
    named = {str(recipe.stage(name).get("metric_for_best_model") or "") for name in recipe.stages}
    return named.pop().removeprefix("eval_") or None if len(named) == 1 else None


def further_tasks(recipe: Recipe) -> dict[str, Task]:
    """The tasks of a recipe's further data (`score_on`) by name."""
    entries = recipe.content.get(SCORE_ON) or {}
    return {name: load_task(score_on_arguments(name, values)) for name, values in entries.items()}
