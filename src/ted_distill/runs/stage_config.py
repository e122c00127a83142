"""A recipe as the config of one stage: `ted distill --config RECIPE` reads the sections that this stage would read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import InputError, raise_if_any, shown
from ..stages.methods import METHODS
from ..wording import noun
from .parsing import field_names
from .recipe_keys import FROM_SCRATCH, OWNERS, SCORE_ON, SECTIONS, sections_of, with_student_keys
from .run_arguments import RunArguments

_OF_RECIPES_ALONE = {"teacher", "student", "student_layers", "student_num_layers", "student_hidden_size", "methods"}
_STAGES = {"finetune": "finetune_{owner}", "learn-filters": "learn_filters_{owner}", "distill": "{method}"}


class StageConfig(NamedTuple):
    """The flags of one stage that a recipe holds, and a line about what was read and what was not."""

    values: dict[str, Any]
    said: str


def is_recipe(content: Mapping[Any, Any]) -> bool:
    """Whether YAML is a recipe and not a file of one command's flags."""
    return bool(set(content) & (SECTIONS | _OF_RECIPES_ALONE))


def stage_config(
    command: str, file: str, content: dict[Any, Any], kinds: Sequence[type], given: Mapping[str, Any]
) -> StageConfig:
    """What a recipe says about one stage.

    Args:
        command: `finetune`, `learn-filters`, `distill`, or another one with flags, which reads no section.
        kinds: the dataclasses of the command's flags.
        given: the flags on the command line, which win.

    Raises:
        InputError: a section of the stage is not `key: value` lines.
    """
    problems: list[str] = []
    content = with_student_keys(dict(content), problems)
    raise_if_any(problems)
    flags = field_names(*kinds) - {"output_dir"}
    values = {key: value for key, value in content.items() if key in flags and key not in SECTIONS}
    models = _models(command, content, given)
    values |= models
    sections, method = _sections(command, content, given), _method(content, given)
    for section in reversed(sections):
        held = content.get(section)
        if held is False:  # `finetune_teacher: false` says that a run leaves the stage out
            continue
        if not isinstance(held, dict):
            raise InputError(f"config section {section}: expected `key: value` lines, got {shown(held)}")
        values |= {key: value for key, value in held.items() if key not in _unused(command, method, section)}
    if command == "distill":
        values.setdefault("method", method)
    used = {*values, *sections, *(name for name in ("teacher", "student") if f"{name}_name_or_path" in models)}
    used |= {"teacher"} if command != "distill" and models else set()
    return StageConfig(values, _said(command, file, content, sections, used))


def _sections(command: str, content: Mapping[Any, Any], given: Mapping[str, Any]) -> list[str]:
    """Those that are there, the most specific first."""
    if command not in _STAGES:
        return []
    stage = _STAGES[command].format(owner=_owner(content, given), method=_method(content, given))
    return [name for name in sections_of(stage) if content.get(name) is not None]


def _unused(command: str, method: str, section: str) -> Collection[str]:
    """Keys of a section that several methods share which mean nothing to this one."""
    return METHODS[method].unused if command == "distill" and method in METHODS and section != method else ()


def _method(content: Mapping[Any, Any], given: Mapping[str, Any]) -> str:
    """The method: as given by flag, or the recipe's only one besides `alone`, or else `ted`."""
    if "method" in given:
        return str(given["method"])
    methods = content.get("methods")
    named = [
        name for name in (methods if isinstance(methods, list) else [methods]) if name in METHODS and name != "alone"
    ]
    return named[0] if len(named) == 1 else "ted"


def _owner(content: Mapping[Any, Any], given: Mapping[str, Any]) -> str:
    """`student` if the model that was named is the recipe's student, else `teacher`."""
    return OWNERS[1] if given.get("model_name_or_path", "") == content.get("student", None) else OWNERS[0]


def _models(command: str, content: Mapping[Any, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The models that a recipe names; a student that a run makes of blocks is not one that it names."""
    teacher, student = content.get("teacher"), content.get("student")
    made = any(content.get(key) for key in ("student_layers", "student_num_layers", "student_hidden_size"))
    if command == "distill":
        found = {"teacher_name_or_path": teacher, "student_name_or_path": None if made else student}
    elif command in _STAGES:
        found = {"model_name_or_path": teacher}
    else:
        found = {}
    return {key: value for key, value in found.items() if value is not None and key not in given}


def _said(command: str, file: str, content: Mapping[Any, Any], sections: list[str], used: set[str]) -> str:
    named = f" and {noun(len(sections), 'section')} {', '.join(reversed(sections))}" if sections else ""
    unused = [str(key) for key in content if key not in used and content[key] is not None]
    of_run = [key for key in unused if key in field_names(RunArguments) | {FROM_SCRATCH, SCORE_ON} | SECTIONS]
    left = f"; not used: {', '.join([*of_run, *(key for key in unused if key not in of_run)])}" if unused else ""
    return f"config: {file} is a recipe; {command} reads its keys of task and models{named}{left}"
