"""A run is a folder that holds the stages of a recipe; those that are finished are skipped.

RUN/student_init                           a student made of blocks of a model, if the recipe asks for one
RUN/teacher  RUN/student                   fine-tuned models
RUN/teacher_filters  RUN/student_filters   the same models with their filters (Stage I)
RUN/kd  RUN/lwd  RUN/ted                   distilled students (Stage II)
RUN/cache                                  what the teacher says about each row, while the run lasts
RUN/recipe.yaml  RUN/results.json  RUN/results.md
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import yaml
from accelerate import PartialState

from .arguments import StageArguments
from .errors import InputError, collect, raise_if_any
from .filters import default_teacher_filter_interval, filtered_blocks, make_pairs
from .models import load_config
from .output import MANIFEST_NAME, RESULTS_NAME, check_writable, read_json, whole_files, write_json, write_stage
from .recipe import Recipe, stage_arguments
from .stages import LearnFiltersArguments, distill, evaluate, finetune, learn_filters
from .stages.base import Results
from .students import check_blocks, make_student
from .table import results_table
from .tasks import Task, load_task

logger = logging.getLogger(__name__)

CACHE_NAME = "cache"


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
        _share_cache(recipe, args)
        if method == "ted":
            results[method] = distill(filtered["teacher"], filtered["student"], task, args, arguments)
            results[method]["stage_one_seconds"] = sum(stage["seconds"] for stage in stage_one.values())
        else:
            results[method] = distill(teacher, raw_student if pretrained else student, task, args, arguments)
    if PartialState().is_main_process:
        with whole_files(folder) as partial:
            write_json(partial / "results.json", results)
            (partial / "results.md").write_text(results_table(results) + "\n", encoding="utf-8")
        shutil.rmtree(folder / CACHE_NAME, ignore_errors=True)
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
    if owner == "teacher":
        _share_cache(recipe, args)
    return args.output_dir, learn_filters(model, task, args, filter_arguments)


def _share_cache(recipe: Recipe, args: StageArguments) -> None:
    """What the teacher says serves every stage and method of the run."""
    if args.cache_dir is None:
        args.cache_dir = str(Path(str(recipe.run.output_dir)) / CACHE_NAME)
