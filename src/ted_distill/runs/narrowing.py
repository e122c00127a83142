"""How a recipe's narrower student gets its weights, and everything that these follow from."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

from ..identity import Identity, head_fingerprint
from ..models.students import make_student
from ..stages.rows.task_rows import rows_identity, task_rows
from ..tasks import Task
from .recipe import Recipe, stage_arguments
from .recipe_keys import FINETUNE
from .run_arguments import RunArguments


def student_narrow(run: RunArguments) -> str:
    """How a narrower student gets its weights: a run has rows of the task, so that it can tell what is important."""
    return run.student_narrow or "important"


def narrowing_identity(recipe: Recipe, model: PreTrainedModel, task: Task) -> Identity:
    """What a narrower student of this model depends on besides its backbone, blocks and width; empty for any other."""
    if not recipe.run.student_hidden_size:
        return {}
    narrow = student_narrow(recipe.run)
    if narrow == "important":
        rows = rows_identity(task, _seed(recipe))
        return {"narrow": narrow, "rows": rows, "head": head_fingerprint(model)}
    return {"narrow": narrow, **({"seed": _seed(recipe)} if narrow == "random" else {})}


def make_recipe_student(recipe: Recipe, source: str, blocks: list[int], folder: Path, task: Task) -> None:
    """Write the student of blocks of `source`, of the recipe's width, into `folder`. Raises `InputError`."""
    width, narrow, seed = recipe.run.student_hidden_size, student_narrow(recipe.run), _seed(recipe)
    rows = task_rows(source, task, recipe.model, seed) if width and narrow == "important" else None
    make_student(source, blocks, folder, recipe.model, width, narrow, seed, rows, task)


def _seed(recipe: Recipe) -> int:
    return int(stage_arguments(recipe, FINETUNE[1])[0].seed)
