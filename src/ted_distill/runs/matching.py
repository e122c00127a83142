"""The blocks that a recipe's student is made of, the pairs that are matched, and the filters that Stage I learns."""

from __future__ import annotations

from ..method.pairs import resolve_pairs
from ..method.shapes import num_blocks, width
from ..models.blocks import resolve_blocks
from ..models.load import load_config
from ..models.narrowing.narrow import narrow_config
from ..models.students import descends_from, made_of
from ..stages import DistillArguments, LearnFiltersArguments
from ..stages.methods import token_methods
from ..tasks import load_task
from .recipe import Recipe
from .recipe_keys import FROM_SCRATCH


def student_blocks(recipe: Recipe, total: int) -> list[int] | None:
    """The blocks, of `total`, that the student is made of; None for a student that is not made. Raises `InputError`."""
    run = recipe.run
    if not run.makes_student:
        return None
    first = load_task(recipe.task).keeps_first_blocks
    return resolve_blocks(total, run.student_layers, run.student_num_layers, first)


def run_pairs(recipe: Recipe) -> list[tuple[int, int]]:
    """(teacher block, student block) of a recipe; see `method.pairs.resolve_pairs`. Empty if no method matches layers.

    Raises:
        InputError: blocks that the models do not have, or intervals that do not match.
    """
    run = recipe.run
    if not token_methods(run.methods):
        return []
    teacher = str(run.teacher)
    task = load_task(recipe.task)
    source = load_config(str(run.student or teacher), recipe.model, task)
    blocks = student_blocks(recipe, num_blocks(source))
    if run.student_hidden_size:
        narrow_config(source, run.student_hidden_size, "student_hidden_size")
    return resolve_pairs(
        num_blocks(load_config(teacher, recipe.model, task)),
        len(blocks) if blocks else num_blocks(source),
        pairs=run.pairs,
        teacher_filter_interval=run.teacher_filter_interval,
        filter_interval=run.filter_interval,
        made_of=None if run.pairs else copied_blocks(recipe, blocks),
    )


def copied_blocks(recipe: Recipe, blocks: list[int] | None) -> list[int] | None:
    """The teacher's block that each of the student's was copied from, as Stage II finds them; None where none was.

    Args:
        blocks: see `student_blocks`.
    """
    run, teacher = recipe.run, str(recipe.run.teacher)
    if run.made_of_teacher or recipe.content.get(FROM_SCRATCH):
        return blocks if run.made_of_teacher else None
    if blocks is None:
        return made_of(str(run.student), teacher, recipe.model)
    return blocks if descends_from(teacher, str(run.student), recipe.model, load_task(recipe.task)) else None


def fill_pairs(own: DistillArguments, pairs: list[tuple[int, int]]) -> None:
    """Give a method the run's pairs where its section names no blocks of its own."""
    named = [f"{teacher}:{student}" for teacher, student in pairs]
    if own.of_method.matches_states and not any((own.pairs, own.filter_interval, own.teacher_filter_interval)):
        own.pairs = named
    # A section with intervals finds its pairs, and so its last one, when its stage is opened.
    last = own.pairs or ([] if own.filter_interval or own.teacher_filter_interval else named)
    if own.of_method.matches_relations and own.attention_pair is None and last:
        own.attention_pair = last[-1]


def filter_arguments(recipe: Recipe) -> dict[str, LearnFiltersArguments]:
    """Filters of one width for both models, after the blocks of the pairs; for a recipe with method ted.

    Raises:
        InputError: see `run_pairs`.
    """
    run = recipe.run
    filter_width = run.filter_output_dim or width(load_config(str(run.teacher), recipe.model))
    return {
        owner: LearnFiltersArguments(
            1, filter_width, run.filter_nonlinear, sorted(blocks), run.filter_init, run.filter_token
        )
        for owner, blocks in zip(("teacher", "student"), zip(*run_pairs(recipe), strict=True), strict=True)
    }
