"""`ted student`, `ted trim` and `ted import-published`: one model folder in, another out."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from ..errors import InputError


def read_student(words: list[str]) -> tuple[Any, ...] | None:
    """Teacher, folder and arguments of a new student; None if help was printed.

    Raises:
        InputError: unknown flags, wrong values, or not exactly two names before the flags.
    """
    from ..models.students import StudentArguments
    from ..tasks import TaskArguments
    from .names import parse_names

    title = "A student made of some of a teacher's blocks."
    read = parse_names(
        "student TEACHER OUT",
        title,
        (StudentArguments, TaskArguments),
        words,
        counts=[2],
        what="a teacher and a new folder",
    )
    if read is None:
        return None
    names, parsed = read
    return (*names, *parsed)


def student(teacher: str, folder: str, arguments: Any, task: Any) -> None:
    """Make a student of some of a teacher's blocks."""
    from ..models.load import ModelArguments
    from ..models.students import student
    from ..stages.rows.task_rows import task_rows
    from ..tasks import load_task

    loading = ModelArguments(None, arguments.model_revision, arguments.trust_remote_code)
    read = partial(task_rows, teacher, load_task(task), loading, arguments.seed) if task.task else None
    sys.stdout.write(f"{student(teacher, folder, arguments, read)}\n{folder}\n")


def read_trim(words: list[str]) -> tuple[Any, ...] | None:
    """Checkpoint, folder and arguments of `ted trim`; None if help was printed.

    Raises:
        InputError: unknown flags, wrong values, or not exactly two names before the flags.
    """
    from ..models.trimming.trim import TrimArguments
    from .names import parse_names

    title = "A checkpoint with only the tokens that some texts need: the same results on them, and a smaller file."
    read = parse_names(
        "trim CHECKPOINT OUT", title, (TrimArguments,), words, counts=[2], what="a checkpoint and a new folder"
    )
    if read is None:
        return None
    names, parsed = read
    return (*names, *parsed)


def trim(checkpoint: str, folder: str, arguments: Any) -> None:
    """Keep only the tokens of a checkpoint that some texts need."""
    from ..models.trimming.trim import trim_vocabulary

    sys.stdout.write(f"{trim_vocabulary(checkpoint, folder, arguments)}\n{folder}\n")


def read_import(words: list[str]) -> tuple[Any, ...] | None:
    """Source and new folder of an import; None if help was printed.

    Raises:
        InputError: not exactly two words.
    """
    if {"-h", "--help", "--help-all"} & {*words}:
        sys.stdout.write(
            "usage: ted import-published SOURCE OUT\n\n"
            "SOURCE is a folder or Hub id with a checkpoint of the published code (model_type ted-deberta-v2), saved\n"
            "after Stage I or Stage II. OUT is a new folder: a plain checkpoint, its filter files and its tokenizer.\n"
        )
        return None
    if len(words) != 2:
        raise InputError(f"expected two words, got {len(words)}; write ted import-published SOURCE OUT")
    return tuple(words)


def import_published(source: str, folder: str) -> None:
    """Turn a checkpoint of the published code into a plain one and filter files."""
    from ..published.checkpoints import import_published

    filters = import_published(source, folder)
    described = f"{len(filters.blocks)} filters after blocks {filters.blocks}" if filters else "no filters"
    sys.stdout.write(f"{folder}: a plain checkpoint and {described}\n")
