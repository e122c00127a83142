"""`ted student`, `ted trim` and `ted import-published`: one model folder in, another out."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from ..errors import InputError

IMPORT_HELP = """usage: ted import-published SOURCE OUT

SOURCE is a folder or Hub id with a checkpoint of the published code (model_type ted-deberta-v2), saved
after Stage I or Stage II. OUT is a new folder: a plain checkpoint, its filter files and its tokenizer.
"""


def student_kinds() -> tuple[type, ...]:
    """The arguments of `ted student`."""
    from ..models.students import StudentArguments
    from ..tasks import TaskArguments

    return StudentArguments, TaskArguments


def student(names: list[str], arguments: Any, task: Any) -> None:
    """Make a student of some of a teacher's blocks."""
    from ..models.load import ModelArguments
    from ..models.students import student
    from ..stages.rows.task_rows import task_rows
    from ..tasks import load_task

    teacher, folder = names
    loading = ModelArguments(None, arguments.model_revision, arguments.trust_remote_code)
    read = partial(task_rows, teacher, load_task(task), loading, arguments.seed) if task.task else None
    sys.stdout.write(f"{student(teacher, folder, arguments, read)}\n{folder}\n")


def trim_kinds() -> tuple[type, ...]:
    """The arguments of `ted trim`."""
    from ..models.trimming.trim import TrimArguments

    return (TrimArguments,)


def trim(names: list[str], arguments: Any) -> None:
    """Keep only the tokens of a checkpoint that some texts need."""
    from ..models.trimming.trim import trim_vocabulary

    checkpoint, folder = names
    sys.stdout.write(f"{trim_vocabulary(checkpoint, folder, arguments)}\n{folder}\n")


def read_import(words: list[str]) -> tuple[str, ...]:
    """Source and new folder of an import. Raises `InputError`: not exactly two words."""
    if len(words) != 2:
        raise InputError(f"expected two words, got {len(words)}; write ted import-published SOURCE OUT")
    return tuple(words)


def import_published(source: str, folder: str) -> None:
    """Turn a checkpoint of the published code into a plain one and filter files."""
    from ..published.checkpoints import import_published

    filters = import_published(source, folder)
    described = f"{len(filters.blocks)} filters after blocks {filters.blocks}" if filters else "no filters"
    sys.stdout.write(f"{folder}: a plain checkpoint and {described}\n")
