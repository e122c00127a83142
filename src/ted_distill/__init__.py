"""ted-distill: turn a large fine-tuned transformer into a small, fast one that is nearly as good.

    task = load_task("sst2")
    finetune("microsoft/deberta-v3-base", task, StageArguments("runs/teacher"))
    finetune("microsoft/deberta-v3-xsmall", task, StageArguments("runs/student"))
    learn_filters("runs/teacher", task, StageArguments("runs/teacher_filters"))
    distill("runs/teacher_filters", "runs/student", task, StageArguments("runs/ted"))

The names below are the public ones. They are imported when first used: importing torch and transformers takes seconds,
and `ted --help` needs neither.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .benching.bench import Benched, bench
    from .errors import GateError, InputError, TrainingError
    from .export.exporting import Exported, export_onnx
    from .export.upload import Pushed, push_to_hub
    from .method.filter_files import load_filters, save_filters
    from .method.filters import FilterConfig, FilteredModel, Filters
    from .models.blocks import student_from_teacher
    from .models.load import LoadedModel, ModelArguments, load_model
    from .models.trimming.trim import TrimArguments, TrimmedCheckpoint, trim_vocabulary
    from .report.writing import write_report
    from .runs.drafting import Draft, draft_recipe
    from .runs.from_python import check_recipe, compare, run
    from .runs.recipe import Recipe, read_recipe
    from .stages.distill import distill
    from .stages.distill_arguments import DistillArguments
    from .stages.distill_trainer import DistillTrainer
    from .stages.evaluate import evaluate
    from .stages.filters.filter_arguments import LearnFiltersArguments
    from .stages.filters.filter_learner import LearnFiltersTrainer
    from .stages.finetune import FinetuneTrainer, finetune
    from .stages.learn_filters import learn_filters
    from .tasks import TASKS, Task, TaskArguments, load_task
    from .training.stage_arguments import StageArguments

__version__ = "0.2.0"

__all__ = [
    "TASKS",
    "Benched",
    "DistillArguments",
    "DistillTrainer",
    "Draft",
    "Exported",
    "FilterConfig",
    "FilteredModel",
    "Filters",
    "FinetuneTrainer",
    "GateError",
    "InputError",
    "LearnFiltersArguments",
    "LearnFiltersTrainer",
    "LoadedModel",
    "ModelArguments",
    "Pushed",
    "Recipe",
    "StageArguments",
    "Task",
    "TaskArguments",
    "TrainingError",
    "TrimArguments",
    "TrimmedCheckpoint",
    "bench",
    "check_recipe",
    "compare",
    "distill",
    "draft_recipe",
    "evaluate",
    "export_onnx",
    "finetune",
    "learn_filters",
    "load_filters",
    "load_model",
    "load_task",
    "push_to_hub",
    "read_recipe",
    "run",
    "save_filters",
    "student_from_teacher",
    "trim_vocabulary",
    "write_report",
]

_HOMES = {
    "benching.bench": "Benched bench",
    "errors": "GateError InputError TrainingError",
    "export.exporting": "Exported export_onnx",
    "export.upload": "Pushed push_to_hub",
    "method.filter_files": "load_filters save_filters",
    "method.filters": "FilterConfig FilteredModel Filters",
    "models.blocks": "student_from_teacher",
    "models.load": "LoadedModel ModelArguments load_model",
    "models.trimming.trim": "TrimArguments TrimmedCheckpoint trim_vocabulary",
    "report.writing": "write_report",
    "runs.drafting": "Draft draft_recipe",
    "runs.recipe": "Recipe read_recipe",
    "runs.from_python": "check_recipe compare run",
    "stages.distill": "distill",
    "stages.distill_arguments": "DistillArguments",
    "stages.distill_trainer": "DistillTrainer",
    "stages.evaluate": "evaluate",
    "stages.finetune": "FinetuneTrainer finetune",
    "stages.filters.filter_arguments": "LearnFiltersArguments",
    "stages.filters.filter_learner": "LearnFiltersTrainer",
    "stages.learn_filters": "learn_filters",
    "tasks": "TASKS Task TaskArguments load_task",
    "training.stage_arguments": "StageArguments",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
