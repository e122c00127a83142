"""Texts without labels, which Stage II trains on: the teacher says what they are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from datasets import Dataset

from ..errors import InputError, raise_if_any
from .reading.columns import TextColumns, missing_column, with_texts
from .reading.file_options import FileOptions
from .reading.files import extension, read_file
from .task_arguments import TaskArguments

UNLABELLED = "unlabelled"
"""What messages call these rows."""
_TEXT = "text"


class ReadsTexts(Protocol):
    """What is needed of a `Task`, which imports this module."""

    arguments: TaskArguments

    @property
    def takes_unlabelled(self) -> bool:
        """See `Task`."""

    def file_options(self) -> FileOptions:
        """See `Task`."""

    def without_labels(self, rows: Dataset) -> Dataset:
        """See `Task`."""

    def unlabelled_problems(self, rows: Dataset) -> Iterable[str]:
        """See `Task`."""


def read_unlabelled(task: ReadsTexts, ready: bool = True) -> Dataset | None:
    """Checked rows of `unlabelled_file`, as `Task.without_labels` makes them; None if no file is named.

    Args:
        ready: the training rows have been normalised; if not, the file is only read.

    Raises:
        InputError: the task has no use for such rows, they cannot be read, or they lack texts.
    """
    arguments = task.arguments
    if arguments.unlabelled_file is None:
        return None
    if arguments.streaming:
        raise InputError("unlabelled_file: expected none with streaming, got a file; leave out one or the other")
    path = Path(arguments.unlabelled_file).expanduser()
    # A task that refuses them says so without looking at them.
    if not task.takes_unlabelled:
        return task.without_labels(Dataset.from_dict({}))
    rows = read_file(path, "unlabelled_file", task.file_options()._replace(has_labels=False))
    if extension(path) == ".txt" and rows.column_names == [_TEXT] and rows.features[_TEXT].dtype == "string":
        rows = _without_line_ends(rows)
    if not ready:
        return None
    normal = task.without_labels(rows)
    raise_if_any(task.unlabelled_problems(normal))
    return normal


def only_texts(rows: Dataset, columns: TextColumns) -> Dataset:
    """Columns `text` and, for pairs, `text_pair`, under the names that the training rows have; a lone column `text`
    is that of a task of single texts whatever its training rows call it.

    Raises:
        InputError: a column is missing, or holds no text.
    """
    if rows.column_names == [_TEXT] and columns.text_pair is None:
        columns = columns._replace(text=_TEXT)
    names = [name for name in (columns.text, columns.text_pair) if name is not None]
    raise_if_any(
        missing_column(UNLABELLED, name, rows.column_names, "give the texts the names that the training rows have")
        for name in names
        if name not in rows.column_names
    )
    texts = with_texts(rows.select_columns(names), columns, UNLABELLED)
    return texts.select_columns([name for name in (_TEXT, "text_pair") if name in texts.column_names])


def _without_line_ends(rows: Dataset) -> Dataset:
    """Lines of running text as texts of their own; blank lines are left out.

    Raises:
        InputError: all are blank.
    """
    lines = [line.rstrip("\r\n") for line in rows[_TEXT][:]]
    texts = [line for line in lines if line.strip()]
    if not texts:
        raise InputError("unlabelled_file: expected a text on each line, got only blank lines; give a file with texts")
    return Dataset.from_dict({_TEXT: texts}, features=rows.features)
