"""Settings chosen for each method on rows held out of the training rows, by the same grid for all of them."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from datasets import IterableDataset

from ...errors import NotFiniteError, nearest, raise_if_any, shown
from ...fast.states_cache import CACHE_NAME, remove_caches
from ...identity import fingerprint
from ...output import MANIFEST_NAME, on_main
from ...progress import within
from ...stages import DistillArguments
from ...stages.methods import METHODS
from ...stages.rows.held_out import hold_out
from ...tasks import Task
from ...training.scores.best_score import deciding_score, score_names
from ...training.stage_arguments import StageArguments
from ...training.stage_defaults import LEAST_ROWS
from ..parsing import field_names
from ..recipe import Recipe, stage_arguments
from ..run import RunOfRecipe
from ..several_runs import make_runs_together
from .seeds import Settings, recipe_of

logger = logging.getLogger(__name__)

Grid = Mapping[str, Sequence[Any]]
"""Key of Stage II -> the values to try."""


_FLAGS = {"seed": "; --seeds N tries several", "method": "; --methods names those to compare"}
"""What a comparison has flags for."""
_OF_THE_CHOICE = ("metric_for_best_model", "greater_is_better", "load_best_model_at_end")
"""Keys that define the selection metric."""


@dataclass(frozen=True)
class Search:
    """What was tried for each method, and what was chosen."""

    chosen: dict[str, Settings]
    scores: dict[str, dict[str, float]]
    """Method -> `key=value ...` -> score on the rows held out."""
    rows: int
    """How many were held out."""
    metrics: dict[str, str]
    """Method -> the score that chose."""
    teacher_given: bool
    """Whether the teacher was fine-tuned elsewhere, and so may have been trained on the rows held out."""


def check_grid(grid: Grid, recipe: Recipe, task: Task, folder: Path) -> None:
    """Refuse a grid that cannot be searched.

    Raises:
        InputError: with all problems: unknown keys, keys that no method uses, wrong values, a stream, too few rows.
    """
    problems = []
    known = field_names(StageArguments, DistillArguments) - {"output_dir", "method", "seed", *_OF_THE_CHOICE}
    for key, values in grid.items():
        users = [method for method in recipe.run.methods if key not in METHODS[method].unused]
        if key in _OF_THE_CHOICE:
            problems.append(
                f"grid: expected keys that one score can choose between, got {key}, which says what the score is; set "
                "it in the recipe"
            )
        elif key not in known:
            hint = _FLAGS.get(key) or nearest(key, known) or "; docs/recipes.md has all of them"
            problems.append(f"grid: expected keys of Stage II, got {key}{hint}")
        elif not users:
            problems.append(f"grid: {key} means nothing to {', '.join(recipe.run.methods)}; leave it out")
        elif isinstance(values, str) or not isinstance(values, Sequence):
            problems.append(f"grid: expected a list of values of {key}, got {shown(values)}; write [{shown(values)}]")
        elif not values:
            problems.append(f"grid: expected values of {key} to try, got none; write {key}=1,10")
    raise_if_any(problems)
    rows = task.rows.get("train")
    if isinstance(rows, IterableDataset):
        problems.append("grid: expected training rows of which some can be held out, got a stream; leave it out")
    elif rows is not None and len(rows) < LEAST_ROWS:
        problems.append(
            f"grid: expected at least {LEAST_ROWS} training rows, as some are held out to choose on, got {len(rows)}; "
            "leave it out"
        )
    raise_if_any(problems)
    for method, points in points_of(grid, recipe.run.methods).items():
        for point in points:
            stage_arguments(recipe_of(recipe, folder, [method], {method: point}), method)


def search(grid: Grid, recipe: Recipe, task: Task, folder: Path, rows: Task | None = None) -> Search:
    """Train every method with every combination of the keys that it uses, on the rows that are not held out.

    Everything is made anew on those rows, the teacher too if it is fine-tuned here, so that nothing has seen the rows
    that choose. Of equal scores the first wins. A method without a choice is not trained.

    Args:
        folder: of the trials; the same call goes on where it was cut off.
        rows: the task, if its rows are not those that the recipe names.

    Raises:
        NotFiniteError: no combination trains a method to finite weights.
    """
    seed = stage_arguments(recipe, "finetune_teacher")[0].seed
    split = hold_out(task, seed)
    teacher_given = not recipe.tunes("teacher")
    if teacher_given:
        logger.warning(
            "grid: expected a teacher that has not seen the rows held out, got one that may have been trained on them, "
            "so that settings that leave its blocks as they were look too good; let the recipe fine-tune it if it can"
        )
    scores: dict[str, dict[str, float]] = {method: {} for method in recipe.run.methods}
    points = points_of(grid, recipe.run.methods)
    tried = _tried(points)
    trials = [
        recipe_of(recipe, folder / place, [method], {method: point})
        for (method, point), place in zip(tried, _folder_names(tried), strict=True)
    ]
    names = [_trying(point) for _, point in tried]
    given: list[dict[str, Any]] = []
    if trials:
        given = make_runs_together(names, trials, folder, split, rows, held_out_seed=seed, tolerated=(NotFiniteError,))
    shared: dict[str, Any] = {}
    for (method, point), trial, made in zip(tried, trials, given, strict=True):
        started = RunOfRecipe(trial, folder, split)
        scores[method] |= _score(started, method, point, {**shared, **made}, split)
        # What all trials share is not opened again for each of them.
        shared |= {step: result for step, result in started.steps_made.items() if started.is_shared(step)}
    decides = {method: _decides(recipe, method, split) for method in points}
    chosen = {
        method: _best(method, of_method, scores[method], decides[method][1]) for method, of_method in points.items()
    }
    on_main(lambda: remove_caches(folder / CACHE_NAME))
    metrics = {method: metric for method, (metric, _) in decides.items()}
    scores = {method: found for method, found in scores.items() if found}
    return Search(chosen, scores, len(split.rows["validation"]), metrics, teacher_given)


def _best(method: str, points: list[Settings], scores: Mapping[str, float], sign: int) -> Settings:
    """Of a method's combinations the one with the best score, of several the first; the only one needs none.

    Args:
        sign: 1 where greater scores are better, otherwise -1.

    Raises:
        NotFiniteError: no combination has a score.
    """
    if len(points) == 1:
        return points[0]
    finite = [point for point in points if name_of(point) in scores]
    if not finite:
        raise NotFiniteError(
            f"grid: expected a combination that trains {method}, but the loss became infinite or NaN with each; try "
            "lower learning rates"
        )
    return max(finite, key=lambda point: sign * scores[name_of(point)])


def _score(trial: RunOfRecipe, method: str, point: Settings, given: dict[str, Any], split: Task) -> dict[str, float]:
    """The score of one trial by its name; none if its weights became infinite."""
    try:
        if isinstance(given.get(method), Exception):
            raise given[method]
        with within(_trying(point)):
            found = trial.all_results(given)[method]
    except NotFiniteError as error:
        logger.warning("grid: %s with %s failed (%s)", method, name_of(point), error)
        return {}
    metric, _ = _decides(trial.recipe, method, split)
    score = float(found[f"last_{metric}"] if f"last_{metric}" in found else found[metric])
    logger.warning("grid: %s with %s: %s %.2f on the rows held out", method, name_of(point), metric, score)
    return {name_of(point): score}


def _decides(recipe: Recipe, method: str, split: Task) -> tuple[str, int]:
    """The score on the rows held out that chooses for a method, and its sign."""
    return deciding_score(stage_arguments(recipe, method)[0], split, score_names(split))


def _trying(point: Settings) -> str:
    return f"trying {name_of(point)}"


def points_of(grid: Grid, methods: Sequence[str]) -> dict[str, list[Settings]]:
    """Method -> the combinations of the keys that it uses."""
    found = {}
    for method in methods:
        keys = [key for key in grid if key not in METHODS[method].unused]
        found[method] = [dict(zip(keys, values, strict=True)) for values in product(*(grid[key] for key in keys))]
    return found


def _tried(points: Mapping[str, list[Settings]]) -> list[tuple[str, Settings]]:
    """Each method that has a choice with each of its combinations."""
    return [(method, point) for method, of_method in points.items() if len(of_method) > 1 for point in of_method]


def is_searched(points: Mapping[str, list[Settings]], method: str, folder: Path) -> bool:
    """Whether every trial of a method was made, so that a search takes no time.

    Args:
        points: the combinations of every method.
        folder: of the trials.
    """
    tried = _tried(points)
    places = [place for (of, _), place in zip(tried, _folder_names(tried), strict=True) if of == method]
    return all((folder / place / method / MANIFEST_NAME).is_file() for place in places)


def name_of(point: Settings) -> str:
    """A combination in words."""
    return " ".join(f"{key}={value}" for key, value in point.items()) or "defaults"


def _folder_names(tried: Sequence[tuple[str, Settings]]) -> list[str]:
    """A name for the folder of each trial; those that would be the same get a part of a fingerprint."""
    names = [re.sub(r"[^\w.=+-]+", "-", f"{method} {name_of(point)}") for method, point in tried]
    return [
        name if names.count(name) == 1 else f"{name}-{fingerprint([method, point])[:8]}"
        for name, (method, point) in zip(names, tried, strict=True)
    ]
