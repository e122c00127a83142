"""A recipe is one YAML file that defines the stages of a run."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError, collect, raise_if_any
from ..method.pairs import parse_pairs
from ..models.load import ModelArguments
from ..models.scratch import scratch_config
from ..stages import DistillArguments
from ..stages.methods import METHODS
from ..tasks import TaskArguments
from ..training.stage_arguments import StageArguments
from .parsing import field_names, from_values, nearest, parse_yaml, read_yaml, shown, with_numbers
from .recipe_files import find_recipe

logger = logging.getLogger(__name__)

FINETUNE = ("finetune_teacher", "finetune_student")
LEARN_FILTERS = ("learn_filters_teacher", "learn_filters_student")
SHARED = ("training", "finetune", "learn_filters", "distill")
SCORE_ON, FROM_SCRATCH = "score_on", "from_scratch"
STAGES = (*FINETUNE, *LEARN_FILTERS, *METHODS)
SECTIONS = {*STAGES, *SHARED, SCORE_ON, FROM_SCRATCH}


@dataclass
class RunArguments:
    """The models and methods of a run: the top level of a recipe, together with the keys of its task."""

    output_dir: str | None = field(default=None, metadata={"help": "the run's folder"})
    teacher: str | None = field(default=None, metadata={"help": "folder or Hub id"})
    student: str | None = field(default=None, metadata={"help": "folder or Hub id [the teacher, with student_layers]"})
    student_layers: list[int] | None = field(
        default=None, metadata={"help": "make the student of these blocks of `student`, counted from 1"}
    )
    student_num_layers: int | None = field(default=None, metadata={"help": "or of this number of evenly spaced ones"})
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
    filter_interval: int = field(default=1, metadata={"help": "student: a filter after every N-th block"})
    teacher_filter_interval: int | None = field(
        default=None, metadata={"help": "the same for the teacher [as the numbers of blocks divide]"}
    )
    filter_output_dim: int | None = field(default=None, metadata={"help": "width of both models' filters [teacher's]"})
    filter_nonlinear: bool = field(default=False, metadata={"help": "Linear -> act -> Linear filters"})


@dataclass(frozen=True)
class Recipe:
    """A recipe as read: models and methods, the task, how models are loaded, and each stage's own keys.

    Sections: `finetune_teacher`, `finetune_student`, `learn_filters_teacher`, `learn_filters_student`, `kd`, `lwd` and
    `ted` hold training arguments and the stage's own; `training` is shared by all of them; `finetune`,
    `learn_filters` and `distill` by both models or all methods. The most specific section wins.
    `finetune_teacher: false` uses a teacher that is already fine-tuned.

    `from_scratch` makes the teacher: a family and fields of its config, random weights, and a tokenizer made from the
    training text. `score_on` names more data to score all finished models on: name -> keys of a task.
    """

    run: RunArguments
    task: TaskArguments
    model: ModelArguments
    sections: dict[str, dict[str, Any] | bool]
    content: dict[str, Any]

    def stage(self, name: str) -> dict[str, Any]:
        """Merged keys of one stage."""
        merged: dict[str, Any] = {}
        for section in reversed(sections_of(name)):
            values = self.sections.get(section)
            merged |= values if isinstance(values, dict) else {}
        return merged


def sections_of(stage: str) -> tuple[str, ...]:
    """The sections that a stage reads, the most specific first."""
    shared = "finetune" if stage in FINETUNE else "learn_filters" if stage in LEARN_FILTERS else "distill"
    return stage, shared, "training"


# --- reading ----------------------------------------------------------------------------------------------------


def read_recipe(file: str | Path, overrides: list[str] | None = None, output_dir: str | None = None) -> Recipe:
    """Read and check a recipe; `key=value` overrides win, and `ted.mse_alpha=100` reaches into a section.

    Args:
        file: a YAML file, or the name of a recipe that comes with the package (`ted list`).
        output_dir: the run's folder if neither the recipe nor an override names one.

    Raises:
        InputError: no such file, invalid YAML, unknown keys (with the nearest known one), missing or wrong values.
    """
    content = read_yaml(find_recipe(file), "recipe")
    for override in overrides or []:
        _override(content, override)
    # `score_on=null` removes a section as `student_layers=null` does a key.
    content = {key: value for key, value in content.items() if value is not None}
    content.setdefault("output_dir", output_dir)
    if FROM_SCRATCH in content:
        content[FROM_SCRATCH] = with_numbers(content[FROM_SCRATCH])
    top, own = _top_and_sections(content)
    problems: list[str] = []
    kinds = (RunArguments, TaskArguments, ModelArguments)
    for key in [key for key in top if key not in field_names(*kinds)]:
        problems.append(f"recipe: unknown key {key}{nearest(str(key), field_names(*kinds) | SECTIONS)}")
        del top[key]
    run, task, model = RunArguments(), TaskArguments(), ModelArguments()
    with collect(problems):
        run, task, model = from_values(kinds, top, "recipe")
        problems += _wrong_run(run, made=bool(content.get(FROM_SCRATCH)))
    problems += [*_wrong_sections(own), *_wrong_names(own.get(SCORE_ON), bool(task.test_file or task.test_split))]
    known = Recipe(run, task, model, _known_keys(own), content)
    for name in STAGES:
        with collect(problems):
            stage_arguments(known, name)
    raise_if_any(problems)
    return Recipe(run, task, model, own, content)


def _top_and_sections(content: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    top = {key: value for key, value in content.items() if key not in SECTIONS}
    return top, {key: value for key, value in content.items() if key in SECTIONS}


def _override(content: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise InputError(f"override: expected key=value, got {shown(override)}")
    *path, last = key.split(".")
    for part in path:
        if not isinstance(content.get(part), dict):
            content[part] = {}
        content = content[part]
    content[last] = parse_yaml(value, f"override {key}")


def _wrong_sections(sections: dict[str, Any]) -> list[str]:
    """Sections of the wrong form, and unknown keys: each is named here once, not in every stage that shares it."""
    problems = [
        f"recipe section {name}: expected `key: value` lines, got {shown(values)}"
        for name, values in sections.items()
        if not isinstance(values, dict) and not (values is False and name in FINETUNE)
    ]
    held = {name: values for name, values in sections.items() if isinstance(values, dict)}
    for name, values in held.get(SCORE_ON, {}).items():
        with collect(problems):
            score_on_arguments(name, values)
    if FROM_SCRATCH in held:
        with collect(problems):
            _check_names(held[FROM_SCRATCH])
            scratch_config(held[FROM_SCRATCH])
    return problems + [
        f"recipe section {name}: unknown key {key}{nearest(str(key), _section_keys(name))}"
        for name, values in held.items()
        if name not in (SCORE_ON, FROM_SCRATCH)
        for key in values
        if key not in _section_keys(name)
    ]


def _wrong_names(further: Any, tested: bool) -> list[str]:
    """Names of further data that are prefixes of other scores: the last evaluation's, and those on test rows."""
    names = [str(name) for name in further] if isinstance(further, dict) else []
    names = [name for name in names if name == "last" or (tested and (name == "test" or name.startswith("test_")))]
    return [
        f"recipe section {SCORE_ON}.{name}: expected another name, as other scores have it; rename it" for name in names
    ]


def _check_names(values: dict[Any, Any]) -> None:
    raise_if_any(
        f"recipe section {FROM_SCRATCH}: expected names of config fields, got {shown(key)}"
        for key in values
        if not isinstance(key, str)
    )


def score_on_arguments(name: str, values: Any) -> TaskArguments:
    """The task of one entry of `score_on`.

    Raises:
        InputError: unknown keys or wrong values.
    """
    where = f"recipe section {SCORE_ON}.{name}"
    if not isinstance(values, dict) or "task" not in values:
        raise InputError(f"{where}: expected keys of a task, `task` among them, got {shown(values)}")
    (arguments,) = from_values((TaskArguments,), values, where)
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
        problems.append("recipe: expected teacher or from_scratch, got both; remove one")
    if not run.teacher and not made:
        problems.append("recipe: teacher is missing; pass a folder or Hub id, teacher=PATH")
    if not (run.student or run.student_layers or run.student_num_layers or run.student_hidden_size):
        problems.append("recipe: student is missing; pass a folder or Hub id, student=PATH, or student_layers=[2,4,6]")
    problems += [
        f"recipe: methods: expected one or more of {', '.join(METHODS)}, got {shown(method)}{nearest(method, METHODS)}"
        for method in run.methods
        if method not in METHODS
    ]
    problems += _wrong_pairs(run)
    if run.start_from not in ("finetuned", "pretrained"):
        problems.append(f"recipe: start_from: expected finetuned or pretrained, got {shown(run.start_from)}")
    if run.start_from == "pretrained" and "ted" in run.methods:
        problems.append(
            "recipe: start_from: expected finetuned with method ted, which starts from the student its filters were "
            "learnt on, got 'pretrained'; remove ted or use start_from: finetuned"
        )
    return problems


def _wrong_pairs(run: RunArguments) -> list[str]:
    problems: list[str] = []
    with collect(problems):
        parse_pairs(run.pairs or [])
    if run.pairs and (run.filter_interval != 1 or run.teacher_filter_interval is not None):
        problems.append("recipe: expected pairs or filter intervals, got both; remove one")
    return problems


# --- stages -----------------------------------------------------------------------------------------------------


def stage_arguments(recipe: Recipe, name: str) -> tuple[StageArguments, Any]:
    """(training arguments, the stage's own) of one stage.

    Raises:
        InputError: unknown keys or wrong values, each under the section that holds it.
    """
    folder = f"{recipe.run.output_dir}/{_FOLDERS.get(name, name)}"
    kinds: tuple[type, ...] = (StageArguments,)
    own: dict[str, Any] = {}
    if name in FINETUNE:
        kinds += (ModelArguments,)
        own = vars(recipe.model)
    elif name not in LEARN_FILTERS:
        kinds += (DistillArguments,)
        own = {"method": name, "new_head": recipe.run.start_from == "pretrained" and name != "ted"}
    try:
        args, *rest = from_values(kinds, {**own, **recipe.stage(name), "output_dir": folder})
    except InputError as error:
        raise InputError(f"{_place(recipe, name, problem)}: {problem}" for problem in error.problems) from error
    return args, rest[0] if rest else None


def _place(recipe: Recipe, stage: str, problem: str) -> str:
    """The section of the key that a problem starts with."""
    key = problem.removeprefix("unknown key ").partition(":")[0].partition(";")[0]
    for section in sections_of(stage):
        values = recipe.sections.get(section)
        if isinstance(values, dict) and key in values:
            return f"recipe section {section}"
    return "recipe"


_FOLDERS = {
    "finetune_teacher": "teacher",
    "finetune_student": "student",
    "learn_filters_teacher": "teacher_filters",
    "learn_filters_student": "student_filters",
}
