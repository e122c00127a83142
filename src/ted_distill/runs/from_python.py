"""`run`, `compare` and `check_recipe` for Python: recipes as files, dicts or objects, rows and models in memory too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from ..entries import typed
from ..models.given import Model, as_name
from ..stages.stage_identity import Results
from ..tasks import Task, load_task
from ..tasks.reading.given import Rows
from . import run as runs
from .checking import Report
from .compare import comparison
from .compare.search import Grid
from .compare.statistics import RESAMPLES
from .recipe import Recipe, make_recipe, read_recipe
from .recipe_files import find_recipe
from .recorded import refuse_moved

AnyRecipe: TypeAlias = Recipe | str | Path | Mapping[str, Any]
"""A `Recipe`, the file of one, the name of one that comes with the package, or keys and sections."""


@typed
def run(
    recipe: AnyRecipe,
    *,
    train: Rows | None = None,
    validation: Rows | None = None,
    test: Rows | None = None,
    teacher: Model | None = None,
    student: Model | None = None,
) -> dict[str, Results]:
    """Run all stages of a recipe, except those that are finished, write the table, and copy the best student to `best`.

    The report, which `ted run` writes at its end, is left to `write_report(output_dir, task)`.

    Args:
        train, validation, test: rows in place of files: a `datasets.Dataset`, a `pandas.DataFrame` or a list of dicts.
        teacher, student: in place of the recipe's: a folder, a Hub id, or (model, tokenizer).

    Returns:
        Results of teacher, fine-tuned student and each method, by name.

    Raises:
        InputError, TrainingError: see the stages.
        GateError: a requirement of the recipe does not hold; its `results` are what would be returned.
    """
    read, task = _read(recipe, train, validation, test, teacher, student)
    return runs.run(read, task=task)


@typed
def check_recipe(
    recipe: AnyRecipe,
    *,
    train: Rows | None = None,
    validation: Rows | None = None,
    test: Rows | None = None,
    teacher: Model | None = None,
    student: Model | None = None,
) -> Report:
    """What `ted check` finds out about a recipe: its models are loaded, scored on a few rows and trained a few steps.

    Nothing is written, and nothing changes for a run that follows.

    Args:
        train, validation, test, teacher, student: see `run`.

    Returns:
        Facts, doubts and problems; `report.raise_problems()` refuses a recipe with problems.

    Raises:
        InputError: the recipe is refused without any of this.
    """
    read, task = _read(recipe, train, validation, test, teacher, student)
    return runs.check_recipe(read, task)


@typed
def compare(
    recipe: AnyRecipe,
    seeds: int = 5,
    grid: Grid | None = None,
    *,
    train: Rows | None = None,
    validation: Rows | None = None,
    test: Rows | None = None,
    teacher: Model | None = None,
    student: Model | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Train every method of a recipe with several seeds, and say which of them can be told apart.

    Args:
        seeds: how many.
        grid: keys of Stage II and values to try, on rows held out of the training rows, equally for every method.
        train, validation, test, teacher, student: see `run`.
        resamples: draws of the bootstrap.

    Returns:
        What `OUTPUT_DIR/compare/compare.json` holds.

    Raises:
        InputError, TrainingError: see the stages; or a grid that cannot be searched.
        GateError: a requirement of the recipe does not hold for the means; its `results` are what would be returned.
    """
    read, task = _read(recipe, train, validation, test, teacher, student)
    return comparison.compare(read, seeds, grid, resamples, task)


def _read(
    recipe: AnyRecipe,
    train: Rows | None,
    validation: Rows | None,
    test: Rows | None,
    teacher: Model | None,
    student: Model | None,
) -> tuple[Recipe, Task]:
    models = {"teacher": teacher, "student": student}
    changes = {owner: as_name(model) for owner, model in models.items() if model is not None}
    overrides = [f"{owner}={name}" for owner, name in changes.items()]
    if isinstance(recipe, (str, Path)):
        refuse_moved(find_recipe(recipe))
        recipe = read_recipe(recipe, overrides)
    elif changes or not isinstance(recipe, Recipe):
        recipe = make_recipe(recipe.content if isinstance(recipe, Recipe) else recipe, overrides)
    return recipe, load_task(recipe.task, train, validation, test)
