"""A recipe is one YAML file that defines the stages of a run."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..entries import typed
from ..errors import InputError, collect, near_names, raise_if_any, shown
from ..models.exponents import with_numbers
from ..models.load import ModelArguments
from ..models.scratch import scratch_config
from ..ranges import range_problems
from ..stages import DistillArguments
from ..stages.methods import LEARNED, METHODS, filter_learners
from ..tasks import TaskArguments, load_task
from ..training.stage_arguments import StageArguments
from .parsing import convert, field_names, from_values, read_yaml
from .recipe_files import find_recipe, run_of_file
from .recipe_keys import (
    FINETUNE,
    FROM_SCRATCH,
    LEARN_FILTERS,
    OWNERS,
    SCORE_ON,
    SECTIONS,
    SET_BY_THE_RUN,
    TOP_KEYS,
    apply_override,
    as_meant,
    place_of,
    section_kinds,
    sections_of,
    top_and_sections,
    unknown_key,
    with_student_keys,
)
from .recorded import DATA_FILES, seen_from_here
from .run_arguments import RunArguments

logger = logging.getLogger(__name__)

_PLAIN_NAME = re.compile(r"\w[\w.-]{0,59}")


@dataclass(frozen=True)
class Recipe:
    """A recipe as read: models and methods, the task, how models are loaded, and each stage's own keys.

    Sections: `finetune_teacher`, `finetune_student`, `learn_filters_teacher`, `learn_filters_student`, and one named
    after each method (`alone`, `kd`, `lwd`, `ted`, ...) hold training arguments and the stage's own. `training` is
    shared by all of them, `finetune`, `learn_filters` and `distill` by both models or all methods. The most specific
    section wins.
    `finetune_teacher: false` uses a teacher that is already fine-tuned.

    `from_scratch` makes the teacher: a family and fields of its config, random weights, and a tokenizer made from the
    training text. `score_on` names more data to score all finished models on: name -> keys of a task.
    """

    run: RunArguments
    task: TaskArguments
    model: ModelArguments
    sections: dict[str, dict[str, Any] | bool]
    content: dict[str, Any]

    @property
    def models(self) -> dict[str, str]:
        """`teacher` and `student`, where the recipe names them: folders or Hub ids."""
        return {owner: name for owner in OWNERS if (name := getattr(self.run, owner)) is not None}

    @property
    def stages(self) -> list[str]:
        """Names of the stages, in order."""
        tuned = [f"finetune_{owner}" for owner in OWNERS if self.tunes(owner)]
        return [*tuned, *(f"learn_filters_{owner}" for owner in self.filter_learners), *self.run.methods]

    def tunes(self, owner: str) -> bool:
        """Whether `teacher` or `student` is fine-tuned: not one taken as it is, or made of a fine-tuned teacher."""
        made_tuned = owner == "student" and self.run.start == "teacher"
        return self.sections.get(f"finetune_{owner}") is not False and not made_tuned

    @property
    def filter_learners(self) -> list[str]:
        """`teacher` and `student`, if Stage I learns filters of theirs."""
        return filter_learners(self.run.methods, self.student_filters)

    @property
    def student_filters(self) -> dict[str, str | None]:
        """Where the student's filters start, by method, if the recipe says so."""
        return {name: self.stage(name).get("student_filters") for name in self.run.methods}

    def stage(self, name: str) -> dict[str, Any]:
        """Merged keys of one stage; of what methods share, those that mean something to it."""
        merged: dict[str, Any] = {}
        for section in reversed(sections_of(name)):
            values = self.sections.get(section)
            values = values if isinstance(values, dict) else {}
            unused = METHODS[name].unused if name in METHODS and section != name else set()
            merged |= {key: value for key, value in values.items() if key not in unused}
        return merged


# --- reading ----------------------------------------------------------------------------------------------------


@typed
def read_recipe(file: str | Path, overrides: list[str] | None = None, output_dir: str | None = None) -> Recipe:
    """Read and check a recipe; `key=value` overrides win, and `ted.mse_alpha=100` reaches into a section.

    Args:
        file: a YAML file, or the name of a recipe that comes with the package (`ted list`).
        output_dir: the run's folder if neither the recipe nor an override names one [`runs/`, and the file's name].

    Raises:
        InputError: no such file, invalid YAML, unknown keys (with the nearest known one), missing or wrong values.
    """
    found = find_recipe(file)
    content = seen_from_here(read_yaml(found, "recipe", source=True), found)
    raise_if_any(_beside_the_recipe(content, found, overrides or []))
    return make_recipe(content, overrides, output_dir or f"runs/{run_of_file(found)}")


def _beside_the_recipe(content: Mapping[str, Any], file: Path, overrides: Sequence[str]) -> Iterator[str]:
    """Files that a recipe names as they are seen from its own folder, and not from the current one."""
    changed = {override.partition("=")[0] for override in overrides}
    for key, value in content.items():
        if key in DATA_FILES - changed and isinstance(value, str) and not Path(value).exists():
            beside = file.parent / value
            if beside.is_file():
                yield (
                    f"{key}: expected a file as it is seen from the current folder, got {value}, which lies beside the "
                    f"recipe; write {key}={beside}, or run this in {file.parent}"
                )


def make_recipe(given: Mapping[str, Any], overrides: list[str] | None = None, output_dir: str | None = None) -> Recipe:
    """The recipe of keys and sections as a YAML file has them; see `read_recipe`. Raises `InputError`."""
    problems: list[str] = []
    content = with_student_keys(copy.deepcopy(dict(given)), problems)
    for override in overrides or []:
        apply_override(content, override)
    content = as_meant(with_student_keys(content, problems))
    meant = {"student"} if problems else set()  # what a misspelt key stands for is not missing as well
    # `score_on=null` removes a section as `student_layers=null` does a key.
    content = {key: value for key, value in content.items() if value is not None}
    content.setdefault("output_dir", output_dir)
    if FROM_SCRATCH in content:
        content[FROM_SCRATCH] = with_numbers(content[FROM_SCRATCH])
    top, own = top_and_sections(content)
    kinds = (RunArguments, TaskArguments, ModelArguments)
    names = TOP_KEYS | SECTIONS
    unknown = [key for key in top if key not in names]
    for key in unknown:
        problems.append(unknown_key(key, names))
        del top[key]
    meant |= {name for key in unknown for name in near_names(str(key), names)}
    known = Recipe(RunArguments(), TaskArguments(), ModelArguments(), _known_keys(own), content)
    with collect(problems):
        known = replace(known, run=RunArguments(methods=_known_methods(top.get("methods"))))
        run, task, model = from_values(kinds, top, "recipe")
        known = replace(known, run=run, task=task, model=model)
        problems += _missing(run, made=bool(content.get(FROM_SCRATCH)), meant=meant)
        load_task(task)
    task = known.task
    problems += [*wrong_sections(own), *_wrong_names(own.get(SCORE_ON), bool(task.test_file or task.test_split))]
    for name in (*FINETUNE, *LEARN_FILTERS, *known.run.methods):
        with collect(problems):
            stage_arguments(known, name)
    problems += _wrong_starts(known, own)
    raise_if_any(problems)
    return replace(known, sections=own)


def _wrong_starts(recipe: Recipe, sections: dict[str, Any]) -> list[str]:
    """Sections that contradict what the methods start from."""
    problems = []
    if recipe.run.start == "teacher" and sections.get("finetune_student"):
        problems.append(
            "recipe section finetune_student: expected none, as the student is made of the fine-tuned teacher's blocks "
            "and trained by the methods alone; remove it, or set start_from: finetuned"
        )
    if recipe.run.start == "pretrained":
        problems += [
            f"start_from: expected finetuned with student_filters {LEARNED} of method {name}, as Stage I needs a "
            "fine-tuned student, got 'pretrained'; set student_filters: least_squares, or start_from: finetuned"
            for name, start in recipe.student_filters.items()
            if start == LEARNED
        ]
        if recipe.run.made_of_teacher and sections.get("finetune_teacher") is False:
            problems.append(
                "start_from: expected student, the model that the teacher was fine-tuned from, beside pretrained with "
                "finetune_teacher: false, got none, so that the start would be blocks of the fine-tuned teacher; give "
                "student, or leave start_from out"
            )
    return problems


def _known_methods(given: Any) -> list[str]:
    """The methods that exist, so that an unknown one does not hide other problems."""
    if given is None:
        return list(METHODS)
    named = given if isinstance(given, list) else [given]
    return [name for name in METHODS if name in named]


def wrong_sections(sections: dict[str, Any]) -> list[str]:
    """Sections of the wrong form, and unknown keys: each is named here once, not in every stage that shares it."""
    problems = [
        f"recipe section {name}: expected `key: value` lines, got {shown(values)}"
        for name, values in sections.items()
        if not isinstance(values, dict) and not (isinstance(values, bool) and name in FINETUNE)
    ]
    held = {name: values for name, values in sections.items() if isinstance(values, dict)}
    for name, values in held.get(SCORE_ON, {}).items():
        with collect(problems):
            score_on_arguments(name, values)
    if FROM_SCRATCH in held:
        with collect(problems):
            _check_names(held[FROM_SCRATCH])
            scratch_config(held[FROM_SCRATCH])
    for name, values in held.items():
        if name not in (SCORE_ON, FROM_SCRATCH):
            problems += _wrong_values(name, values)
    # What is made of a model, or compared with it, would be of another revision than the stage.
    problems += [
        f"recipe section {name}: expected model_revision at the top of the recipe, got it in a section; move it, or "
        f"write it into the model's name (owner/name@{values['model_revision']})"
        for name, values in held.items()
        if "model_revision" in values
    ]
    return problems


def _wrong_values(name: str, values: dict[Any, Any]) -> list[str]:
    """Unknown keys of a section, and values that do not fit, even if every stage that reads it has its own."""
    problems: list[str] = []
    kinds, where = section_kinds(name), f"recipe section {name}"
    for key in sorted(SET_BY_THE_RUN & {*values}):
        problems.append(f"{where}: unknown key {key}, which the run sets; leave it out")
    places = {key: place_of(key) for key in values.keys() - field_names(*kinds) - SET_BY_THE_RUN}
    misplaced = {key: place for key, place in places.items() if place}
    problems += [f"{where}: unknown key {key}; did you mean {misplaced[key]}?" for key in values if key in misplaced]
    fitting = convert(
        kinds,
        {key: value for key, value in values.items() if key not in SET_BY_THE_RUN | misplaced.keys()},
        where,
        problems,
    )
    return problems + [f"{where}: {problem}" for kind in kinds for problem in range_problems(kind, fitting)]


def _wrong_names(further: Any, tested: bool) -> list[str]:
    """Names of further data that would clash with prefixes of scores: of the last evaluation, best threshold, or tests.

    Others are compared with the scores of the run: see `further_data`.
    """
    names = [str(name) for name in further] if isinstance(further, dict) else []
    names = [
        name for name in names if name in ("last", "best") or (tested and (name == "test" or name.startswith("test_")))
    ]
    return [
        f"recipe section {SCORE_ON}.{name}: expected another name, as other scores have it; rename it" for name in names
    ]


def _check_names(values: dict[Any, Any]) -> None:
    raise_if_any(
        f"recipe section {FROM_SCRATCH}: expected names of config fields, got {shown(key)}"
        for key in values
        if not isinstance(key, str)
    )


def score_on_arguments(name: Any, values: Any) -> TaskArguments:
    """The task of one entry of `score_on`.

    Raises:
        InputError: unknown keys or wrong values.
    """
    if not isinstance(name, str) or not _PLAIN_NAME.fullmatch(name):
        raise InputError(
            f"recipe section {SCORE_ON}: expected names of at most 60 letters, digits, -, _ or ., as files are named "
            f"after them, got {shown(name)}; rename it"
        )
    where = f"recipe section {SCORE_ON}.{name}"
    if not isinstance(values, dict) or "task" not in values:
        raise InputError(f"{where}: expected keys of a task, `task` among them, got {shown(values)}")
    (arguments,) = from_values((TaskArguments,), values, where)
    try:
        load_task(arguments)
    except InputError as error:
        raise InputError(f"{where}: {problem}" for problem in error.problems) from error
    return arguments


def _known_keys(sections: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {key: value for key, value in values.items() if key in field_names(*section_kinds(name)) - SET_BY_THE_RUN}
        for name, values in sections.items()
        if isinstance(values, dict)
    }


def _missing(run: RunArguments, made: bool, meant: set[str]) -> list[str]:
    """The problems that keys are missing which every recipe needs, less those `meant` by misspelt ones."""
    problems = []
    if not run.output_dir:
        problems.append("recipe: output_dir is missing; pass output_dir=runs/NAME")
    if run.teacher and made:
        problems.append("recipe: expected teacher or from_scratch, got both; remove one")
    if not run.teacher and not made and not meant & {"teacher", FROM_SCRATCH}:
        problems.append("recipe: teacher is missing; pass a folder or Hub id, teacher=PATH")
    named = run.student or run.student_layers or run.student_num_layers or run.student_hidden_size
    if not named and not any(name.startswith("student") for name in meant):
        problems.append("recipe: student is missing; pass a folder or Hub id, student=PATH, or student_layers=[2,4,6]")
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
        own = {"method": name, "new_head": recipe.run.start == "pretrained"}
        if METHODS[name].student_filters is not None and "student_filters" not in METHODS[name].unused:
            # A folder of a student may hold filters of an earlier run.
            own["student_filters"] = METHODS[name].student_filters
    values = {**own, **recipe.stage(name), "output_dir": folder}
    args, *rest = from_values(kinds, values, lambda key: _place(recipe, name, key))
    return args, rest[0] if rest else None


def _place(recipe: Recipe, stage: str, key: Any) -> str:
    """The section that a stage's key is in."""
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
