"""Tasks by name, and how one is made of its arguments."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import getdoc

from ..entries import typed
from ..errors import InputError, nearest, shown
from ..method.filters import Batch as Batch
from .base import Counts as Counts
from .base import Metrics as Metrics
from .base import Split as Split
from .base import Task
from .descriptions import DESCRIPTIONS
from .glue import GLUE
from .multi_label_classification import MultiLabelClassification
from .own_tasks import own_task
from .reading.given import Rows, given_rows
from .regression import Regression
from .sequence_classification import SequenceClassification
from .squad.question_answering import QuestionAnswering
from .task_arguments import TaskArguments
from .text.causal_lm import CausalLM, LastWord
from .text.masked_lm import MaskedLM
from .token_classification import TAGGED, TokenClassification

TASKS: dict[str, Callable[[TaskArguments], Task]] = {
    "sequence_classification": SequenceClassification,
    "multi_label_classification": MultiLabelClassification,
    "regression": Regression,
    "question_answering": QuestionAnswering,
    "token_classification": TokenClassification,
    **dict.fromkeys(TAGGED, TokenClassification),
    "causal_lm": CausalLM,
    "masked_lm": MaskedLM,
    "last_word": LastWord,
    "lambada": LastWord,
    "squad": QuestionAnswering,
    "squad_v2": QuestionAnswering,
    **{
        name: partial(SequenceClassification if glue_task.label_names else Regression, preset=glue_task)
        for name, glue_task in GLUE.items()
    },
}
"""Name of a task or data set -> what makes the task from its arguments."""


@typed
def load_task(
    task: str | TaskArguments, train: Rows | None = None, validation: Rows | None = None, test: Rows | None = None
) -> Task:
    """The task of this name, or the one that the arguments describe.

    Args:
        task: a name of `ted list`, or FILE.py:CLASS for a subclass of `Task` in a file of your own.
        train, validation, test: rows that are there already, in place of files: a `datasets.Dataset`, a
            `pandas.DataFrame` or a list of dicts, with the columns that a file would have.

    Raises:
        InputError: the name is missing or unknown, the file holds no such task, or rows are of another kind.
    """
    arguments = TaskArguments(task=task) if isinstance(task, str) else task
    made = _maker(arguments)(arguments)
    made.given = given_rows({"train": train, "validation": validation, "test": test}, made.file_options())
    return made


def _maker(arguments: TaskArguments) -> Callable[[TaskArguments], Task]:
    """What makes the task that is named."""
    if arguments.own_task:
        return own_task(*arguments.own_task)
    known, name = ", ".join(TASKS), arguments.task
    if not name:
        raise InputError(f"task: expected one of {known}, got nothing; set --task")
    if name not in TASKS:
        hint = nearest(name.lower(), TASKS) or "; `ted list` describes them"
        raise InputError(f"task: expected one of {known}, got {shown(name)}{hint}")
    return TASKS[name]


def describe_task(name: str, kind: type[Task] | None = None) -> str:
    """One line about the task of this name.

    Args:
        kind: its class, if it is in a file of the user's.
    """
    return DESCRIPTIONS.get(name) or (getdoc(kind or TASKS[name]) or "").split("\n")[0]
