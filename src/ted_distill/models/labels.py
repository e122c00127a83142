"""Labels of a model and of a task, reconciled by name."""

from __future__ import annotations

import logging

from transformers import PretrainedConfig

from ..errors import InputError
from ..tasks.base import Task

logger = logging.getLogger(__name__)


def model_labels(config: PretrainedConfig) -> list[str]:
    """Names of the labels in the order of the logits."""
    return [str(config.id2label[index]) for index in sorted(config.id2label)]


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


def needs_new_head(config: PretrainedConfig, task: Task) -> bool:
    """Whether the checkpoint's head, if it has one, is for other labels than the task's."""
    if not has_labels(task):
        return False
    if class_names(task) is None:
        return config.num_labels != task.num_labels or config.problem_type != task.problem_type
    return {label.casefold() for label in model_labels(config)} != {
        label.casefold() for label in class_names(task) or ()
    }


def set_labels(config: PretrainedConfig, task: Task) -> None:
    """Give a config the task's labels."""
    names = class_names(task) or [f"LABEL_{index}" for index in range(task.num_labels)]
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
    if task.problem_type is not None:
        config.problem_type = task.problem_type


def label_order(config: PretrainedConfig, task: Task, name: str) -> list[int] | None:
    """Reconcile classes by name: the position in the model's logits of each of the data's classes.

    Raises:
        InputError: the number of labels differs, or the model does not know one of the data's labels.
    """
    if not has_labels(task):
        return None
    if config.num_labels != task.num_labels:
        raise InputError(
            f"labels: expected {name} to have the {task.num_labels} labels of the task, got {config.num_labels} "
            f"({', '.join(model_labels(config)[:5])}); fine-tune the model on this task first with `ted finetune`"
        )
    names = class_names(task)
    if names is None:
        return None
    if has_default_labels(config):
        logger.warning(
            "labels: expected named labels in the config of %s, got LABEL_0 and so on; taking the data's order: %s",
            name, ", ".join(names),
        )  # fmt: skip
        return None
    known = {label.casefold(): index for index, label in enumerate(model_labels(config))}
    unknown = [label for label in names if label.casefold() not in known]
    if unknown:
        raise InputError(
            f"labels: expected {name} to have the data's labels, got {', '.join(model_labels(config))} without "
            f"{', '.join(unknown)}; rename the data's labels or fine-tune the model"
        )
    order = [known[label.casefold()] for label in names]
    return None if order == list(range(len(order))) else order
