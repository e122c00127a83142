"""ted-distill: turn a large fine-tuned transformer into a small, fast one that is nearly as good.

    task = load_task("sst2")
    finetune("microsoft/deberta-v3-base", task, StageArguments("runs/teacher"))
    learn_filters("runs/teacher", task, StageArguments("runs/teacher_filters"))
    ...
    distill("runs/teacher_filters", "runs/student_filters", task, StageArguments("runs/ted"))

The names below are the public ones.
"""

from .arguments import StageArguments
from .errors import InputError, TrainingError
from .filters import FilterConfig, FilteredModel, Filters, load_filters, save_filters
from .models import LoadedModel, ModelArguments, load_model
from .recipe import Recipe, read_recipe
from .runs import run
from .stages import (
    DistillArguments,
    DistillTrainer,
    FinetuneTrainer,
    LearnFiltersArguments,
    LearnFiltersTrainer,
    distill,
    evaluate,
    finetune,
    learn_filters,
)
from .students import student_from_teacher
from .tasks import TASKS, Task, TaskArguments, load_task

__version__ = "0.1.0"

__all__ = [
    "TASKS",
    "DistillArguments",
    "DistillTrainer",
    "FilterConfig",
    "FilteredModel",
    "Filters",
    "FinetuneTrainer",
    "InputError",
    "LearnFiltersArguments",
    "LearnFiltersTrainer",
    "LoadedModel",
    "ModelArguments",
    "Recipe",
    "StageArguments",
    "Task",
    "TaskArguments",
    "TrainingError",
    "distill",
    "evaluate",
    "finetune",
    "learn_filters",
    "load_filters",
    "load_model",
    "load_task",
    "read_recipe",
    "run",
    "save_filters",
    "student_from_teacher",
]
