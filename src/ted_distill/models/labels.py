"""Labels of a model and of a task, reconciled by name."""

from __future__ import annotations

import logging

from transformers import PretrainedConfig

from ..errors import InputError
from ..tasks.base import Task
from ..tasks.label_sets import match_names
from ..tasks.reading.columns import plain_name
from ..wording import counted, listed

logger = logging.getLogger(__name__)

_MOST = 10
"""Labels that a message names."""


def model_labels(config: PretrainedConfig) -> list[str]:
    """Names of the labels in the order of the logits."""
    return [plain_name(str(config.id2label[index])) for index in sorted(config.id2label)]


def class_names(task: Task) -> list[str] | None:
    """Names of the model's logits: the names of the classes, where each class has a logit."""
    names = task.label_names
    return names if names is not None and len(names) == task.num_labels else None


def has_labels(task: Task) -> bool:
    """Whether the task decides a model's labels; question answering and language modelling have no such labels."""
    return task.problem_type is not None or task.label_names is not None


def has_default_labels(config: PretrainedConfig) -> bool:
    """Whether the labels have only the default names, `LABEL_0` and so on."""
    return all(label == f"LABEL_{index}" for index, label in enumerate(model_labels(config)))


def offer_labels(task: Task, config: PretrainedConfig) -> None:
    """Tell a task the labels of the model it is for: data that hold only some of them are of these labels."""
    names = model_labels(config)
    # Without names, a number in the data can only be that of the logit.
    numbers = [[str(index) for index in range(len(names))]] if has_default_labels(config) else []
    task.offer_labels([names, *numbers])


def needs_new_head(config: PretrainedConfig, task: Task) -> bool:
    """Whether the checkpoint's head, if it has one, is for other labels than the task's."""
    if not has_labels(task):
        return False
    names = class_names(task)
    if names is None:
        return config.num_labels != task.num_labels or config.problem_type != task.problem_type
    own = model_labels(config)
    return len(own) != len(names) or None in match_names(names, own)


def set_labels(config: PretrainedConfig, task: Task) -> None:
    """Give a config the task's labels."""
    names = class_names(task) or [f"LABEL_{index}" for index in range(task.num_labels)]
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
    if task.problem_type is not None:
        config.problem_type = task.problem_type


def check_problem_type(config: PretrainedConfig, task: Task, name: str) -> None:
    """Refuse a model that was trained for another kind of problem on the same number of labels.

    Raises:
        InputError: the config's `problem_type` is not the task's; none at all is any.
    """
    found = getattr(config, "problem_type", None)
    if task.problem_type is not None and found not in (None, task.problem_type):
        raise InputError(
            f"problem_type: expected {task.problem_type} in the config of {name}, as task {task.name} needs, got "
            f"{found}; fine-tune the model on this task first, or, if the config is wrong, set --config_overrides "
            f"problem_type={task.problem_type}"
        )


def label_order(config: PretrainedConfig, task: Task, name: str) -> list[int] | None:
    """Reconcile classes by name: the position in the model's logits of each of the data's classes.

    Raises:
        InputError: the number of labels differs, or the model does not know one of the data's labels.
    """
    if not has_labels(task):
        return None
    own, names = model_labels(config), class_names(task)
    if names is None or has_default_labels(config):
        if len(own) != task.num_labels:
            raise InputError(
                f"labels: expected {name} to have the {counted(task.num_labels, 'label')} of the task, got {len(own)} "
                f"({listed(own, _MOST)}); fine-tune the model on this task first with `ted finetune`"
            )
        if names is not None:
            logger.warning(
                "labels: expected named labels in the config of %s, got LABEL_0 and so on; taking the data's order: %s",
                name, ", ".join(names),
            )  # fmt: skip
        return None
    places = match_names(names, own)
    unknown = [label for label, place in zip(names, places, strict=True) if place is None]
    order = [place for place in places if place is not None]
    if unknown:
        raise InputError(
            f"labels: expected {name} to have the data's labels, got {listed(own, _MOST)} without "
            f"{listed(unknown, _MOST)}; rename the data's labels, or fine-tune the model on this task first with "
            "`ted finetune`"
        )
    if len(order) < len(own):
        extra = [label for place, label in enumerate(own) if place not in order]
        raise InputError(
            f"labels: expected {name} to have the {counted(len(order), 'label')} of the task, got also "
            f"{listed(extra, _MOST)}; fine-tune the model on this task first with `ted finetune`"
        )
    return None if order == list(range(len(own))) else order
