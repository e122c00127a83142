"""`ted compare`: every method with several seeds, from one start, equally long, and whether they can be told apart.

RUN/                            the run's folder: what all seeds share (teacher, filters, start) is made once, there
RUN/compare/seed-N/METHOD       a student, and its predictions in seed-N/predictions/METHOD
RUN/compare/search/...          the trials of a grid, on rows held out of the training rows
RUN/compare/recipe.yaml  compare.json  compare.md  run.log
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError, collect, raise_if_any, shown
from ...fast.states_cache import CACHE_NAME, remove_caches
from ...models.trying.known import knowing_models
from ...output import (
    atomic_files,
    check_writable,
    locked,
    on_main,
    refuse_busy,
    remove_leftovers,
    write_json,
)
from ...progress import logged_into, within
from ...stages.stage_identity import Results
from ...tasks import Task
from ...tasks.base import TEST
from ...tasks.resampling import Draws
from ...training.scores.best_score import score_names
from ...wording import and_list
from ..dropped_models import KEPT_NAME
from ..further_data import offer_run_data
from ..gates import NO_SCORES, check_models, check_scores, read_requirement, require
from ..kept_predictions import Predictions, scored_split
from ..parsing import plain_values
from ..recipe import Recipe
from ..recipe_keys import OWNERS
from ..recorded import (
    COMPARISON,
    RECIPE_NAME,
    in_memory,
    read_commits,
    record_commits,
    recorded_text,
    refuse_unrecorded,
)
from ..run import RunOfRecipe, look_first
from ..run_folder import COMPARISON_NAME
from ..run_task import further_tasks, task_of_run
from ..several_runs import make_runs_together
from . import statistics
from .finished_seeds import check_finished_seeds
from .search import Grid, Search, check_grid, search
from .seeds import recipe_of, refuse_one_order
from .verdicts import mean_of, page, summary, verdicts

logger = logging.getLogger(__name__)

_HEAD = "# The recipe of this comparison, as `ted compare` read it.\n"


@dataclass(frozen=True)
class _Seed:
    """What one seed gave."""

    results: dict[str, Results]
    predictions: dict[str, Predictions]
    """Of the teacher, the student as it starts, and every method."""
    sampled: dict[str, np.ndarray]
    """Method -> (R,) scores on drawn examples."""
    steps: dict[str, Results]
    """Results of all steps of its run."""
    shared: list[str]
    """The steps that are the same for every seed."""


@knowing_models()
def compare(
    recipe: Recipe,
    seeds: int = 5,
    grid: Grid | None = None,
    resamples: int = statistics.RESAMPLES,
    task: Task | None = None,
) -> dict[str, Any]:
    """Train every method of a recipe with several seeds, and compare them.

    All methods have the same data, start, updates and number of evaluations; the last weights are scored, unless the
    recipe says how others are chosen. What is finished is skipped, so that seeds can be added later.

    Args:
        seeds: how many: 1, 2, ...; they set the order of the rows and what else is random in the methods.
        grid: keys of Stage II and values to try, on rows held out of the training rows, equally for every method.
        resamples: draws of the bootstrap.
        task: with rows of its own [the recipe's].

    Returns:
        What `RUN/compare/compare.json` holds.

    Raises:
        InputError, TrainingError: see the stages; or a grid that cannot be searched.
        GateError: a requirement of the recipe does not hold for the means.
    """
    seeds, resamples = plain_values(seeds), plain_values(resamples)
    _check_numbers(seeds, resamples, len(recipe.run.methods))
    shared = Path(str(recipe.run.output_dir))
    folder = shared / COMPARISON
    read_commits(shared)
    rows, task = task, task_of_run(recipe, task)
    further = _further_scores(recipe, task)
    _check_requirements(recipe, task, further)
    _say_what_is_left_out(recipe)
    check_writable(folder)
    for of_run_too in (shared, folder):
        refuse_busy(of_run_too)
    refuse_unrecorded(folder, (RECIPE_NAME, COMPARISON_NAME), _HEAD, "comparison")
    _check_models(shared)
    grid = {key: plain_values(values) for key, values in (grid or {}).items()}
    _check_seeds(grid, recipe, task, seeds)
    # A run in the same folder makes the same teacher and filters, and may delete what it no longer needs.
    with locked(shared), locked(folder), logged_into(folder):
        record_commits(shared)
        on_main(lambda: None if (folder / RECIPE_NAME).exists() else _record(folder, recipe, task))
        found = search(grid, recipe, task, folder / "search", rows) if grid else None
        names = [f"seed {seed} of {seeds}" for seed in range(1, seeds + 1)]
        recipes = [_of_seed(recipe, folder, seed, found) for seed in range(1, seeds + 1)]
        given = make_runs_together(names, recipes, shared, task, rows, predicts=True)
        # A recipe that is refused leaves that of the comparison that is there.
        on_main(lambda: _record(folder, recipe, task))
        done: list[_Seed] = []
        for name, of_seed, made in zip(names, recipes, given, strict=True):
            with within(name):
                # What all seeds share is not opened again for each of them.
                known = {step: done[0].steps[step] for step in (done[0].shared if done else ())}
                done.append(_run_seed(of_seed, shared, task, resamples, {**known, **made}, done[0] if done else None))
            content = _content(recipe, task, done, found, resamples, further)
            on_main(partial(_write, folder, content))
        on_main(lambda: remove_caches(shared / CACHE_NAME))
    require(recipe.run.require or [], _means(content), content)
    return content


def _check_requirements(recipe: Recipe, task: Task, further: Sequence[str]) -> None:
    """Refuse requirements on models and scores that a comparison does not have."""
    requirements = recipe.run.require or []
    problems = check_models([read_requirement(text) for text in requirements], [*OWNERS, *recipe.run.methods])
    known = [*task.score_names, *further]
    if scored_split(task) == TEST:
        known += [f"{TEST}_{name}" for name in task.score_names]
        for text in requirements:
            if of_rows := sorted({score for _, score in read_requirement(text).names} & {*task.score_names}):
                logger.warning(
                    "require: %s is that of the test rows in a comparison; write %s_%s to say so",
                    of_rows[0], TEST, of_rows[0],
                )  # fmt: skip
    with collect(problems):
        check_scores(requirements, [*known, *NO_SCORES], task.lower_is_better)
    problems += [
        f"require: expected seconds of a method in a comparison, got those of {model} in {shown(text)}; give another"
        for text in requirements
        for model, score in read_requirement(text).names
        if score == "seconds" and model in OWNERS
    ]
    raise_if_any(problems)


def _means(content: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The mean of each number of each method, and the scores and parameters of teacher and student."""
    scores, sizes = content["scores"], content["parameters"]
    means = {name: scores[name] | content["further"][name][0] for name in OWNERS} | {
        name: mean_of(scores[name])
        | mean_of(content["further"][name])
        | mean_of([{"seconds": seconds} for seconds in content["seconds"][name]])
        for name in content["methods"]
    }
    if content["split"] == TEST:
        means = {
            name: numbers | {f"{TEST}_{score}": numbers[score] for score in scores["teacher"]}
            for name, numbers in means.items()
        }
    return {name: numbers | ({"parameters": sizes[name]} if name in sizes else {}) for name, numbers in means.items()}


def _further_scores(recipe: Recipe, task: Task) -> list[str]:
    """Names of the scores on the data of `score_on`."""
    found = []
    for data, other in further_tasks(recipe).items():
        offer_run_data(task, other)
        found += [f"{data}_{name}" for name in score_names(other)]
    return found


def _say_what_is_left_out(recipe: Recipe) -> None:
    """A comparison has no best model."""
    asked = {"keep: best": recipe.run.keep == "best", "student_trim": recipe.run.student_trim is not None}
    if left := [name for name, is_asked in asked.items() if is_asked]:
        logger.warning("%s: left out, as a comparison keeps all its models and has no best one", and_list(left))


def _check_numbers(seeds: int, resamples: int, methods: int) -> None:
    for name, value, least in (("seeds", seeds, 1), ("resamples", resamples, 100)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{name}: expected a whole number of at least {least}, got {shown(value)}")
    pairs = methods * (methods - 1) // 2
    if resamples < (least := statistics.least_resamples(pairs)):
        raise InputError(
            f"resamples: expected at least {least}, without which none of {pairs} pairs of methods could be told apart "
            f"by any difference, got {resamples}; raise it"
        )


def _check_seeds(grid: Grid, recipe: Recipe, task: Task, seeds: int) -> None:
    """Refuse a grid and seeds that cannot say anything, and what a run of the first seed would be refused for."""
    shared = Path(str(recipe.run.output_dir))
    folder = shared / COMPARISON
    if grid:
        check_grid(grid, recipe, task, folder)
    refuse_one_order(recipe, task, grid, seeds)
    if not on_main((folder / "seed-1").exists):  # which may have other settings, chosen by a search
        look_first(_of_seed(recipe, folder, 1, None), shared, task)
    elif grid:
        check_finished_seeds(grid, recipe, task, shared, folder, seeds)


def _check_models(shared: Path) -> None:
    """Refuse the folder of a run that has deleted its models: they would have to be trained anew over what is left."""
    if (shared / KEPT_NAME).exists() and not (shared / COMPARISON).exists():
        raise InputError(
            f"output_dir: expected a new folder, or one whose models are there, got {shared}, where keep: best has "
            "deleted all models but the best one; give another output_dir"
        )


def _record(folder: Path, recipe: Recipe, task: Task) -> None:
    remove_leftovers(folder)
    with atomic_files(folder) as written:
        text = recorded_text(recipe.content, _HEAD, folder, in_memory(recipe.models, task))
        (written / RECIPE_NAME).write_text(text, encoding="utf-8")


def _of_seed(recipe: Recipe, folder: Path, seed: int, found: Search | None) -> Recipe:
    return recipe_of(recipe, folder / f"seed-{seed}", recipe.run.methods, found.chosen if found else {}, seed)


def _run_seed(
    recipe: Recipe, shared: Path, task: Task, resamples: int, given: dict[str, Results], first: _Seed | None
) -> _Seed:
    """Train the methods with one seed, and keep what the models predict.

    Args:
        given: results of steps that are known.
        first: the first seed, whose teacher and student are those of this one.
    """
    started = RunOfRecipe(recipe, shared, task)
    results = started.all_results(given)
    kept = {}
    for name in started.models:
        known = first.predictions if first is not None and name in OWNERS else {}
        kept[name] = known[name] if name in known else started.predictions(name)
    rows = task.rows[scored_split(task)]
    sampled = {}
    for name in recipe.run.methods:
        predictions = kept[name].predictions
        draws = Draws(task.examples(predictions, rows), resamples)
        sampled[name] = task.sampled_score(predictions, rows, draws)
    common = [node.name for node in started.nodes if started.is_shared(node.name)]
    return _Seed(results, kept, sampled, started.steps_made, common)


def _content(
    recipe: Recipe, task: Task, seeds: list[_Seed], found: Search | None, resamples: int, further: Sequence[str]
) -> dict[str, Any]:
    """Everything that is known after the seeds so far.

    Args:
        further: names of the scores on the data of `score_on`.
    """
    methods, first, metric = recipe.run.methods, seeds[0], task.metric
    lower = metric in task.lower_is_better
    split = scored_split(task)
    scores = {name: [dict(seed.predictions[name].scores) for seed in seeds] for name in methods}
    resampled = {name: np.stack([seed.sampled[name] for seed in seeds], axis=1) for name in methods}
    values = {name: [one[metric] for one in of_method] for name, of_method in scores.items()}
    pairs = statistics.differences(values, resampled, lower)
    teacher = first.predictions["teacher"].predictions
    content = {
        "metric": metric,
        "lower_is_better": lower,
        "split": split,
        "rows": len(task.rows[split]),
        "seeds": list(range(1, len(seeds) + 1)),
        "methods": list(methods),
        "resamples": resamples,
        "scores": {name: dict(first.predictions[name].scores) for name in OWNERS} | scores,
        "intervals": {name: list(statistics.mean_interval(sampled)) for name, sampled in resampled.items()},
        "agreement": {
            name: [task.agreement(seed.predictions[name].predictions, teacher) for seed in seeds] for name in methods
        },
        "parameters": {name: result["parameters"] for name, result in first.results.items()},
        "seconds": {name: [seed.results[name]["seconds"] for seed in seeds] for name in methods},
        "search_seconds": _of_searches("search_seconds", methods, seeds),
        # The student's, if it was fine-tuned by itself.
        "steps": {
            name: result["steps"]
            for name, result in first.results.items()
            if name in ("student", *methods) and "steps" in result
        },
        "comparisons": [{**asdict(pair), "told_apart": pair.told_apart} for pair in pairs],
        "further": {
            name: [{score: seed.results[name][score] for score in further} for seed in seeds]
            for name in (*OWNERS, *methods)
        },
        "found_rates": _of_searches("learning_rate", methods, seeds),
        "chosen": found.chosen if found else {},
        "search": {key: value for key, value in asdict(found).items() if key != "chosen"} if found else {},
        "chosen_weights": [name for name in methods if first.results[name].get("chosen_by")],
    }
    return content | summary(content) | {"verdicts": verdicts(content)}


def _of_searches(key: str, methods: Sequence[str], seeds: Sequence[_Seed]) -> dict[str, list[float]]:
    """What each method that searched for its learning rate has under a key with each seed, where all have it."""
    return {
        name: [seed.results[name][key] for seed in seeds]
        for name in methods
        if all({key, "rate_search"} <= seed.results[name].keys() for seed in seeds)
    }


def _write(folder: Path, content: dict[str, Any]) -> None:
    with atomic_files(folder) as written:
        write_json(written / COMPARISON_NAME, content)
        (written / "compare.md").write_text(page(content) + "\n", encoding="utf-8")
