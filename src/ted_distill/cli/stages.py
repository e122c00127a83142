"""`ted finetune`, `learn-filters`, `distill` and `evaluate`: flags in, one stage run, its results on the screen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from ..errors import raise_if_any
from ..ranges import a_path, at_least, described, range_problems, take_values
from .report import say

# Other imports of the package are inside: they import torch, and `ted --help` should not.


@described
@dataclass
class OneModel:
    """The model of a stage that has one."""

    _argument_group_name: ClassVar[str] = "models"
    needed: ClassVar[tuple[str, ...]] = ("model_name_or_path",)

    model_name_or_path: str | None = None
    """folder or Hub id"""

    def __post_init__(self) -> None:
        """Expand `~`."""
        take_values(self)


@described
@dataclass
class TwoModels:
    """The models of Stage II."""

    _argument_group_name: ClassVar[str] = "models"
    needed: ClassVar[tuple[str, ...]] = ("teacher_name_or_path", "student_name_or_path")

    teacher_name_or_path: str | None = None
    """the teacher; for ted the folder that `ted learn-filters` made of it"""
    student_name_or_path: str | None = None
    """the student: fine-tuned, or made by `ted student`"""

    def __post_init__(self) -> None:
        """Expand `~`."""
        take_values(self)


_OF_MODELS = ("model_name_or_path", "teacher_name_or_path", "output_dir")
"""What predictions that are there already have no use for."""


@described
@dataclass
class EvaluateArguments:
    """What to score, and where the results go."""

    _argument_group_name: ClassVar[str] = "scoring"

    model_name_or_path: str | None = None
    """the fine-tuned model to score"""
    teacher_name_or_path: str | None = None
    """also score how often this model agrees"""
    predictions_file: Annotated[str | None, a_path()] = None
    """score these predictions instead of a model"""
    split: str | None = None
    """validation or test: the rows that predictions_file is of [the only ones]"""
    output_dir: Annotated[str | None, a_path()] = None
    """folder for the scores and the predictions"""
    per_device_eval_batch_size: Annotated[int, at_least(1)] = 32
    """rows per batch [32]"""
    bf16: bool | None = None
    """bf16 autocast [where the machine multiplies in bf16]"""
    fp16: bool = False
    """fp16 autocast"""
    use_cpu: bool = False
    """score on the CPU although there is a GPU"""

    def __post_init__(self) -> None:
        """Raises `InputError` for values outside their ranges, and for two precisions."""
        take_values(self)
        problems = range_problems(type(self), vars(self))
        if self.fp16 and self.bf16:
            problems.append("fp16: expected one of fp16 and bf16, got both; leave one out")
        if self.predictions_file:
            given = [name for name in _OF_MODELS if getattr(self, name)]
            problems += [f"{name}: expected none with predictions_file, got one; leave it out" for name in given]
        elif self.split:
            problems.append("split: expected predictions_file with it, got none; models are scored on all rows")
        raise_if_any(problems)

    @property
    def needed(self) -> tuple[str, ...]:
        """What has to be given."""
        return () if self.predictions_file else ("model_name_or_path",)

    @property
    def mixed_precision(self) -> str | None:
        """The precision asked for; None where the machine decides."""
        return "fp16" if self.fp16 else None if self.bf16 is None else "bf16" if self.bf16 else "no"


def finetune_kinds() -> tuple[type, ...]:
    """The arguments of `ted finetune`."""
    return _for_training(OneModel)


def finetune(model: OneModel, task: Any, model_arguments: Any, args: Any) -> None:
    """Fine-tune one model."""
    from ..stages import finetune
    from ..tasks import load_task

    name = str(model.model_name_or_path)
    print_results(finetune(name, load_task(task), args, model_arguments), args.output_dir)


def learn_filters_kinds() -> tuple[type, ...]:
    """The arguments of `ted learn-filters`."""
    from ..stages import LearnFiltersArguments

    return _for_training(OneModel, LearnFiltersArguments)


def learn_filters(model: OneModel, filters: Any, task: Any, model_arguments: Any, args: Any) -> None:
    """Learn the filters of one model."""
    from ..stages import learn_filters
    from ..tasks import load_task

    name = str(model.model_name_or_path)
    print_results(learn_filters(name, load_task(task), args, filters, model_arguments), args.output_dir)


def distill_kinds() -> tuple[type, ...]:
    """The arguments of `ted distill`."""
    from ..stages import DistillArguments

    return _for_training(TwoModels, DistillArguments)


def distill(models: TwoModels, distillation: Any, task: Any, model_arguments: Any, args: Any) -> None:
    """Distil a teacher into a student."""
    from ..stages import distill
    from ..tasks import load_task

    names = str(models.teacher_name_or_path), str(models.student_name_or_path)
    print_results(distill(*names, load_task(task), args, distillation, model_arguments), args.output_dir)


def evaluate_kinds() -> tuple[type, ...]:
    """The arguments of `ted evaluate`."""
    from ..models.load import ModelArguments
    from ..tasks import TaskArguments

    return EvaluateArguments, TaskArguments, ModelArguments


def evaluate(what: EvaluateArguments, task: Any, model_arguments: Any) -> None:
    """Score a model, or predictions made elsewhere."""
    from ..stages.evaluate import evaluate, score_predictions
    from ..tasks import load_task

    if what.predictions_file:
        print_results(score_predictions(what.predictions_file, load_task(task), what.split), None)
        return
    results = evaluate(
        str(what.model_name_or_path),
        load_task(task),
        teacher_name_or_path=what.teacher_name_or_path,
        output_dir=what.output_dir,
        batch_size=what.per_device_eval_batch_size,
        mixed_precision=what.mixed_precision,
        use_cpu=what.use_cpu,
        model_arguments=model_arguments,
    )
    print_results(results, what.output_dir)


def _for_training(*own: type) -> tuple[type, ...]:
    """`own`, and the arguments of every stage that trains."""
    from ..models.load import ModelArguments
    from ..tasks import TaskArguments
    from ..training.stage_arguments import StageArguments

    return *own, TaskArguments, ModelArguments, StageArguments


_PLAIN = {"learning_rate", "total"}
"""Results that are no scores: numbers as they are."""


def print_results(results: dict[str, Any], folder: str | None) -> None:
    """Print results, one per line, on the main process."""
    from ..training.scores.selection import described as sentences_on
    from ..training.scores.selection import score_title

    shown = {name: value for name, value in results.items() if value is not None and not isinstance(value, dict)}
    titles = {name: score_title(name, results) for name in shown}
    width = max([28, *map(len, titles.values())])
    lines = []
    for name, value in shown.items():
        number = f"{value:g}" if name in _PLAIN else f"{value:.2f}" if isinstance(value, float) else value
        lines.append(f"{titles[name]:<{width}} {number}")
    lines += sentences_on(results)
    if folder:
        lines.append(str(Path(folder)))
    say("".join(f"{line}\n" for line in lines))
