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
        train, validation, test: rows that are there already, in place of files: a `datasets.Dataset`, a
            `pandas.DataFrame` or a list of dicts, with the columns that a file would have.

    Raises:
        InputError: the name is missing or unknown, or rows are of another kind.
    """
    arguments = TaskArguments(task=task) if isinstance(task, str) else task
    known = ", ".join(TASKS)
    if not arguments.task:
        raise InputError(f"task: expected one of {known}, got nothing; set --task")
    if arguments.task not in TASKS:
        hint = nearest(arguments.task.lower(), TASKS) or "; `ted list` describes them"
        raise InputError(f"task: expected one of {known}, got {shown(arguments.task)}{hint}")
    made = TASKS[arguments.task](arguments)
    made.given = given_rows({"train": train, "validation": validation, "test": test})
    return made


def describe_task(name: str) -> str:
    """One line about the task of this name."""
    return DESCRIPTIONS.get(name) or (getdoc(TASKS[name]) or "").split("\n")[0]
