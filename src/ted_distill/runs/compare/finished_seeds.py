"""What finished seeds of a comparison hold, compared with a grid before it is searched."""

from __future__ import annotations

import logging
from pathlib import Path

from ...errors import collect, raise_if_any
from ...output import SETTINGS_NAME
from ...stages.stage_identity import said_together
from ...tasks import Task
from ...wording import and_list
from ..recipe import Recipe
from ..run import RunOfRecipe
from .search import Grid, is_searched, name_of, points_of
from .seeds import Settings, recipe_of

logger = logging.getLogger(__name__)


def check_finished_seeds(grid: Grid, recipe: Recipe, task: Task, shared: Path, folder: Path, seeds: int) -> None:
    """Refuse a search whose choice cannot be what seeds hold that were made before, and warn where it may be another.

    Args:
        shared: the run's folder.
        folder: of the comparison.
        seeds: how many there are to be.

    Raises:
        InputError: no combination of a method is what its seeds hold, or something before the methods has changed.
    """
    points = points_of(grid, recipe.run.methods)
    problems: list[str] = []
    for method, of_method in points.items():
        begun = (seed for seed in range(1, seeds + 1) if (folder / f"seed-{seed}" / method / SETTINGS_NAME).is_file())
        if (seed := next(begun, None)) is None:
            continue
        place = folder / f"seed-{seed}"
        found = [_problems(recipe_of(recipe, place, [method], {method: one}, seed), shared, task) for one in of_method]
        held = [point for point, wrong in zip(of_method, found, strict=True) if not wrong]
        if not held:
            in_all = [problem for problem in found[0] if all(problem in others for others in found)]
            problems += in_all
            if all(len(in_all) < len(others) for others in found):
                first = next(problem for problem in found[0] if problem not in in_all)
                problems.append(
                    f"grid: expected a combination that {method} of the finished seeds has, got none: with "
                    f"{name_of(of_method[0])}, {first}"
                )
        elif len(held) < len(of_method) and not is_searched(points, method, folder / "search"):
            _say_what_may_be(method, held, place)
    raise_if_any(said_together(problems))


def _problems(recipe: Recipe, shared: Path, task: Task) -> list[str]:
    """Why a run is refused that goes on with what is there."""
    problems: list[str] = []
    with collect(problems):
        RunOfRecipe(recipe, shared, task).check(together=False)
    return problems


def _say_what_may_be(method: str, held: list[Settings], place: Path) -> None:
    logger.warning(
        "grid: expected the choice for %s to be %s, as %s holds that, got other combinations too; if one of them is "
        "better, the comparison ends after the search, whose trials stay: delete %s of each seed then, and repeat the "
        "command, or give another output_dir now",
        method, and_list([name_of(point) for point in held]), place / method, method,
    )  # fmt: skip
