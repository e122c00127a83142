"""The keys of a recipe: its sections, what belongs where, and other ways to write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from ..errors import QUOTED, InputError, did_you_mean, near_names, nearest, shown
from ..models.load import ModelArguments
from ..stages import DistillArguments, LearnFiltersArguments
from ..stages.methods import METHODS
from ..tasks import TaskArguments
from ..training.stage_arguments import StageArguments
from .parsing import field_names, parse_yaml, plain_values, settings_of
from .run_arguments import RunArguments

OWNERS = ("teacher", "student")
FINETUNE = ("finetune_teacher", "finetune_student")
LEARN_FILTERS = ("learn_filters_teacher", "learn_filters_student")
SHARED = ("training", "finetune", "learn_filters", "distill")
SCORE_ON, FROM_SCRATCH = "score_on", "from_scratch"
STAGES = (*FINETUNE, *LEARN_FILTERS, *METHODS)
SECTIONS = {*STAGES, *SHARED, SCORE_ON, FROM_SCRATCH}
TOP_KEYS = frozenset(field_names(RunArguments, TaskArguments, ModelArguments))
"""Keys of the top level of a recipe, besides the sections."""
_YAML_ALL_THE_SAME, _NULLS = "'\"{[", ("null", "~")
"""First characters of quoted texts, mappings and lists; and the words for no value."""
SET_BY_THE_RUN = {"output_dir", "method", "teacher_filters"}
"""Keys of stages that no section may have: folders, methods and learnt filters follow from the recipe."""
_OF_STAGES = {
    "model_name_or_path": "teacher", "teacher_name_or_path": "teacher", "student_name_or_path": "student",
    "method": "methods", "layers": "student_layers", "num_layers": "student_num_layers",
    "hidden_size": "student_hidden_size", "narrow": "student_narrow",
}  # fmt: skip
"""Flags of single stages -> what a recipe calls the same."""
_OF_STUDENT = {
    "model": "student", "layers": "student_layers", "num_layers": "student_num_layers",
    "hidden_size": "student_hidden_size", "narrow": "student_narrow", "trim": "student_trim",
}  # fmt: skip
"""Keys of `student: {...}` -> keys of the top level."""


def sections_of(stage: str) -> tuple[str, ...]:
    """The sections that a stage reads, the most specific first."""
    shared = "finetune" if stage in FINETUNE else "learn_filters" if stage in LEARN_FILTERS else "distill"
    return stage, shared, "training"


def section_kinds(name: str) -> tuple[type, ...]:
    """The dataclasses of a section's keys."""
    if name in (*FINETUNE, "finetune"):
        return StageArguments, ModelArguments
    return (StageArguments, DistillArguments) if name in (*METHODS, "distill") else (StageArguments,)


def top_and_sections(content: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys of a recipe's content that stand alone, and its sections."""
    top = {key: value for key, value in content.items() if key not in SECTIONS}
    return top, {key: value for key, value in content.items() if key in SECTIONS}


def unknown_key(key: Any, known: Set[str]) -> str:
    """The problem that a top-level key is unknown, with the section or the key that may have been meant."""
    name = key if isinstance(key, str) else shown(key)
    if isinstance(key, str) and key in SET_BY_THE_RUN - {*_OF_STAGES}:
        return f"recipe: unknown key {name}, which the run sets; leave it out"
    if isinstance(key, str) and key in _OF_STAGES:
        return f"recipe: unknown key {name}; did you mean {_OF_STAGES[key]}?"
    near = near_names(name, known | field_names(StageArguments, DistillArguments) - SET_BY_THE_RUN)
    if near and near[0] not in known:
        return f"recipe: unknown key {name[:QUOTED]}; did you mean {_sections_with(near[0])}?"
    return f"recipe: unknown key {name[:QUOTED]}{did_you_mean(near)}"


def _sections_with(key: str) -> str:
    """The places of a recipe that have a key of stages."""
    if key in field_names(DistillArguments):
        return str(place_of(key))
    sections = ", ".join(f"{section}.{key}" for section in ("finetune", "learn_filters", "distill"))
    return f"training.{key} (all stages), or one of {sections}"


def place_of(key: Any) -> str | None:
    """Where a recipe has a key that the section it was found in does not have; nothing if no part has it."""
    if key in TOP_KEYS:
        return f"{key}, outside of any section"
    if key in field_names(DistillArguments):
        return f"distill.{key} (all methods), or that of one, as ted.{key}"
    if key in field_names(LearnFiltersArguments):
        return f"--{key} of `ted learn-filters`, which no recipe has"
    return None


def with_student_keys(content: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """A recipe's content in which `student: {layers: [2, 4], trim: train}` is `student_layers` and `student_trim`.

    Args:
        problems: those found are added.
    """
    given = content.get("student")
    if not isinstance(given, dict):
        return content
    without = {key: value for key, value in content.items() if key != "student"}
    for key, value in given.items():
        name = _OF_STUDENT.get(key) if isinstance(key, str) else None
        if name is None:
            shown_key = key if isinstance(key, str) else shown(key)
            problems.append(f"recipe: unknown key student.{shown_key[:QUOTED]}{nearest(shown_key, _OF_STUDENT)}")
        elif without.get(name) is not None:
            problems.append(f"recipe: expected student.{key} or {name}, got both; remove one")
        else:
            without[name] = value
    return without


def apply_override(content: dict[str, Any], override: str) -> None:
    """Put `key=value` into a recipe's content; `section.key=value` into a section. Raises `InputError`.

    `student.layers=[2,4]` is `student_layers=[2,4]`, and `student={...}` replaces all that is said of the student.
    """
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise InputError(f"override: expected key=value, got {shown(override)}")
    path, last = _path_of(key)
    if path == ["student"] and last in _OF_STUDENT:
        path, last = [], _OF_STUDENT[last]
    for part in path:
        if not isinstance(content.get(part), dict):
            content[part] = {}
        content = content[part]
    plain = value and value[0] not in _YAML_ALL_THE_SAME and value.lower() not in _NULLS
    written = plain and _is_text(path, last) and not last.endswith("_strategy")  # where `off` means `no`
    found = value if written else parse_yaml(value, f"override {key}", source=True)
    if not path and last == "student" and isinstance(found, dict):
        for name in _OF_STUDENT.values():
            content.pop(name, None)
        content.update({_OF_STUDENT[name]: of for name, of in found.items() if name in _OF_STUDENT})
        if unknown := {name: of for name, of in found.items() if name not in _OF_STUDENT}:
            content["student"] = unknown  # refused by name
    else:
        content[last] = found


def _path_of(key: str) -> tuple[list[str], str]:
    """The sections of a dotted key, and the name within. Names of further data may have dots themselves."""
    *path, last = key.split(".")
    return ([SCORE_ON, ".".join(path[1:])] if path[:1] == [SCORE_ON] and len(path) > 1 else path), last


def as_meant(content: Mapping[Any, Any], path: tuple[str, ...] = ()) -> dict[Any, Any]:
    """The content in which keys that hold only text have the text that the file has, and no number."""
    settings, found = settings_of(_kinds_at(path)) if path != (SCORE_ON,) else {}, {}
    for key, value in content.items():
        inner = (not path and key in SECTIONS) or path == (SCORE_ON,)
        if inner and isinstance(value, dict):
            found[key] = as_meant(value, (*path, key))
        else:
            found[key] = settings[key].as_meant(value) if key in settings else plain_values(value)
    return found


def _kinds_at(path: Sequence[str]) -> tuple[type, ...]:
    """The dataclasses of the keys at a place of a recipe."""
    if path:
        return (TaskArguments,) if path[0] == SCORE_ON else section_kinds(path[0]) if path[0] in SECTIONS else ()
    return RunArguments, TaskArguments, ModelArguments


def _is_text(path: list[str], name: str) -> bool:
    """Whether a key holds text and nothing else, so that `2024_01_05`, `1.10` and `my #1` are taken literally."""
    setting = settings_of(_kinds_at(path)).get(name)
    return setting is not None and setting.types == (str,) and not setting.choices
