"""Whether all models of a run can be scored on its further data (`score_on`), found out before any is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

from ..errors import InputError, collect, raise_if_any
from ..models.labels import class_names, has_default_labels
from ..models.load import load_config
from ..tasks.base import TEST, Task
from ..tasks.label_sets import match_names
from ..tasks.reading.notices import notice
from ..training.scores.best_score import score_names
from ..wording import listed
from .recipe_keys import OWNERS, SCORE_ON
from .run_folder import RunFolder
from .table import RESULT_KEYS

_MOST = 10
"""Labels that a message names."""


def check_further(task: Task, further: Mapping[str, Task], at: RunFolder) -> None:
    """Read the rows of further data, compare their tasks with that of the run, and say how many of the rows are its
    training or validation rows.

    Args:
        task: of the run, whose rows may have been refused already.
        further: the tasks of `score_on` by name.
        at: where the run's models are.

    Raises:
        InputError: with all problems, each with the section that holds it.
    """
    read = "rows" in vars(task)
    taken = {*RESULT_KEYS, *(_scores(task) if read else ())}
    named = _are_named(at) if read and further else True
    problems: list[str] = []
    for name, other in further.items():
        found: list[str] = []
        with collect(found):
            found += _other_task(task, other)
            if read and not found:
                offer_run_data(task, other)
            other.rows  # noqa: B018  (reading them is what checks them)
            if read and not found:
                found += _other_labels(task, other, named)
            found += _taken_name(name, other, taken)
            if read and not found:
                for warning in task.overlaps_with(other):
                    notice(f"recipe section {SCORE_ON}.{name}: {warning}")
        problems += [f"recipe section {SCORE_ON}.{name}: {problem}" for problem in found]
    raise_if_any(problems)


def _scores(task: Task) -> list[str]:
    """Names of the scores of a task, those on test rows too."""
    return [*score_names(task), *(f"{TEST}_{name}" for name in task.score_names if TEST in task.rows)]


def _taken_name(name: str, other: Task, taken: set[str]) -> Iterator[str]:
    """The problem that scores would have the name of other results; scores that have none are added to `taken`."""
    named = [f"{name}_{score}" for score in _scores(other)]
    if twice := [one for one in named if one in taken]:
        yield f"expected another name, as {listed(twice, _MOST)} of the run's results would be replaced; rename it"
    taken |= {*named}


def _other_task(task: Task, other: Task) -> Iterator[str]:
    """The problem that the models' heads are for another task."""
    if (other.auto_model, other.problem_type) != (task.auto_model, task.problem_type):
        yield (
            f"task: expected one that models of task {task.name} can do, got {other.name}; give data of the run's "
            "task, or leave it out"
        )


def offer_run_data(task: Task, other: Task) -> None:
    """Name the labels of the run's data, of which further data may hold only some, and how these data were read."""
    other.offer_inferred(task.inferred)
    if (names := class_names(task)) is not None:
        other.offer_labels([names])


def _other_labels(task: Task, other: Task, named: bool) -> Iterator[str]:
    """The problem that the models have other labels."""
    names, others = class_names(task), class_names(other)
    if names is None or others is None:
        return
    same = len(others) == len(names) and (not named or None not in match_names(others, names))
    if not same:
        yield (
            f"labels: expected those of the run's data ({listed(names, _MOST)}), which its models have, got "
            f"{listed(others, _MOST)}; rename the labels, or leave these data out"
        )


def _are_named(at: RunFolder) -> bool:
    """Whether a model of the run has the data's labels by name: not if all are as given, with `LABEL_0` and so on."""
    recipe = at.recipe
    if any(map(recipe.tunes, OWNERS)) or recipe.run.start == "pretrained":
        return True
    with suppress(InputError):  # a model that does not load is refused elsewhere
        given = {at.raw["teacher"], at.student_source}
        return not all(has_default_labels(load_config(name, recipe.model)) for name in given)
    return True
