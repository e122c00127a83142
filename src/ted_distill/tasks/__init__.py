"""Tasks by name. A new task is a subclass of `Task` in its own file and one line in `TASKS` of `registry.py`.

The names below are imported when first used: a task needs torch and transformers, and `ted list` needs neither.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .registry import (
        TASKS,
        Batch,
        CausalLM,
        Counts,
        LastWord,
        MaskedLM,
        Metrics,
        MultiLabelClassification,
        QuestionAnswering,
        Regression,
        SequenceClassification,
        Split,
        Task,
        TaskArguments,
        TokenClassification,
        describe_task,
        load_task,
    )

__all__ = [
    "TASKS",
    "Batch",
    "CausalLM",
    "Counts",
    "LastWord",
    "MaskedLM",
    "Metrics",
    "MultiLabelClassification",
    "QuestionAnswering",
    "Regression",
    "SequenceClassification",
    "Split",
    "Task",
    "TaskArguments",
    "TokenClassification",
    "describe_task",
    "load_task",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import registry

    return getattr(registry, name)
