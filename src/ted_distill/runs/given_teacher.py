"""The labels of a teacher that is taken as it is: the task of a run has them too, as that of a single stage does."""

from __future__ import annotations

from ..models.load import offer_to_task
from ..tasks import Task
from .recipe import Recipe
from .recipe_keys import FROM_SCRATCH


def offer_teacher_labels(recipe: Recipe, task: Task) -> Task:
    """The task, which was told the labels of the recipe's teacher, and how the rows were read that it was trained on,
    unless it is fine-tuned on the task's own.

    To be called before rows are held out: a part of the rows keeps the labels that all had.
    """
    if not task.has_offer and not recipe.tunes("teacher") and not recipe.content.get(FROM_SCRATCH):
        offer_to_task(str(recipe.run.teacher), task, recipe.model)
    return task
