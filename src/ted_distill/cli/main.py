"""The command `ted`: the table of its commands, and what they have in common."""

from __future__ import annotations

import io
import logging
import os
import select
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import GateError, InputError, TrainingError, nearest
from ..progress import Terminated, noting_interrupts, remembering
from . import bench, compare, convert, export, init, push, recipes, report, reproduce, stages
from .command import Command, Names
from .dialect import HELP_ALL, wants_help


def _nothing(words: list[str]) -> tuple[()]:
    """What a command without arguments needs of its words."""
    return ()


_RECIPES = {
    "demo": Command(
        "demo", "the whole method on generated data, offline, on any machine",
        recipes.demo, read=recipes.read_demo, help=recipes.DEMO_HELP, trains=True,
    ),
    "list": Command(
        "list", "tasks, data sets and recipes known by name",
        recipes.list_names, read=_nothing, help=recipes.LIST_HELP, light=True,
    ),
    "init": Command(
        "init TEACHER --train_file FILE", "write a recipe for a teacher and a data file, every value with its reason",
        init.init, read=init.read_init, help=init.HELP, needs_words=True,
    ),
    "show": Command(
        "show RECIPE [key=value ...]", "what a recipe would do: models, pairs, steps, memory; nothing is trained",
        recipes.show, read=recipes.read_show, help=recipes.SHOW_HELP,
    ),
    "plan": Command(
        "plan RECIPE --format make", "its steps as commands, and what each waits for: for schedulers",
        recipes.plan, read=recipes.read_plan, help=recipes.PLAN_HELP,
    ),
    "check": Command(
        "check RECIPE [key=value ...]", "its models and data tried out: scores, doubts, time, memory",
        recipes.check, read=recipes.read_check, help=recipes.CHECK_HELP,
    ),
    "run": Command(
        "run RECIPE [key=value ...]", "all stages of a recipe, then one table; resumes where it stopped",
        recipes.run, read=recipes.read_run, help=recipes.RUN_HELP, trains=True,
    ),
    "compare": Command(
        "compare RECIPE --seeds 5", "a recipe's methods over several seeds, and which of them can be told apart",
        compare.compare, read=compare.read_compare, help=compare.HELP, trains=True,
    ),
    "reproduce": Command(
        "reproduce RUN", "a finished run once more, in another folder: the same scores and weights?",
        reproduce.reproduce, read=reproduce.read_reproduce, help=reproduce.REPRODUCE_HELP,
        needs_words=True, trains=True,
    ),
    "report": Command(
        "report FOLDER", "the report of a run or comparison: scores, curves, sizes, rows that differ",
        report.report, read=report.read_report, help=report.HELP,
    ),
}  # fmt: skip
_STAGES = {
    "finetune": Command(
        "finetune --help", "fine-tune one model on a task",
        stages.finetune, stages.finetune_kinds, trains=True,
    ),
    "learn-filters": Command(
        "learn-filters --help", "Stage I: learn filters on a fine-tuned model, score each block",
        stages.learn_filters, stages.learn_filters_kinds, trains=True,
    ),
    "distill": Command(
        "distill --help", "Stage II: distil a teacher into a student (--method ted, lwd, kd, ...)",
        stages.distill, stages.distill_kinds, trains=True,
    ),
    "student": Command(
        "student TEACHER OUT --layers 2,4,6", "a student made of some of a teacher's blocks (--help: narrower ones)",
        convert.student, convert.student_kinds, Names("TEACHER OUT", "a teacher and a new folder", [2]),
        about="A student made of some of a teacher's blocks.",
    ),
    "evaluate": Command(
        "evaluate --help", "score any checkpoint on any task, or predictions made elsewhere",
        stages.evaluate, stages.evaluate_kinds,
    ),
    "trim": Command(
        "trim CHECKPOINT OUT --texts FILE", "a checkpoint with only the tokens that some texts need",
        convert.trim, convert.trim_kinds, Names("CHECKPOINT OUT", "a checkpoint and a new folder", [2]),
        about="A checkpoint with only the tokens that some texts need: the same results on them, and a smaller file.",
    ),
    "export": Command(
        "export CHECKPOINT [OUT] --int8", "a checkpoint as ONNX, compared with it before it is published",
        export.export, export.export_kinds, Names("CHECKPOINT [OUT]", "a checkpoint and a folder", [1, 2]),
        about="A checkpoint as ONNX, in float32 and int8, published if it does what the checkpoint does.",
    ),
    "bench": Command(
        "bench CHECKPOINT ... | RUN", "score, size, latency in PyTorch and ONNX, side by side with the teacher",
        bench.bench, bench.bench_kinds,
        Names("CHECKPOINT ...", "one or more checkpoints, or a run,", range(1, sys.maxsize)),
        about="Score, size, latency and throughput of checkpoints, or of all models of a run, in PyTorch and ONNX.",
    ),
    "push": Command(
        "push CHECKPOINT OWNER/NAME", "a checkpoint and its card on the Hub, with filters and ONNX files if wanted",
        push.push, push.push_kinds, Names("CHECKPOINT OWNER/NAME", "a checkpoint and a name on the Hub", [2]),
        about="A finished checkpoint on the Hub, with its card; as the user who logged in with `hf auth login`.",
    ),
    "import-published": Command(
        "import-published SOURCE OUT", "a checkpoint of the published code -> a plain one and filter files",
        convert.import_published, read=convert.read_import, help=convert.IMPORT_HELP,
    ),
    "env": Command(
        "env", "versions and hardware, for a bug report",
        reproduce.env, read=_nothing, help=reproduce.ENV_HELP,
    ),
}  # fmt: skip
COMMANDS: dict[str, Command] = {**_RECIPES, **_STAGES}


def _overview() -> str:
    width = max(len(command.usage) for command in COMMANDS.values())
    groups = [
        "".join(f"  ted {command.usage:<{width}}  {command.title}\n" for command in group.values())
        for group in (_RECIPES, _STAGES)
    ]
    return "\n".join(
        [
            "usage: ted COMMAND [flags]\n",
            "Turn a large fine-tuned transformer into a small, fast one (task-aware layer-wise distillation, TED).\n",
            *groups,
            "Flags may also be in a file: --config FILE.yaml (flags on the command line win). ted --version.\n",
        ]
    )


USAGE = _overview()
_LETS_MAIN_SPEAK = 5.0
"""Seconds."""
_RESUMES = "; the same command resumes from what is saved"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0, 1 (training went wrong), 2 (invalid input), 4 (the result is not what was required), 130
        (interrupted), 141 (nobody reads the output any more, as after `| head`) or 143 (ended by SIGTERM).
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    _quiet()
    _show_anything()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    name = argv[0] if argv else "--help"
    trained = untrained = False
    try:
        if name in ("-h", "--help", "help"):
            sys.stdout.write(USAGE)
        elif name == "--version":
            _print_version()
        else:
            command = _command(name)
            _leave_it_to_the_main_process()
            untrained = command.trains
            with noting_interrupts(), remembering():
                given = _read(name, command, argv[1:])
                if given is not None:
                    trained, untrained = command.trains, False
                    command.run(*given)
        sys.stdout.flush()
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        return 141
    except InputError as error:
        _say(f"ted {name}: invalid input{'; nothing was trained' if untrained else ''}\n{error}", error)
        return 2
    except TrainingError as error:
        _say(f"ted {name}: {error}", error)
        return 1
    except GateError as error:
        _say(f"ted {name}: {error}", error)
        return 4
    except Terminated as error:
        _say(f"ended by SIGTERM{_RESUMES if trained else ''}", error)
        return 143
    except OSError as error:
        if (problem := _full_disk(error)) is None:
            raise
        _say(f"ted {name}: {problem}", error)
        return 1
    except KeyboardInterrupt as error:
        _say(f"interrupted{_RESUMES if trained else ''}", error)
        return 130
    return 0


def _command(name: str) -> Command:
    """The command of a name. Raises `InputError`, with the nearest name, if there is none."""
    if name not in COMMANDS:
        raise InputError(f"unknown command {name}{nearest(name, COMMANDS)} (`ted --help` lists all)")
    return COMMANDS[name]


def _read(name: str, command: Command, words: list[str]) -> tuple[Any, ...] | None:
    """The arguments of a command, read from the words after it; None if help was printed. Raises `InputError`."""
    has_flags = command.read is None
    asks, lacks_words = wants_help(words), not words and (has_flags or command.needs_words)
    if asks or lacks_words:
        screen = sys.stdout if asks else sys.stderr
        screen.write(_help_of_flags(name, command, HELP_ALL in words) if has_flags else command.help)
    if asks:
        return None
    if lacks_words:
        raise InputError(f"expected words after ted {name}, got none; its help is above")
    if not command.light:
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
    if command.read is not None:
        return command.read(words)
    from .flags import parse_flags, parse_names

    if command.names is None:
        return parse_flags(name, command.kinds(), words)
    names, parsed = parse_names(name, command.names, command.kinds(), words)
    return names, *parsed


def _help_of_flags(name: str, command: Command, full: bool) -> str:
    from .flags import flags_help

    usage = f"{name} {command.names.order}" if command.names else name
    about = command.about or f"{command.title[:1].upper()}{command.title[1:]}."
    return flags_help(usage, about, command.kinds(), full)


def _print_version() -> None:
    from importlib.metadata import version

    sys.stdout.write(f"ted-distill {version('ted-distill')}\n")


def _nobody_reads() -> bool:
    """Whether the reader of the output is gone, and not another process's; what is left of it then goes nowhere."""
    if not hasattr(select, "poll"):  # Windows
        return False
    look = select.poll()
    look.register(sys.stdout.fileno(), select.POLLOUT)
    if not any(event & select.POLLERR for _, event in look.poll(0)):
        return False
    # Also for what Python writes when it ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _full_disk(error: OSError) -> str | None:
    """What to say of a disk that is full, for what no folder's lock is held for; None if it is not."""
    from ..output import explain_full_disk
    from ..output.disk import AGAIN

    try:
        with explain_full_disk([Path(error.filename2 or error.filename or ".")], then=AGAIN):
            raise error
    except TrainingError as explained:
        return str(explained)
    except OSError:
        return None


def _show_anything() -> None:
    """Show letters that the output's encoding lacks, as those of classes in a log file of Windows, by their numbers.

    Otherwise the command would end with an error after its work was done. What a program put in place of the outputs
    stays as it is.
    """
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")


def _say(message: str, error: BaseException) -> None:
    """Say why a command ends. Of several processes only those with something of their own to say speak."""
    rank = 0
    if os.environ.get("WORLD_SIZE"):
        from ..output.processes import is_said_elsewhere, process_rank  # with it comes torch

        with suppress(InputError):  # which is what is said, then
            if is_said_elsewhere(error):
                return
            rank = process_rank()
        # Wrong input is wrong for all: the main process says so, and the launcher ends the others.
        time.sleep(_LETS_MAIN_SPEAK if rank and isinstance(error, InputError) else 0)
    sys.stderr.write(f"process {rank}: {message}\n" if rank else f"{message}\n")


def _leave_it_to_the_main_process() -> None:
    """Show no notes in the other processes of a launcher: the main one has the same."""
    if os.environ.get("WORLD_SIZE"):
        from ..output.processes import process_rank  # with it comes torch, which a list does not need

        if process_rank():
            logging.getLogger().setLevel(logging.ERROR)


def _quiet() -> None:
    """Show only the stages' progress: no bars for model files, no warnings about heads that are new on purpose."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    # It prints its own messages, for example when the Hub does not answer.
    logging.getLogger("huggingface_hub").propagate = False
