"""Which task a checkpoint is for, and on which rows its files are compared."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ..errors import InputError, shown
from ..models.labels import model_labels
from ..models.load import ModelArguments, load_reader, offer_to_task
from ..output import SETTINGS_NAME, DamagedFileError, read_manifest, read_sealed
from ..runs.drafting.teacher_facts import ANSWERS, CAUSAL, MASKED, SEQUENCE, TOKENS, look_at_teacher
from ..runs.kept_predictions import scored_split
from ..runs.recipe import read_recipe
from ..runs.recipe_files import recipe_files
from ..tasks import TASKS, Task, TaskArguments, load_task
from ..tasks.reading.given import Rows
from .generated_rows import KINDS, generated, kind_of

logger = logging.getLogger(__name__)

Test = str | Path | Rows
_BY_HEAD = {TOKENS: "token_classification", ANSWERS: "question_answering", CAUSAL: "causal_lm", MASKED: "masked_lm"}
_FIELDS = {field.name for field in fields(TaskArguments)}


def comparing_task(
    name: str, given: TaskArguments | Task | str | None, test: Test | None, loading: ModelArguments
) -> tuple[Task, str, bool]:
    """The task of a checkpoint, with rows to compare on.

    Args:
        name: a folder or a Hub id.
        given: the task, or what is set of its arguments; what is not comes from the recipe, from the checkpoint's
            stage or from its head, in this order.
        test: a recipe, a data file, or rows.

    Returns:
        The task, the split to compare on, and whether its rows were generated.

    Raises:
        InputError: no task is known that fits, or its rows cannot be read.
    """
    if isinstance(given, Task):
        if test is not None:
            raise InputError("test: expected none with a task that has rows, got some; give one or the other")
        task, has_rows = given, True
    else:
        task, has_rows = _made(name, given, test, loading)
    if has_rows:
        offer_to_task(name, task, loading)
        return task, scored_split(task), False
    kind = kind_of(task)
    if kind is None:
        raise InputError(f"test: expected rows of task {task.name}, as none can be made up for it, got none; give some")
    config, tokenizer = load_reader(name, task, loading)
    _check_labels(config, kind, name)
    rows = generated(task, kind, config, tokenizer)
    rows.name = task.name
    return rows, "validation", True


def _check_labels(config: Any, kind: str, name: str) -> None:
    wanted = 2 if kind in ("sequence_classification", "token_classification") else 1
    if kind in list(KINDS)[:4] and len(model_labels(config)) < wanted:
        raise InputError(f"task: expected {name} to have {wanted} or more labels, got one; give --task regression")


def _made(
    name: str, given: TaskArguments | str | None, test: Test | None, loading: ModelArguments
) -> tuple[Task, bool]:
    """The task, and whether it has rows."""
    own = TaskArguments(task=given) if isinstance(given, str) else given or TaskArguments()
    set_ = own.explicit
    of_recipe = _is_recipe(test)
    if of_recipe:
        of_rows = read_recipe(str(test), output_dir="unused").task
        found = vars(of_rows) | _own_settings(name, of_rows, set_, str(test))
    else:
        found = {} if "task" in set_ else arguments_of(name, loading)
    arguments = TaskArguments(**merged(found, set_))
    in_memory = None if test is None or isinstance(test, (str, Path)) else test
    if isinstance(test, (str, Path)) and not of_recipe:
        arguments = replace(arguments, test_file=str(test), validation_file=None, validation_size=None)
    if in_memory is not None or arguments.test_file or (arguments.validation_file and not arguments.validation_size):
        # Training rows are of no use, and there may be many; nor are those held out of them.
        arguments = replace(arguments, train_file=None, unlabelled_file=None, streaming=False, validation_size=None)
    if not of_recipe and test is not None:
        # Nor are those of the Hub that the checkpoint was trained on.
        of_hub = ("dataset_name", "dataset_config_name", "dataset_revision", "validation_split", "test_split")
        none: dict[str, Any] = {key: None for key in of_hub if key not in set_}
        arguments = replace(arguments, **none)
    has_rows = of_recipe or in_memory is not None
    has_rows = has_rows or bool(arguments.test_file or arguments.validation_file or arguments.dataset_name)
    return load_task(arguments, test=in_memory), has_rows


def merged(found: Mapping[str, Any], set_: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a task that are taken over, and those set in their place.

    Steps between windows that are longer than a `max_seq_length` that was set are dropped: they were for longer rows.
    """
    length = set_.get("max_seq_length")
    dropped = [key for key in ("stride", "doc_stride") if length and (found.get(key) or 0) >= length]
    return {**{key: value for key, value in found.items() if key not in dropped}, **set_}


def _own_settings(name: str, recipe: TaskArguments, set_: Collection[str], file: str) -> dict[str, Any]:
    """What a checkpoint's stage recorded of how rows are read, such as their length: the recipe may have been changed.

    Args:
        recipe: the task of the recipe `file`.
        set_: what was set on the command line, which wins.
    """
    known, _ = _recorded(name)
    if not known or known.get("task") != recipe.task_name:
        return {}
    own = {key: known.get(key) for key in recipe.settings if key not in ("task", "streaming", "shuffle_buffer")}
    own = {key: value for key, value in own.items() if value is not None and key not in set_}
    given = {key: value for key in own if (value := getattr(recipe, key)) is not None}
    for key, value in given.items():
        if value != own[key]:
            logger.warning(
                "test: expected %s %s, with which %s was trained, got %s in %s; taking %s (--%s gives another)",
                *(key, own[key], name, value, file, own[key], key),
            )
    return own


def _is_recipe(test: Test | None) -> bool:
    if not isinstance(test, (str, Path)):
        return False
    if not str(test).strip():
        raise InputError(f"test: expected a recipe or a data file, got {shown(str(test))}; name one")
    path = Path(test)
    return path.suffix in (".yaml", ".yml") or (not path.suffix and str(test) in recipe_files())


def arguments_of(name: str, loading: ModelArguments) -> dict[str, Any]:
    """Arguments of the task that a checkpoint was trained on, by its stage, or by its head."""
    known, manifest = _recorded(name)
    if known.get("task"):
        if known["task"] not in TASKS:
            raise InputError(
                f"task: expected the file and the class of the task that {name} was trained on, one of your own, got "
                f"nothing; give --task FILE.py:{known['task']}"
            )
        found = {key: value for key, value in known.items() if key in _FIELDS and key != "streaming"}
        # The default was asked for by nobody: a model that reads less is given less.
        if found.get("max_seq_length") == load_task(str(found["task"])).max_seq_length:
            del found["max_seq_length"]
        return found
    if isinstance(manifest.get("task"), str):
        return {"task": manifest["task"]}
    return {"task": _by_head(name, loading)}


def _recorded(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The task's settings that a checkpoint's stage recorded, and its manifest; both empty where there is no stage."""
    try:
        settings = read_sealed(Path(name) / SETTINGS_NAME) or {}
        manifest = read_manifest(Path(name)) or {}
    except DamagedFileError:
        # Loading the model says so, if it matters.
        return {}, {}
    identity = settings.get("identity")
    known = identity.get("task") if isinstance(identity, dict) else None
    return (known if isinstance(known, dict) else {}), manifest


def _by_head(name: str, loading: ModelArguments) -> str:
    facts = look_at_teacher(name, loading)
    if facts.head in _BY_HEAD:
        return _BY_HEAD[facts.head]
    if facts.head != SEQUENCE:
        raise InputError(
            f"task: expected a checkpoint with a head for a task, got {name} with the architecture "
            f"{facts.architecture}; fine-tune it first, or give --task"
        )
    kind = facts.config.problem_type
    if kind is None and facts.config.num_labels == 1:
        kind = "regression"
    names = {"regression": "regression", "multi_label_classification": "multi_label_classification"}
    return names.get(str(kind), "sequence_classification")
