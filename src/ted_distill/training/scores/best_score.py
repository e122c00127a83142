"""The score by which the best checkpoint is chosen: the task's main one, or another of its scores."""

from __future__ import annotations

import copy
from collections.abc import Container

from transformers import TrainingArguments

from ...errors import nearest, shown
from ...tasks.base import TEST, Task
from ..contradictions import FOLLOW_SCORES, text_of
from ..stage_arguments import StageArguments
from . import evaluation


def score_names(task: Task) -> list[str]:
    """Names of all scores of the task; those of a second validation split have its prefix."""
    splits = [name for name in task.rows if name not in ("train", TEST)]
    return [evaluation.prefixed(split, name) for split in splits for name in task.score_names]


def score_problems(args: StageArguments, task: Task) -> list[str]:
    """What is wrong with `metric_for_best_model` and `greater_is_better` for this task."""
    name, names = _name(args, task), score_names(task)
    if names and name not in names:
        why = ", as the stages compute no loss on the validation data" if name == "loss" else ""
        return [
            f"metric_for_best_model: expected one of {', '.join(names)}{why}, got {shown(args.metric_for_best_model)}"
            f"{nearest(name, names)}"
        ]
    greater = _greater_is_better(name, task)
    if args.greater_is_better not in (None, greater):
        return [
            f"greater_is_better: expected {shown(greater)}, as a {'greater' if greater else 'lower'} {name} is better, "
            f"got {shown(args.greater_is_better)}; leave it out"
        ]
    return []


def with_score(args: StageArguments, task: Task) -> StageArguments:
    """A copy of the arguments in which the best checkpoint is chosen by the task's metric, unless another was named."""
    args = copy.copy(args)
    args.metric_for_best_model = _name(args, task)
    args.greater_is_better = _greater_is_better(args.metric_for_best_model, task)
    if text_of(args.lr_scheduler_type) in FOLLOW_SCORES:
        # Both take a lower score for a better one unless they are told otherwise.
        mode = "max" if args.greater_is_better else "min"
        args.lr_scheduler_kwargs = {"mode": mode, **(args.lr_scheduler_kwargs or {})}
    return args


def chosen_score(args: TrainingArguments) -> str:
    """The name of the score that decides, without the prefix that transformers gives it."""
    return str(args.metric_for_best_model).removeprefix("eval_")


def deciding_score(args: StageArguments, task: Task, found: Container[str]) -> tuple[str, int]:
    """The score that decides between results, and its sign: 1 if greater is better, else -1.

    It is what `metric_for_best_model` names, so that all that is chosen is chosen alike, and the task's main score
    where nothing is named or the results have no such score.

    Args:
        found: names of the scores that the results have.
    """
    name = _name(args, task)
    name = name if name in found else task.metric
    return name, 1 if _greater_is_better(name, task) else -1


def _name(args: StageArguments, task: Task) -> str:
    return (args.metric_for_best_model or task.metric).removeprefix("eval_")


def _greater_is_better(name: str, task: Task) -> bool:
    # The scores of a second split have a prefix.
    return not name.endswith(task.lower_is_better)
