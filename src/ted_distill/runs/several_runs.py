"""Several runs that share a folder, made together: the seeds of a comparison, the trials of a search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import collect, raise_if_any
from ..progress import remembering, showing
from ..stages.stage_identity import Results
from ..tasks import Task
from .recipe import Recipe
from .run import RunOfRecipe
from .side_by_side.node_graph import is_side_by_side, make_together


@remembering()
def make_runs_together(
    names: Sequence[str],
    recipes: Sequence[Recipe],
    shared: Path,
    task: Task,
    rows: Task | None,
    *,
    held_out_seed: int | None = None,
    predicts: bool = False,
    tolerated: tuple[type[Exception], ...] = (),
) -> list[dict[str, Results]]:
    """Results of the steps of runs, as far as they are not left to be made in order; see `make_together`.

    Args:
        names: what each run is a part of, such as `seed 2 of 5`.
        shared: the folder of what they have in common.
        task: with its rows.
        rows: the task to send to other processes, if its rows are not those that the recipe names.

    Raises:
        InputError: a run is refused; before any of them begins.
        TrainingError: see the stages.
    """
    runs = [RunOfRecipe(recipe, shared, task) for recipe in recipes]
    if not is_side_by_side(recipes[0]):
        # Seeds differ in nothing that is checked, and each run checks itself when its turn comes; what was begun with
        # other settings is said before one goes on.
        searched = held_out_seed is not None
        _check([(name, run) for name, run in zip(names, runs, strict=True) if searched or run.has_begun])
        return [{} for _ in recipes]
    _check(list(zip(names, runs, strict=True)))
    started = [run.as_started(name, predicts) for name, run in zip(names, runs, strict=True)]
    with showing(quiet=started[0].steps.is_quiet):
        return make_together(started, rows, held_out_seed, tolerated)


def _check(runs: Sequence[tuple[str, RunOfRecipe]]) -> None:
    """Check runs that share a folder, and what they share with the first. Raises `InputError` for all at once."""
    problems: list[str] = []
    for number, (name, run) in enumerate(runs):
        found: list[str] = []
        if number:
            run.given = {step.name: {} for step in run.nodes if run.is_shared(step.name)}
        with collect(found):
            run.check()
        # What the first finds may be of all of them.
        problems += [f"{name}: {one}" if number else one for one in found if one not in problems]
    raise_if_any(problems)
