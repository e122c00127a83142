"""A recipe, one YAML file, says what the stages of a run are."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError, collect, raise_if_any
from ..method.pairs import parse_pairs
from ..models.load import ModelArguments
from ..models.scratch import scratch_config
from ..stages import DistillArguments
from ..stages.methods import METHODS
from ..tasks import TaskArguments
from ..training.stage_arguments import StageArguments
from .parsing import field_names, nearest, parse, read_yaml, to_argv
from .recipe_files import find_recipe

logger = logging.getLogger(__name__)

FINETUNE = ("finetune_teacher", "finetune_student")
LEARN_FILTERS = ("learn_filters_teacher", "learn_filters_student")
SHARED = ("training", "finetune", "learn_filters", "distill")
SCORE_ON, FROM_SCRATCH = "score_on", "from_scratch"


@dataclass
class RunArguments:
    """The models and methods of a run: the top level of a recipe, beside the keys of its task."""

    output_dir: str | None = field(default=None, metadata={"help": "the run's folder"})
    teacher: str | None = field(default=None, metadata={"help": "folder or Hub id"})
    student: str | None = field(default=None, metadata={"help": "folder or Hub id [the teacher, with student_layers]"})
    student_layers: list[int] | None = field(
        default=None, metadata={"help": "make the student of these blocks of `student`, 1-based"}
    )
    student_num_layers: int | None = field(default=None, metadata={"help": "or of so many evenly spaced ones"})
    student_hidden_size: int | None = field(
        default=None, metadata={"help": "make it narrower: the leading part of those blocks' weights"}
    )
    methods: list[str] = field(default_factory=lambda: ["kd", "lwd", "ted"], metadata={"help": "in this order"})
    start_from: str = field(
        default="finetuned", metadata={"help": "what the methods start from: the student `finetuned` or `pretrained`"}
    )
    pairs: list[str] | None = field(
        default=None, metadata={"help": "[teacher block, student block] of each pair [as the student was made]"}
    )
    filter_interval: int = field(default=1, metadata={"help": "student: a filter after every so many blocks"})
    teacher_filter_interval: int | None = field(
        default=None, metadata={"help": "the same for the teacher [as the numbers of blocks divide]"}
    )
    filter_output_dim: int | None = field(default=None, metadata={"help": "width of both models' filters [teacher's]"})
    filter_nonlinear: bool = field(default=False, metadata={"help": "Linear -> act -> Linear filters"})


@dataclass(frozen=True)
class Recipe:
    """A recipe as read: models and methods, the task, how models are loaded, and each stage's own keys.

    Sections: `finetune_teacher`, `finetune_student`, `learn_filters_teacher`, `learn_filters_student`, `kd`, `lwd`,
    `ted` hold training arguments and the stage's own; `training` is shared by all of them, `finetune`,
    `learn_filters` and `distill` by both models or all methods; the most special wins. `finetune_teacher: false`
    takes a teacher that is fine-tuned already.

    `from_scratch` makes the teacher: a family and fields of its config, random weights, and a tokenizer of the
    training text. `score_on` names more data to score all finished models on: name -> keys of a task.
    """

    run: RunArguments
    task: TaskArguments
    model: ModelArguments
    sections: dict[str, dict[str, Any] | bool]
    content: dict[str, Any]

    def stage(self, name: str) -> dict[str, Any]:
        """Merged keys of one stage."""
        shared = "finetune" if name in FINETUNE else "learn_filters" if name in LEARN_FILTERS else "distill"
        merged: dict[str, Any] = {}
        for section in ("training", shared, name):
            values = self.sections.get(section)
            merged |= values if isinstance(values, dict) else {}
        return merged


# --- reading ----------------------------------------------------------------------------------------------------


def read_recipe(file: str | Path, overrides: list[str] | None = None, output_dir: str | None = None) -> Recipe:
    """Read and check a recipe; `key=value` overrides win, and `ted.mse_alpha=100` reaches into a section.

    Args:
        file: a YAML file, or the name of a recipe that comes with the package (`ted list`).
        output_dir: the run's folder where neither the recipe nor an override names one.

    Raises:
        InputError: no such file, no YAML, unknown keys (with the nearest known one), missing or wrong values.
    """
    content = read_yaml(find_recipe(file), "recipe")
    for override in overrides or []:
        _override(content, override)
    # `score_on=null` takes a section away as `student_layers=null` does a key.
    content = {key: value for key, value in content.items() if value is not None}
    content.setdefault("output_dir", output_dir)
    sections = {*FINETUNE, *LEARN_FILTERS, *METHODS, *SHARED, SCORE_ON, FROM_SCRATCH}
    top = {key: value for key, value in content.items() if key not in sections}
    problems: list[str] = []
    kinds = (RunArguments, TaskArguments, ModelArguments)
    for key in [key for key in top if key not in field_names(*kinds)]:
        problems.append(f"recipe: unknown key {key}{nearest(str(key), field_names(*kinds) | sections)}")
        del top[key]
    run, task, model = RunArguments(), TaskArguments(), ModelArguments()
    with collect(problems):
        run, task, model = parse(kinds, to_argv(top), "recipe")
        problems += _wrong_run(run, made=bool(content.get(FROM_SCRATCH)))
    own = {key: value for key, value in content.items() if key in sections}
    problems += _wrong_sections(own)
    known = Recipe(run, task, model, _known_keys(own), content)
    for name in [*FINETUNE, *LEARN_FILTERS, *METHODS]:
        with collect(problems):
            stage_arguments(known, name)
    raise_if_any(problems)
    return Recipe(run, task, model, own, content)


def _override(content: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise InputError(f"override: key=value was expected, {override} came")
    *path, last = key.split(".")
    for part in path:
        if not isinstance(content.get(part), dict):
            content[part] = {}
        content = content[part]
    try:
        content[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"override: {value} is not a YAML value ({' '.join(str(error).split())})") from error


def _wrong_sections(sections: dict[str, Any]) -> list[str]:
    """Sections that are none, and unknown keys: here, where each is named once, and not in the stages that share it."""
    problems = [
        f"recipe: section {name} was expected to hold `key: value` lines, {values} came"
        for name, values in sections.items()
        if not isinstance(values, dict) and not (values is False and name in FINETUNE)
    ]
    for name, values in (sections.get(SCORE_ON) or {}).items() if isinstance(sections.get(SCORE_ON), dict) else ():
        with collect(problems):
            score_on_arguments(name, values)
    if isinstance(sections.get(FROM_SCRATCH), dict):
        with collect(problems):
            scratch_config(sections[FROM_SCRATCH])
    return problems + [
        f"recipe section {name}: unknown key {key}{nearest(str(key), _section_keys(name))}"
        for name, values in sections.items()
        if isinstance(values, dict) and name not in (SCORE_ON, FROM_SCRATCH)
        for key in values
        if key not in _section_keys(name)
    ]


def score_on_arguments(name: str, values: Any) -> TaskArguments:
    """The task of one entry of `score_on`.

    Raises:
        InputError: unknown keys or wrong values.
    """
    if not isinstance(values, dict) or "task" not in values:
        raise InputError(f"recipe section {SCORE_ON}: {name} was expected to hold keys of a task, {values} came")
    (arguments,) = parse((TaskArguments,), to_argv(values), f"recipe section {SCORE_ON}.{name}")
    return arguments


def _section_keys(name: str) -> set[str]:
    if name in (*FINETUNE, "finetune"):
        return field_names(StageArguments, ModelArguments)
    if name in (*METHODS, "distill"):
        return field_names(StageArguments, DistillArguments)
    return field_names(StageArguments)


def _known_keys(sections: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {key: value for key, value in values.items() if key in _section_keys(name)}
        for name, values in sections.items()
        if isinstance(values, dict)
    }


def _wrong_run(run: RunArguments, made: bool) -> list[str]:
    problems = []
    if not run.output_dir:
        problems.append("recipe: output_dir is missing; pass output_dir=runs/NAME")
    if run.teacher and made:
        problems.append("recipe: teacher is given and is to be made from_scratch too; take one away")
    if not run.teacher and not made:
        problems.append("recipe: teacher is missing; pass a folder or Hub id, teacher=PATH")
    if not (run.student or run.student_layers or run.student_num_layers or run.student_hidden_size):
        problems.append("recipe: student is missing; pass a folder or Hub id, student=PATH, or student_layers=[2,4,6]")
    unknown = [method for method in run.methods if method not in METHODS]
    if unknown:
        problems.append(f"recipe: methods are {', '.join(METHODS)}; {', '.join(unknown)} came")
    problems += _wrong_pairs(run)
    if run.start_from not in ("finetuned", "pretrained"):
        problems.append(f"recipe: start_from is finetuned or pretrained; {run.start_from} came")
    if run.start_from == "pretrained" and "ted" in run.methods:
        problems.append("recipe: ted starts from the student its filters were learnt on; use start_from: finetuned")
    return problems


def _wrong_pairs(run: RunArguments) -> list[str]:
    problems: list[str] = []
    with collect(problems):
        parse_pairs(run.pairs or [])
    if run.pairs and (run.filter_interval != 1 or run.teacher_filter_interval is not None):
        problems.append("recipe: pairs stand beside filter_interval or teacher_filter_interval; give one or the other")
    return problems


def stage_arguments(recipe: Recipe, name: str) -> tuple[StageArguments, Any]:
    """(training arguments, the stage's own) of one stage.

    Raises:
        InputError: unknown keys or wrong values.
    """
    run = recipe.run
    where = f"recipe section {name}"
    folder = f"{run.output_dir}/{_FOLDERS.get(name, name)}"
    values = {**recipe.stage(name), "output_dir": folder}
    if name in FINETUNE:
        return parse((StageArguments, ModelArguments), to_argv({**_model_values(recipe), **values}), where)
    if name in LEARN_FILTERS:
        return (*parse((StageArguments,), to_argv(values), where), None)
    own = {"method": name, "new_head": run.start_from == "pretrained" and name != "ted"}
    return parse((StageArguments, DistillArguments), to_argv({**own, **values}), where)


_FOLDERS = {
    "finetune_teacher": "teacher",
    "finetune_student": "student",
    "learn_filters_teacher": "teacher_filters",
    "learn_filters_student": "student_filters",
}


def _model_values(recipe: Recipe) -> dict[str, Any]:
    return {key: value for key, value in vars(recipe.model).items() if value is not None}
