"""What becomes of a checkpoint's head when it is loaded for a task."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from transformers import PretrainedConfig

from ..errors import InputError
from ..tasks.base import Task
from .labels import (
    check_problem_type,
    class_names,
    has_default_labels,
    label_order,
    model_labels,
    needs_new_head,
    set_labels,
)

logger = logging.getLogger(__name__)

_MOST = 5
"""Labels of a replaced head that a message names."""
_ALIKE = ("ForSequenceClassification", "ForTokenClassification", "ForMultipleChoice")
"""Ends of names of classes whose heads have the same names and sizes, and are for rows, tokens or choices."""


@dataclass(frozen=True)
class Head:
    """What was decided about a head."""

    trained: bool
    """The model is about to be fine-tuned: weights that its checkpoint lacks may be drawn at random."""
    is_new: bool = False
    """The head is for the task's labels, which the checkpoint's is not."""
    replaced: tuple[str, ...] = ()
    """Labels of a trained head of which no weight stays, although some may have the right size."""
    label_order: tuple[int, ...] | None = None
    """Position in the model's logits of each of the data's classes; None where both have one order."""


def decide_head(config: PretrainedConfig, task: Task, name: str, *, trained: bool) -> Head:
    """Keep the head of a checkpoint or replace it; nothing is changed.

    Args:
        config: the checkpoint's own.
        name: of the checkpoint, for messages.
        trained: whether the model is about to be fine-tuned; otherwise its head has to be for the task's labels.

    Raises:
        InputError: the number of labels differs, the model does not know one of the data's labels, or its head is for
            another kind of task.
    """
    other_kind = _is_of_other_kind(config, task)
    if other_kind and not trained:
        raise InputError(
            f"model: expected a trained head for task {task.name} in {name}, got a {config.architectures[0]}; name the "
            "task that it was trained for, or fine-tune it first with `ted finetune`"
        )
    if other_kind:
        return Head(trained, is_new=True, replaced=(f"another task ({config.architectures[0]})",))
    if trained and needs_new_head(config, task):
        others = class_names(task) is not None and not has_default_labels(config)
        return Head(trained, is_new=True, replaced=tuple(model_labels(config)) if others else ())
    order = label_order(config, task, name)
    return Head(trained, label_order=None if order is None else tuple(order))


def _is_of_other_kind(config: PretrainedConfig, task: Task) -> bool:
    """Whether a checkpoint's head would load as the task's, although it is for rows and not tokens, or so."""
    saved, wanted = str((config.architectures or [""])[0]), str(getattr(task.auto_model, "__name__", ""))
    ends = [next((end for end in _ALIKE if name.endswith(end)), None) for name in (saved, wanted)]
    return None not in ends and ends[0] != ends[1]


def fit_config(config: PretrainedConfig, head: Head, task: Task, name: str) -> PretrainedConfig:
    """The same config with the labels and the kind of problem that the head is for.

    Raises:
        InputError: the model is for another kind of problem, and is not about to be trained.
    """
    if head.replaced:
        logger.warning(
            "model: expected a head for the task's labels in %s, got one for %s; making a new head",
            name, ", ".join(head.replaced[:_MOST]),
        )  # fmt: skip
    if head.is_new:
        set_labels(config, task)
    if not head.trained:
        check_problem_type(config, task, name)
    elif task.problem_type is not None:
        config.problem_type = task.problem_type
    return config
