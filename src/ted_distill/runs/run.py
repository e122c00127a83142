"""A run is a folder that holds the stages of a recipe; those that are finished are skipped.

RUN/teacher_init                           a teacher of random weights, if the recipe asks for one (`from_scratch`)
RUN/student_init                           a student made of blocks of a model, if the recipe asks for one
RUN/teacher  RUN/student                   fine-tuned models
RUN/teacher_filters  RUN/student_filters   the same models with their filters (Stage I)
RUN/kd  RUN/lwd  RUN/ted                   distilled students (Stage II)
RUN/cache                                  what the teacher says about each row, while the run lasts
RUN/score_on                               scores on further data, if the recipe names some
RUN/recipe.yaml  RUN/results.json  RUN/results.md
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from accelerate import PartialState

from ..errors import InputError, collect, raise_if_any
from ..method.pairs import check_pairs, default_pairs, parse_pairs
from ..models.load import load_config
from ..models.narrow import narrow_config
from ..models.scratch import make_from_scratch
from ..models.students import make_student, read_student_layers, resolve_layers
from ..output import MANIFEST_NAME, RESULTS_NAME, check_writable, read_json, whole_files, write_json, write_stage
from ..stages import LearnFiltersArguments, distill, evaluate, finetune, learn_filters
from ..stages.lifecycle import Results
from ..tasks import Task, load_task
from ..training.stage_arguments import StageArguments
from .recipe import FINETUNE, FROM_SCRATCH, SCORE_ON, Recipe, RunArguments, score_on_arguments, stage_arguments
from .table import results_table

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
    further = {
        name: load_task(score_on_arguments(name, values)) for name, values in recipe.content.get(SCORE_ON, {}).items()
    }
    recipe = _with_teacher(recipe, task, further, folder)
    stage_one_filters = filter_arguments(recipe)
    pairs = run_pairs(recipe)
    results: dict[str, Results] = {}
    teacher, results["teacher"] = _teacher(recipe, task)
    # Blocks of a teacher made from scratch are worth something only once it is trained.
    raw_student = _student(recipe, folder, teacher if recipe.content.get(FROM_SCRATCH) else str(recipe.run.teacher))
    student, results["student"] = _student_stage(recipe, raw_student, task)
    filtered = {"teacher": teacher, "student": student}
    if "ted" in recipe.run.methods:
        stage_one = {}
        for owner, source in filtered.items():
            filtered[owner], stage_one[owner] = _learn_filters(recipe, owner, source, task, stage_one_filters[owner])
    pretrained = recipe.run.start_from == "pretrained"
    for method in recipe.run.methods:
        args, arguments = stage_arguments(recipe, method)
        _announce(method, args)
        _share_cache(recipe, args)
        own = (arguments.pairs, arguments.filter_interval, arguments.teacher_filter_interval)
        if method != "kd" and not any(own):
            arguments.pairs = [f"{teacher_block}:{student_block}" for teacher_block, student_block in pairs]
        if method == "ted":
            results[method] = distill(filtered["teacher"], filtered["student"], task, args, arguments)
            results[method]["stage_one_seconds"] = sum(stage["seconds"] for stage in stage_one.values())
        else:
            results[method] = distill(teacher, raw_student if pretrained else student, task, args, arguments)
    models = {"teacher": teacher, "student": student}
    for name in results:
        scored = models.get(name, str(folder / name))
        results[name] |= _scores_on(recipe, name, scored, further, folder)
    if PartialState().is_main_process:
        with whole_files(folder) as partial:
            write_json(partial / "results.json", results)
            (partial / "results.md").write_text(results_table(results) + "\n", encoding="utf-8")
        shutil.rmtree(folder / CACHE_NAME, ignore_errors=True)
    return results


def _with_teacher(recipe: Recipe, task: Task, further: dict[str, Task], folder: Path) -> Recipe:
    """Refuse what can be refused before the first stage; record the recipe; make the teacher if there is none."""
    problems: list[str] = []
    with collect(problems):
        check_writable(folder)
    for each in (task, *further.values()):
        with collect(problems):
            each.rows  # noqa: B018  (reading them is what checks them)
    if recipe.run.teacher:
        with collect(problems):
            filter_arguments(recipe)
    raise_if_any(problems)
    if PartialState().is_main_process:
        with whole_files(folder) as partial:
            text = yaml.safe_dump(recipe.content, sort_keys=False, allow_unicode=True)
            (partial / "recipe.yaml").write_text(text, encoding="utf-8")
    if recipe.run.teacher:
        return recipe
    made = folder / "teacher_init"
    wanted = {"stage": "from scratch", **recipe.content[FROM_SCRATCH]}
    seed = stage_arguments(recipe, "finetune_teacher")[0].seed
    _made_once(made, wanted, lambda: make_from_scratch(task, recipe.content[FROM_SCRATCH], made, seed))
    return replace(recipe, run=replace(recipe.run, teacher=str(made)))


def _made_once(folder: Path, wanted: dict[str, Any], make: Callable[[], object]) -> None:
    """Make a model that no stage trains, unless the folder holds it. Raises `InputError` if it holds another."""
    found = read_json(folder / MANIFEST_NAME)
    if found is None:
        if PartialState().is_main_process:
            logger.warning("== %s -> %s", ", ".join(f"{key}: {value}" for key, value in wanted.items()), folder)
            make()
            with whole_files(folder) as partial:
                write_json(partial / MANIFEST_NAME, wanted)
        PartialState().wait_for_everyone()
    elif found != wanted:
        raise InputError(
            f"output_dir: {folder} holds {found}, the recipe asks for {wanted}; delete the folder or give another "
            "output_dir"
        )


def _scores_on(recipe: Recipe, name: str, model: str, further: dict[str, Task], folder: Path) -> Results:
    """Scores of a finished model on the data of `score_on`, each under its name."""
    found: Results = {}
    args, _ = stage_arguments(recipe, FINETUNE[0])
    precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "no"
    for data, task in further.items():
        file = folder / "score_on" / f"{name}_{data}.json"
        wanted = {"model": model, **{key: value for key, value in vars(task.arguments).items() if value is not None}}
        known = read_json(file)
        if known is None or known.get("of") != wanted:
            logger.warning("== scoring %s on %s", name, data)
            size = args.per_device_eval_batch_size
            scores = evaluate(model, task, batch_size=size, mixed_precision=precision)
            known = {"of": wanted, "scores": scores}
            if PartialState().is_main_process:
                with whole_files(file.parent) as partial:
                    write_json(partial / file.name, known)
        scores = {key: value for key, value in known["scores"].items() if key != "parameters"}
        found |= {f"{data}_{key}": value for key, value in scores.items()}
    return found


def filter_arguments(recipe: Recipe) -> dict[str, LearnFiltersArguments]:
    """Filters of one width for both models, after blocks that pair.

    Raises:
        InputError: see `run_pairs`.
    """
    run = recipe.run
    width = run.filter_output_dim or load_config(str(run.teacher), recipe.model).hidden_size
    return {
        owner: LearnFiltersArguments(1, width, run.filter_nonlinear, sorted(blocks))
        for owner, blocks in zip(("teacher", "student"), zip(*run_pairs(recipe), strict=True), strict=True)
    }


def run_pairs(recipe: Recipe) -> list[tuple[int, int]]:
    """(teacher block, student block) of a recipe: given outright, by intervals, or as the student is made.

    Raises:
        InputError: blocks the models do not have, or intervals that do not pair.
    """
    run = recipe.run
    total = load_config(str(run.teacher), recipe.model).num_hidden_layers
    source = load_config(str(run.student or run.teacher), recipe.model)
    layers = student_layers(run, source.num_hidden_layers)
    if run.student_hidden_size:
        narrow_config(source, run.student_hidden_size)
    student_blocks = len(layers) if layers else source.num_hidden_layers
    if run.pairs:
        pairs = parse_pairs(run.pairs)
        check_pairs(pairs, total, student_blocks)
        return pairs
    of_teacher = run.student in (None, run.teacher)
    made_of = (layers if of_teacher else None) if layers else read_student_layers(str(run.student))
    return default_pairs(total, student_blocks, run.teacher_filter_interval, run.filter_interval, made_of)


def student_layers(run: RunArguments, total: int) -> list[int] | None:
    """Blocks of a model of `total` the student is made of; None where it is a model of its own. Raises `InputError`."""
    if not (run.student_layers or run.student_num_layers or run.student_hidden_size):
        return None
    return resolve_layers(total, run.student_layers, run.student_num_layers)


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


def _student(recipe: Recipe, folder: Path, teacher: str) -> str:
    """The student before fine-tuning: a model, or one made of some of a model's blocks."""
    source = str(recipe.run.student or teacher)
    blocks = student_layers(recipe.run, load_config(source, recipe.model).num_hidden_layers)
    if not blocks:
        return source
    width = recipe.run.student_hidden_size
    made = folder / "student_init"
    wanted: dict[str, Any] = {"stage": "student", "source": source, "student_layers": blocks}
    wanted |= {"student_hidden_size": width} if width else {}
    _made_once(made, wanted, lambda: make_student(source, blocks, made, recipe.model, width))
    return str(made)


def _finetune(recipe: Recipe, name: str, model: str, task: Task) -> tuple[str, Results]:
    args, model_arguments = stage_arguments(recipe, name)
    _announce(name, args)
    return args.output_dir, finetune(model, task, args, model_arguments)


def _learn_filters(
    recipe: Recipe, owner: str, model: str, task: Task, filters: LearnFiltersArguments
) -> tuple[str, Results]:
    args, _ = stage_arguments(recipe, f"learn_filters_{owner}")
    _announce(f"learn_filters_{owner}", args)
    if owner == "teacher":
        _share_cache(recipe, args)
    return args.output_dir, learn_filters(model, task, args, filters)


def _share_cache(recipe: Recipe, args: StageArguments) -> None:
    """What the teacher says serves every stage and method of the run."""
    if args.cache_dir is None:
        args.cache_dir = str(Path(str(recipe.run.output_dir)) / CACHE_NAME)
