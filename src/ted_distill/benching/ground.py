"""What a bench is of: the candidates, and the rows that they are scored and timed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError, raise_if_any
from ..export.folders import beside
from ..export.which_task import Test, comparing_task, merged
from ..models.load import ModelArguments, offer_to_task
from ..runs.kept_predictions import scored_split
from ..tasks import Task, TaskArguments, load_task
from .candidates import Candidate, is_run, of_places, of_run

BENCH = "bench"
"""Where the folder of a run has its bench."""


@dataclass(frozen=True)
class Ground:
    """The candidates and their rows.

    Attributes:
        split: of `task`, which is scored.
        made_up: the rows are random words, which nothing can be scored on.
        folder: where the bench goes unless something else is said.
        notes: on models of a run that are not there any more.
    """

    candidates: list[Candidate]
    task: Task
    split: str
    made_up: bool
    folder: Path
    notes: list[str] = field(default_factory=list)

    @property
    def source(self) -> str:
        """The rows in words."""
        if self.made_up:
            return "made-up rows of random words"
        count, at = len(self.task.rows[self.split]), self.task.sources.get(self.split)
        return f"{count:,} {self.split} rows{f' of {at}' if at else ''}"


def find_ground(
    places: Sequence[str],
    teacher: str | None,
    task: TaskArguments | Task | str | None,
    test: Test | None,
    loading: ModelArguments,
) -> Ground:
    """What is measured, and on which rows.

    Raises:
        InputError: with all problems of the models and the rows.
    """
    if not places:
        raise InputError("bench: expected one or more checkpoints, or the folder of a run, got none; name one")
    runs = [place for place in places if is_run(place)]
    if not runs:
        candidates = of_places(places, teacher, loading)
        return _with_rows(candidates, task, test, loading, beside(places[0], BENCH))
    problems = []
    if len(places) > 1:
        problems.append(f"bench: expected the run {runs[0]} alone, got others with it; give its models one by one")
    if teacher is not None:
        problems.append(f"teacher: expected none with {runs[0]}, a run with its own, got {teacher}; leave it out")
    raise_if_any(problems)
    return _of_run(runs[0], task, test, loading)


def _with_rows(
    candidates: list[Candidate],
    task: TaskArguments | Task | str | None,
    test: Test | None,
    loading: ModelArguments,
    folder: Path,
    notes: Sequence[str] = (),
) -> Ground:
    found, split, made_up = comparing_task(candidates[0].place, task, test, loading)
    return Ground(candidates, found, split, made_up, folder, list(notes))


def _of_run(run: str, task: TaskArguments | Task | str | None, test: Test | None, loading: ModelArguments) -> Ground:
    notes: list[str] = []
    reported, candidates = of_run(run, notes)
    folder = reported.folder / BENCH
    if not candidates:
        raise InputError(f"bench: expected a run whose models are there, got {run}: {'; '.join(notes)}")
    given = _changed(task)
    if given or test is not None:
        if isinstance(task, Task) or reported.at is None:
            return _with_rows(candidates, task, test, loading, folder, notes)
        # What is said of the task is said of the run's own.
        changed = TaskArguments(**merged(vars(reported.at.recipe.task), given))
        if test is not None:
            return _with_rows(candidates, changed, test, loading, folder, notes)
        own = load_task(changed)
        offer_to_task(candidates[0].place, own, candidates[0].loading)
        return Ground(candidates, own, scored_split(own), False, folder, notes)
    if reported.task is None:
        why = "; ".join(reported.missing)
        raise InputError(f"bench: expected a run whose rows are there, got {run} ({why}); give rows with --test")
    return Ground(candidates, reported.task, scored_split(reported.task), False, folder, notes)


def _changed(task: TaskArguments | Task | str | None) -> dict[str, Any]:
    """What was set of a task's arguments."""
    if task is None or isinstance(task, Task):
        return {} if task is None else {"task": task.name}
    if isinstance(task, str):
        return {"task": task}
    return task.explicit
