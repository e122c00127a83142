"""The command `ted`: flags in, a stage run, results on the screen. No logic of its own."""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ..errors import InputError, TrainingError

USAGE = """\
usage: ted COMMAND [flags]

Turn a large fine-tuned transformer into a small, fast one (task-aware layer-wise distillation, TED).

  ted demo                                  the whole method in a few minutes, offline, on any machine
  ted list                                  tasks, data sets and recipes known by name
  ted show RECIPE [key=value ...]           what a recipe would do: models, pairs, steps, memory; nothing is trained
  ted run RECIPE [key=value ...]            all stages of a recipe, then one table; goes on where it was

  ted finetune --help                       step 0: fine-tune one model on a task
  ted learn-filters --help                  Stage I: learn filters on a fine-tuned model, score each block
  ted distill --help                        Stage II: teacher -> student (--method ted, lwd or kd)
  ted student TEACHER OUT --layers 2,4,6    a student made of some of a teacher's blocks (--help: narrower ones)
  ted evaluate --help                       score any checkpoint on any task
  ted import-reference SOURCE OUT           a checkpoint of the published code -> a plain one and filter files

Flags may also stand in a file: --config FILE.yaml (flags given beside it win).
"""


@dataclass
class OneModel:
    """The model of a stage that has one."""

    _argument_group_name: ClassVar[str] = "models"

    model_name_or_path: str | None = field(default=None, metadata={"help": "folder or Hub id"})


@dataclass
class TwoModels:
    """The models of Stage II."""

    _argument_group_name: ClassVar[str] = "models"

    teacher_name_or_path: str | None = field(default=None, metadata={"help": "the fine-tuned teacher"})
    student_name_or_path: str | None = field(default=None, metadata={"help": "the fine-tuned student"})


@dataclass
class EvaluateArguments:
    """What to score, and where the results go."""

    _argument_group_name: ClassVar[str] = "scoring"

    model_name_or_path: str | None = field(default=None, metadata={"help": "the fine-tuned model to score"})
    teacher_name_or_path: str | None = field(default=None, metadata={"help": "also: how often it says the same"})
    predictions_file: str | None = field(default=None, metadata={"help": "score these predictions instead of a model"})
    output_dir: str | None = field(default=None, metadata={"help": "folder for the scores and the predictions"})
    per_device_eval_batch_size: int = field(default=32, metadata={"help": "rows at a time"})
    bf16: bool = field(default=False, metadata={"help": "bf16 autocast"})
    fp16: bool = field(default=False, metadata={"help": "fp16 autocast"})


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 1 (training went wrong), 2 (bad input), 130 (interrupted)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    _quiet()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        return _run(argv)
    except InputError as error:
        _say(f"ted {argv[0] if argv else ''}: the input was refused, before any training.\n{error}")
        return 2
    except TrainingError as error:
        _say(f"ted {argv[0]}: {error}")
        return 1
    except KeyboardInterrupt:
        _say("interrupted; the same command goes on from the last checkpoint")
        return 130


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        sys.stdout.write(USAGE)
        return 0
    if argv[0] == "--version":
        from importlib.metadata import version

        sys.stdout.write(f"ted-distill {version('ted-distill')}\n")
        return 0
    command = COMMANDS.get(argv[0])
    if command is None:
        from ..runs.parsing import nearest

        raise InputError(f"unknown command {argv[0]}{nearest(argv[0], COMMANDS)} (`ted --help` lists all)")
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    return command(argv[1:])


# --- commands -------------------------------------------------------------------------------------------------
# Imports are inside: torch and transformers take seconds, and `ted --help` should not.


def _finetune(argv: list[str]) -> int:
    from ..models.load import ModelArguments
    from ..stages import finetune
    from ..tasks import TaskArguments, load_task
    from ..training.stage_arguments import StageArguments
    from .flags import parse_flags

    parsed = parse_flags(
        "finetune", "Step 0: fine-tune one model.", (OneModel, TaskArguments, ModelArguments, StageArguments), argv
    )
    if parsed:
        model, task, model_arguments, args = parsed
        _print_results(finetune(model.model_name_or_path, load_task(task), args, model_arguments), args.output_dir)
    return 0


def _learn_filters(argv: list[str]) -> int:
    from ..models.load import ModelArguments
    from ..stages import LearnFiltersArguments, learn_filters
    from ..tasks import TaskArguments, load_task
    from ..training.stage_arguments import StageArguments
    from .flags import parse_flags

    kinds = (OneModel, LearnFiltersArguments, TaskArguments, ModelArguments, StageArguments)
    parsed = parse_flags("learn-filters", "Stage I: learn filters on a frozen, fine-tuned model.", kinds, argv)
    if parsed:
        model, filters, task, model_arguments, args = parsed
        results = learn_filters(model.model_name_or_path, load_task(task), args, filters, model_arguments)
        _print_results(results, args.output_dir)
    return 0


def _distill(argv: list[str]) -> int:
    from ..models.load import ModelArguments
    from ..stages import DistillArguments, distill
    from ..tasks import TaskArguments, load_task
    from ..training.stage_arguments import StageArguments
    from .flags import parse_flags

    kinds = (TwoModels, DistillArguments, TaskArguments, ModelArguments, StageArguments)
    parsed = parse_flags("distill", "Stage II: distil a teacher into a student.", kinds, argv)
    if parsed:
        models, distillation, task, model_arguments, args = parsed
        names = models.teacher_name_or_path, models.student_name_or_path
        _print_results(distill(*names, load_task(task), args, distillation, model_arguments), args.output_dir)
    return 0


def _evaluate(argv: list[str]) -> int:
    from ..models.load import ModelArguments
    from ..stages.evaluate import evaluate, score_predictions
    from ..tasks import TaskArguments, load_task
    from .flags import parse_flags

    kinds = (EvaluateArguments, TaskArguments, ModelArguments)
    parsed = parse_flags("evaluate", "Score a checkpoint, or predictions made elsewhere.", kinds, argv)
    if not parsed:
        return 0
    what, task, model_arguments = parsed
    if what.predictions_file:
        _print_results(score_predictions(what.predictions_file, load_task(task)), None)
        return 0
    results = evaluate(
        what.model_name_or_path,
        load_task(task),
        teacher_name_or_path=what.teacher_name_or_path,
        output_dir=what.output_dir,
        batch_size=what.per_device_eval_batch_size,
        mixed_precision="bf16" if what.bf16 else "fp16" if what.fp16 else "no",
        model_arguments=model_arguments,
    )
    _print_results(results, what.output_dir)
    return 0


def _run_recipe(argv: list[str]) -> int:
    from ..runs import run as runs
    from ..runs.recipe import Recipe, read_recipe
    from ..runs.table import results_table

    if not argv or argv[0] in ("-h", "--help"):
        sys.stdout.write(
            "usage: ted run RECIPE [key=value ...]\n\n"
            "RECIPE is a YAML file, or the name of one that `ted list` has.\n\n"
            f"{inspect.cleandoc(runs.__doc__ or '')}\n\n{inspect.cleandoc(Recipe.__doc__ or '')}\n"
        )
        return 0 if argv else 2
    read = read_recipe(argv[0], argv[1:])
    results = runs.run(read)
    sys.stdout.write(f"\n{results_table(results)}\n\n{read.run.output_dir}/results.md\n")
    return 0


def _demo(argv: list[str]) -> int:
    from ..demo.run_demo import DEFAULT_FOLDER, run_demo
    from ..runs.table import results_table

    if {"-h", "--help"} & set(argv):
        sys.stdout.write(
            f"usage: ted demo [key=value ...]\n\nRuns in {DEFAULT_FOLDER}; output_dir=FOLDER changes that.\n"
        )
        return 0
    folders = [word.partition("=")[2] for word in argv if word.startswith("output_dir=")]
    folder = folders[-1] if folders else DEFAULT_FOLDER
    results = run_demo(folder, [word for word in argv if not word.startswith("output_dir=")])
    sys.stdout.write(f"\n{results_table(results)}\n\n{folder}/results.md\n")
    return 0


def _list(argv: list[str]) -> int:
    from ..runs.recipe_files import recipe_files, recipe_title
    from ..tasks import TASKS, describe_task

    if {"-h", "--help"} & set(argv):
        sys.stdout.write("usage: ted list\n\nTasks and data sets for --task, recipes for `ted show` and `ted run`.\n")
        return 0
    recipes = {name: recipe_title(file) for name, file in recipe_files().items()}
    for title, lines in (("tasks", {name: describe_task(name) for name in TASKS}), ("recipes", recipes)):
        width = max(map(len, lines))
        sys.stdout.write(f"{title}\n" + "".join(f"  {name:<{width}}  {line}\n" for name, line in lines.items()))
    return 0


def _show(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        sys.stdout.write(
            "usage: ted show RECIPE [key=value ...]\n\n"
            "What `ted run` would do with the same words, found out without training: models, pairs of blocks,\n"
            "filters, steps, estimates of memory and disk. Configs, tokenizers and data are read; no weights.\n"
        )
        return 0 if argv else 2
    from ..runs.planning import plan, show
    from ..runs.recipe import read_recipe
    from ..runs.recipe_files import find_recipe, recipe_title

    file = find_recipe(argv[0])
    recipe = read_recipe(file, argv[1:], output_dir=f"runs/{file.stem}")
    sys.stdout.write(f"{recipe_title(file) or file}\n{file}\n\n{show(plan(recipe))}")
    return 0


def _student(argv: list[str]) -> int:
    from ..models.students import StudentArguments, student
    from .flags import parse_flags

    names = argv[: next((place for place, word in enumerate(argv) if word.startswith("-")), len(argv))]
    flags = argv[len(names) :] or (["--seed=42"] if names else ["--help"])
    parsed = parse_flags("student TEACHER OUT", "A student made of blocks of a teacher.", (StudentArguments,), flags)
    if parsed is None:
        return 0
    if len(names) != 2:
        raise InputError(f"a teacher and a new folder were expected before the flags, {' '.join(names) or 'none'} came")
    sys.stdout.write(f"{student(names[0], names[1], *parsed)}\n{names[1]}\n")
    return 0


def _import_reference(argv: list[str]) -> int:
    if {"-h", "--help"} & set(argv):
        sys.stdout.write(
            "usage: ted import-reference SOURCE OUT\n\n"
            "SOURCE is a folder or Hub id with a checkpoint of the published code (model_type ted-deberta-v2), saved\n"
            "after Stage I or Stage II. OUT is a new folder: a plain checkpoint, its filter files and its tokenizer.\n"
        )
        return 0
    if len(argv) != 2:
        raise InputError(f"two arguments were expected, {len(argv)} came: ted import-reference SOURCE OUT")
    from ..published.checkpoints import import_reference

    filters = import_reference(*argv)
    described = f"{len(filters.blocks)} filters after blocks {filters.blocks}" if filters else "no filters"
    sys.stdout.write(f"{argv[1]}: a plain checkpoint and {described}\n")
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "demo": _demo,
    "list": _list,
    "show": _show,
    "run": _run_recipe,
    "finetune": _finetune,
    "learn-filters": _learn_filters,
    "distill": _distill,
    "student": _student,
    "evaluate": _evaluate,
    "import-reference": _import_reference,
}


# --- the screen -----------------------------------------------------------------------------------------------


def _print_results(results: dict[str, Any], folder: str | None) -> None:
    """Results, one a line, on the main process."""
    from accelerate import PartialState

    if not PartialState().is_main_process:
        return
    for name, value in results.items():
        if value is not None:
            sys.stdout.write(f"{name:<28} {value:.2f}\n" if isinstance(value, float) else f"{name:<28} {value}\n")
    if folder:
        sys.stdout.write(f"{Path(folder)}\n")


def _say(message: str) -> None:
    sys.stderr.write(message + "\n")


def _quiet() -> None:
    """Progress of the stages only: not of each model file, and no warnings about heads that are meant to be new."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # It prints its own messages, such as those of a Hub that does not answer.
    logging.getLogger("huggingface_hub").propagate = False
