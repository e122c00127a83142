"""A recipe, one YAML file, is the stages of a run. A run is a folder; its finished stages are skipped.

RUN/student_init                           a student made of blocks of a model, if the recipe asks for one
RUN/teacher  RUN/student                   fine-tuned models
RUN/teacher_filters  RUN/student_filters   the same models with their filters (Stage I)
RUN/kd  RUN/lwd  RUN/ted                   distilled students (Stage II)
RUN/recipe.yaml  RUN/results.json  RUN/results.md
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from accelerate import PartialState

from .arguments import StageArguments
from .errors import InputError, collect, raise_if_any
from .filters import default_teacher_filter_interval, filtered_blocks, make_pairs
from .models import ModelArguments, check_blocks, load_config, make_student
from .output import MANIFEST_NAME, RESULTS_NAME, check_writable, read_json, whole_files, write_json, write_stage
from .parsing import field_names, nearest, parse, read_yaml, to_argv
from .stages import DistillArguments, LearnFiltersArguments, distill, evaluate, finetune, learn_filters
from .stages.base import Results
from .stages.distill import METHODS
from .table import results_table
from .tasks import Task, TaskArguments, load_task

logger = logging.getLogger(__name__)

FINETUNE = ("finetune_teacher", "finetune_student")
LEARN_FILTERS = ("learn_filters_teacher", "learn_filters_student")
SHARED = ("training", "finetune", "learn_filters", "distill")


@dataclass
class RunArguments:
    """The models and methods of a run: the top level of a recipe, beside the keys of its task."""

    output_dir: str | None = field(default=None, metadata={"help": "the run's folder"})
    teacher: str | None = field(default=None, metadata={"help": "folder or Hub id"})
    student: str | None = field(default=None, metadata={"help": "folder or Hub id [the teacher, with student_layers]"})
    student_layers: list[int] | None = field(
        default=None, metadata={"help": "make the student of these blocks of `student`, 1-based"}
    )
    methods: list[str] = field(default_factory=lambda: ["kd", "lwd", "ted"], metadata={"help": "in this order"})
    start_from: str = field(
        default="finetuned", metadata={"help": "what the methods start from: the student `finetuned` or `pretrained`"}
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


def read_recipe(file: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read and check a recipe; `key=value` overrides win, and `ted.mse_alpha=100` reaches into a section.

    Raises:
        InputError: no such file, no YAML, unknown keys (with the nearest known one), missing or wrong values.
    """
    content = read_yaml(file, "recipe")
    for override in overrides or []:
        _override(content, override)
    sections = {*FINETUNE, *LEARN_FILTERS, *METHODS, *SHARED}
    top = {key: value for key, value in content.items() if key not in sections}
    problems: list[str] = []
    kinds = (RunArguments, TaskArguments, ModelArguments)
    for key in [key for key in top if key not in field_names(*kinds)]:
        problems.append(f"recipe: unknown key {key}{nearest(str(key), field_names(*kinds) | sections)}")
        del top[key]
    run, task, model = RunArguments(), TaskArguments(), ModelArguments()
    with collect(problems):
        run, task, model = parse(kinds, to_argv(top), "recipe")
        problems += _wrong_run(run)
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
    return problems + [
        f"recipe section {name}: unknown key {key}{nearest(str(key), _section_keys(name))}"
        for name, values in sections.items()
        if isinstance(values, dict)
        for key in values
        if key not in _section_keys(name)
    ]


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


def _wrong_run(run: RunArguments) -> list[str]:
    problems = []
    if not run.output_dir:
        problems.append("recipe: output_dir is missing; pass output_dir=runs/NAME")
    if not run.teacher:
        problems.append("recipe: teacher is missing; pass a folder or Hub id, teacher=PATH")
    if not run.student and not run.student_layers:
        problems.append("recipe: student is missing; pass a folder or Hub id, student=PATH, or student_layers=[2,4,6]")
    unknown = [method for method in run.methods if method not in METHODS]
    if unknown:
        problems.append(f"recipe: methods are {', '.join(METHODS)}; {', '.join(unknown)} came")
    if run.start_from not in ("finetuned", "pretrained"):
        problems.append(f"recipe: start_from is finetuned or pretrained; {run.start_from} came")
    if run.start_from == "pretrained" and "ted" in run.methods:
        problems.append("recipe: ted starts from the student its filters were learnt on; use start_from: finetuned")
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
    if name != "kd":
        own |= {"filter_interval": run.filter_interval, "teacher_filter_interval": run.teacher_filter_interval}
    return parse((StageArguments, DistillArguments), to_argv({**own, **values}), where)


_FOLDERS = {
    "finetune_teacher": "teacher",
    "finetune_student": "student",
    "learn_filters_teacher": "teacher_filters",
    "learn_filters_student": "student_filters",
}


def _model_values(recipe: Recipe) -> dict[str, Any]:
    return {key: value for key, value in vars(recipe.model).items() if value is not None}


# --- running ----------------------------------------------------------------------------------------------------


def run(recipe: Recipe) -> dict[str, Results]:
    """Run all stages of a recipe, those that are finished excepted, and write the table.

    Returns:
        Results of teacher, fine-tuned student and each method, by name.

    Raises:
        InputError, TrainingError: see the stages.
    """
    task = load_task(recipe.task)
    folder = Path(str(recipe.run.output_dir))
    filter_arguments = _check(recipe, task, folder)
    results: dict[str, Results] = {}
    raw_student = _student(recipe, folder)
    teacher, results["teacher"] = _teacher(recipe, task)
    student, results["student"] = _student_stage(recipe, raw_student, task)
    filtered = {"teacher": teacher, "student": student}
    if "ted" in recipe.run.methods:
        stage_one = {}
        for owner, source in filtered.items():
            filtered[owner], stage_one[owner] = _learn_filters(recipe, owner, source, task, filter_arguments[owner])
    pretrained = recipe.run.start_from == "pretrained"
    for method in recipe.run.methods:
        args, arguments = stage_arguments(recipe, method)
        _announce(method, args)
        if method == "ted":
            results[method] = distill(filtered["teacher"], filtered["student"], task, args, arguments)
            results[method]["stage_one_seconds"] = sum(stage["seconds"] for stage in stage_one.values())
        else:
            results[method] = distill(teacher, raw_student if pretrained else student, task, args, arguments)
    if PartialState().is_main_process:
        with whole_files(folder) as partial:
            write_json(partial / "results.json", results)
            (partial / "results.md").write_text(results_table(results) + "\n", encoding="utf-8")
    return results


def _check(recipe: Recipe, task: Task, folder: Path) -> dict[str, LearnFiltersArguments]:
    """Refuse what can be refused before the first stage; record the recipe; shape both models' filters."""
    problems: list[str] = []
    filter_arguments: dict[str, LearnFiltersArguments] = {}
    with collect(problems):
        check_writable(folder)
    with collect(problems):
        task.rows  # noqa: B018  (reading them is what checks them)
    with collect(problems):
        filter_arguments = _filter_arguments(recipe)
    raise_if_any(problems)
    if PartialState().is_main_process:
        with whole_files(folder) as partial:
            text = yaml.safe_dump(recipe.content, sort_keys=False, allow_unicode=True)
            (partial / "recipe.yaml").write_text(text, encoding="utf-8")
    return filter_arguments


def _filter_arguments(recipe: Recipe) -> dict[str, LearnFiltersArguments]:
    """Filters of one width for both models, after blocks that pair."""
    run = recipe.run
    teacher = load_config(str(run.teacher), recipe.model)
    student = load_config(str(run.student or run.teacher), recipe.model)
    if run.student_layers:
        check_blocks(run.student_layers, student.num_hidden_layers)
    student_blocks = len(run.student_layers) if run.student_layers else student.num_hidden_layers
    teacher_interval = run.teacher_filter_interval
    if teacher_interval is None:
        teacher_interval = default_teacher_filter_interval(
            teacher.num_hidden_layers, student_blocks, run.filter_interval
        )
    make_pairs(
        filtered_blocks(teacher.num_hidden_layers, teacher_interval),
        filtered_blocks(student_blocks, run.filter_interval),
    )
    width = run.filter_output_dim or teacher.hidden_size
    return {
        "teacher": LearnFiltersArguments(teacher_interval, width, run.filter_nonlinear),
        "student": LearnFiltersArguments(run.filter_interval, width, run.filter_nonlinear),
    }


def _announce(stage: str, args: StageArguments) -> None:
    state = "is finished, skipped" if (Path(args.output_dir) / MANIFEST_NAME).exists() else f"-> {args.output_dir}"
    logger.warning("== %s %s", stage.replace("_", " "), state)


def _teacher(recipe: Recipe, task: Task) -> tuple[str, Results]:
    """The fine-tuned teacher: fine-tuned here, or scored as it is."""
    if recipe.sections.get("finetune_teacher") is not False:
        return _finetune(recipe, "finetune_teacher", str(recipe.run.teacher), task)
    return _scored(recipe, "teacher", str(recipe.run.teacher), task)


def _student_stage(recipe: Recipe, raw_student: str, task: Task) -> tuple[str, Results]:
    if recipe.sections.get("finetune_student") is not False:
        return _finetune(recipe, "finetune_student", raw_student, task)
    return _scored(recipe, "student", raw_student, task)


def _scored(recipe: Recipe, owner: str, name: str, task: Task) -> tuple[str, Results]:
    """A model that is fine-tuned already, and its scores."""
    args, _ = stage_arguments(recipe, f"finetune_{owner}")
    _announce(f"scoring the {owner}", args)
    folder = Path(args.output_dir)
    known = read_json(folder / MANIFEST_NAME)
    if known is None or known.get("model") != name:
        precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "no"
        scores = evaluate(name, task, batch_size=args.per_device_eval_batch_size, mixed_precision=precision)
        if PartialState().is_main_process:
            results = {**scores, "metric": task.metric, "seconds": 0.0}
            write_stage(folder, lambda partial: None, results, {"stage": "evaluate", "task": task.name, "model": name})
        PartialState().wait_for_everyone()
    return name, read_json(folder / RESULTS_NAME) or {}


def _student(recipe: Recipe, folder: Path) -> str:
    """The student before fine-tuning: a model, or one made of some of a model's blocks."""
    source = str(recipe.run.student or recipe.run.teacher)
    blocks = recipe.run.student_layers
    if not blocks:
        return source
    made = folder / "student_init"
    wanted = {"stage": "student", "source": source, "student_layers": blocks}
    found = read_json(made / MANIFEST_NAME)
    if found is None:
        if PartialState().is_main_process:
            logger.warning("== student of blocks %s of %s -> %s", blocks, source, made)
            make_student(source, blocks, made, recipe.model)
            with whole_files(made) as partial:
                write_json(partial / MANIFEST_NAME, wanted)
        PartialState().wait_for_everyone()
    elif found != wanted:
        raise InputError(
            f"output_dir: {made} holds a student of blocks {found.get('student_layers')} of {found.get('source')}, "
            f"the recipe asks for {blocks} of {source}; delete the folder or give another output_dir"
        )
    return str(made)


def _finetune(recipe: Recipe, name: str, model: str, task: Task) -> tuple[str, Results]:
    args, model_arguments = stage_arguments(recipe, name)
    _announce(name, args)
    return args.output_dir, finetune(model, task, args, model_arguments)


def _learn_filters(
    recipe: Recipe, owner: str, model: str, task: Task, filter_arguments: LearnFiltersArguments
) -> tuple[str, Results]:
    args, _ = stage_arguments(recipe, f"learn_filters_{owner}")
    _announce(f"learn_filters_{owner}", args)
    return args.output_dir, learn_filters(model, task, args, filter_arguments)
