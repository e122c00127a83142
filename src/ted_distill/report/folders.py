"""What the folder of a run or a comparison holds, for its report. What is missing is named, and the rest reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError, collect, raise_if_any
from ..identity import rows_fingerprint
from ..models.load import ModelArguments, offer_to_task
from ..output import SETTINGS_NAME, read_if_sound, read_json
from ..runs.recipe import Recipe, read_recipe
from ..runs.recipe_keys import OWNERS
from ..runs.recorded import COMPARISON, RECIPE_NAME, read_commits, were_in_memory
from ..runs.run_folder import COMPARISON_NAME, RunFolder
from ..stages.methods import METHODS
from ..stages.stage_identity import Results
from ..tasks import Task, load_task
from ..tasks.base import TEST
from ..training.scores.selection import test_contents
from ..training.stage_arguments import StageArguments
from .comparison import Comparison, is_number, read_comparison

RESULTS = "results.json"
PREDICTIONS = "predictions"
_LOWER = ("perplexity", "mse", "loss")


@dataclass
class Reported:
    """A finished run, or a comparison with the run of its first seed."""

    folder: Path
    """Where the report goes."""
    run_folder: Path
    """Of the methods' models: that of the first seed in a comparison."""
    shared: Path
    """Of everything else."""
    comparison: Comparison | None
    results: dict[str, Results]
    """Of each model of the run, by name; of a comparison, those of the first seed."""
    at: RunFolder | None = None
    """Where the models are, by the recipe; None if there is none that can be read."""
    task: Task | None = None
    """With its rows; None if they cannot be read any more."""
    missing: list[str] = field(default_factory=list)
    """What could not be reported, and why."""

    @property
    def names(self) -> list[str]:
        """Names of the models: `teacher`, `student` and the methods, in order."""
        if self.comparison is None:
            return list(self.results)
        return [name for name in OWNERS if name in self.comparison.single] + self.comparison.methods

    @property
    def metric(self) -> str:
        """The main score."""
        if self.comparison is not None:
            return self.comparison.metric
        return str(next(iter(self.results.values()))["metric"])

    @property
    def lower_is_better(self) -> bool:
        """Whether the main score is better when lower."""
        if self.comparison is not None:
            return self.comparison.lower_is_better
        return self.metric in (self.task.lower_is_better if self.task else _LOWER)

    @property
    def test_contents(self) -> set[str]:
        """Of the test rows that the models were scored on."""
        return test_contents(self.results.values())

    def model(self, name: str) -> str:
        """The folder, or Hub id, of a finished model."""
        if self.at is not None:
            return self.at.model(name)
        return str((self.shared if name in OWNERS else self.run_folder) / name)

    def loading(self, name: str) -> ModelArguments:
        """How a finished model is loaded."""
        return self.at.loading(self.model(name)) if self.at is not None else ModelArguments()

    def scoring(self, name: str) -> StageArguments | None:
        """How a model is scored: batch size, precision, device."""
        if self.at is None:
            return None
        return self.at.arguments(f"finetune_{name}" if name in OWNERS else name)[0]

    def predictions(self, name: str) -> Path:
        """Where the predictions of a model are kept."""
        return (self.shared if name in OWNERS else self.run_folder) / PREDICTIONS / name

    def stage_folders(self) -> dict[str, Path]:
        """The folder of each stage that was run, by name: `finetune_teacher`, `learn_filters_teacher`, `ted` ..."""
        found = {f"finetune_{owner}": self.shared / owner for owner in OWNERS}
        found |= {f"learn_filters_{owner}": self.shared / f"{owner}_filters" for owner in OWNERS}
        found |= {name: self.run_folder / name for name in METHODS if name in self.names}
        return {name: folder for name, folder in found.items() if folder.is_dir()}


def read_folder(folder: Path, task: Task | None = None) -> Reported:
    """A folder as its report reads it.

    Args:
        task: with the rows of the run, where they were in no files [the recipe's].

    Raises:
        InputError: no run and no comparison has finished there.
    """
    if not (folder / RESULTS).is_file() and (folder / COMPARISON / COMPARISON_NAME).is_file():
        folder = folder / COMPARISON
    comparison = read_comparison(folder)
    run_folder = _first_seed(folder) if comparison else folder
    # What the seeds of a comparison share is in the run's folder, around that of the comparison.
    is_inside = comparison is not None and not (folder / "teacher").is_dir() and folder.name == COMPARISON
    shared = folder.parent if is_inside else folder
    results = _results(run_folder)
    if comparison is None and not results:
        raise InputError(
            f"report: expected the folder of a finished run ({RESULTS}) or comparison ({COMPARISON_NAME}), got "
            f"{folder}, which holds neither; give the folder that `ted run` or `ted compare` printed, once it has ended"
        )
    read_commits(shared)
    found = Reported(folder, run_folder, shared, comparison, results)
    problems: list[str] = []
    with collect(problems):
        file = _recipe_file(folder, run_folder)
        recipe = read_recipe(file, [f"output_dir={run_folder}"])
        found.at = RunFolder(recipe, shared)
        read = task or _task(found, recipe, file)
        _check_rows(found, read)
        found.task = read
    found.missing = [f"Without the rows of the run, nothing is said of single rows: {problem}" for problem in problems]
    return found


def _results(folder: Path) -> dict[str, Results]:
    found = read_json(folder / RESULTS)
    found = found if isinstance(found, dict) else {}
    return {str(name): dict(of) for name, of in found.items() if isinstance(of, Mapping) and _has_score(of)}


def _has_score(result: Mapping[str, Any]) -> bool:
    """Whether there is a main score, on validation rows or, where there are none, on test rows."""
    metric = str(result.get("metric"))
    return is_number(result.get(metric)) or is_number(result.get(f"{TEST}_{metric}"))


def _first_seed(folder: Path) -> Path:
    """The run of the first seed; the folder itself if there is none."""
    seeds = [path for path in folder.glob("seed-*") if path.name.removeprefix("seed-").isdigit()]
    return min(seeds, key=lambda path: int(path.name.removeprefix("seed-")), default=folder)


def _recipe_file(folder: Path, run_folder: Path) -> Path:
    """The recipe that was recorded. Raises `InputError` if there is none."""
    file = next((at / RECIPE_NAME for at in (run_folder, folder) if (at / RECIPE_NAME).is_file()), None)
    if file is None:
        raise InputError(f"recipe.yaml: expected the recipe of the run in {folder}, got none; put it back from a copy")
    return file


def _task(found: Reported, recipe: Recipe, file: Path) -> Task:
    """The task with its rows. Raises `InputError` if they cannot be read any more, or were in memory."""
    if not {"train", "validation", "test"}.isdisjoint(were_in_memory(file)):
        raise InputError(
            "rows: expected those of a run that Python gave them to, got none; give them again: write_report(folder, "
            "load_task(..., train=..., validation=...))"
        )
    task = load_task(recipe.task)
    offer_to_task(found.model("teacher"), task, found.loading("teacher"))
    task.rows  # noqa: B018  (reading them is what checks them)
    return task


def _check_rows(found: Reported, task: Task) -> None:
    """Refuse rows that are not those of the scores, by what the stages recorded of these.

    Raises:
        InputError: names the splits.
    """
    recorded: dict[str, set[str]] = {}
    for folder in found.stage_folders().values():
        data = read_if_sound(folder / SETTINGS_NAME).get("identity", {}).get("data", {})
        for split, content in data.items():
            recorded.setdefault(split, set()).add(content)
    if found.test_contents:
        recorded[TEST] = found.test_contents
    raise_if_any(
        f"{split} rows: expected those that the models were scored on, got others; put back what they were"
        for split in task.rows
        if split != "train" and recorded.get(split) and rows_fingerprint(task.rows[split]) not in recorded[split]
    )
