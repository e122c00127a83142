"""Stage II: train the student to match the teacher's filtered states and predictions.

KD, LWD and TED are this stage with other filters (`METHODS`); nothing below that table knows which method it runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from transformers import set_seed

from .. import evaluation
from ..arguments import StageArguments
from ..errors import InputError, collect, raise_if_any
from ..filters import (
    FilterConfig,
    FilteredOutput,
    Filters,
    default_teacher_filter_interval,
    filtered_blocks,
    load_filters,
    make_pairs,
    save_filters,
)
from ..losses import distillation_loss, layer_losses
from ..model_card import write_card
from ..models import LoadedModel, ModelArguments, load_model, read_weights, shared_tokenizer
from ..output import check_writable
from ..tasks.base import Batch, Counts, Metrics, Task
from ..teacher import LiveTeacher, Teacher, TeacherSignals
from ..trainer import StageTrainer
from .base import Results, begin, check_metric, check_rows, finish, read_data, score_names, settings, stage_arguments


@dataclass
class DistillArguments:
    """What the student matches, and how much each term weighs."""

    _argument_group_name: ClassVar[str] = "distillation"

    method: str = field(default="ted", metadata={"help": "ted (learnt filters), lwd (random filters) or kd (none)"})
    kl_alpha: float = field(default=5.0, metadata={"help": "weight of the KL of the predictions"})
    mse_alpha: float | None = field(default=None, metadata={"help": "weight of the layer loss [100; kd: 0]"})
    temperature: float = field(default=2.0, metadata={"help": "softens both predictions in the KL"})
    filter_interval: int | None = field(
        default=None, metadata={"help": "student: a filter after every so many blocks [1; ted: as learnt]"}
    )
    teacher_filter_interval: int | None = field(
        default=None, metadata={"help": "the same for the teacher [as the numbers of blocks divide; ted: as learnt]"}
    )
    teacher_filters: str | None = field(default=None, metadata={"help": "folder of its filters [the teacher's]"})
    new_head: bool = field(default=False, metadata={"help": "the student is not fine-tuned yet: give it a new head"})
    student_filters: str | None = field(default=None, metadata={"help": "folder of its filters [the student's]"})


# --- methods: which filters ---------------------------------------------------------------------------------


class MethodFilters(NamedTuple):
    """Filters of both models; None where no layer is matched."""

    teacher: Filters | None
    student: Filters | None


def kd_filters(teacher: LoadedModel, student: LoadedModel, arguments: DistillArguments) -> MethodFilters:
    """Knowledge distillation: no filters, so nothing but the predictions is matched.

    Raises:
        InputError: a weight for a layer loss that there is not.
    """
    if arguments.mse_alpha:
        raise InputError(
            f"mse_alpha: 0 was expected with method kd, which matches no layers, {arguments.mse_alpha} came; "
            "leave it out or choose method lwd or ted"
        )
    return MethodFilters(None, None)


def lwd_filters(teacher: LoadedModel, student: LoadedModel, arguments: DistillArguments) -> MethodFilters:
    """Layer-wise distillation: the teacher's hidden states as they are, the student's through random Linear filters."""
    interval = 1 if arguments.filter_interval is None else arguments.filter_interval
    teacher_blocks, student_blocks = (loaded.model.config.num_hidden_layers for loaded in (teacher, student))
    teacher_interval = arguments.teacher_filter_interval
    if teacher_interval is None:
        teacher_interval = default_teacher_filter_interval(teacher_blocks, student_blocks, interval)
    config = FilterConfig.for_model(student.model.config, interval, teacher.model.config.hidden_size)
    initializer_range = getattr(student.model.config, "initializer_range", 0.02)
    return MethodFilters(
        Filters.identity(filtered_blocks(teacher_blocks, teacher_interval)), Filters.random(config, initializer_range)
    )


def ted_filters(teacher: LoadedModel, student: LoadedModel, arguments: DistillArguments) -> MethodFilters:
    """Task-aware layer-wise distillation: the filters both models learnt in Stage I.

    Raises:
        InputError: filters missing, of another model, of different widths, or not after the blocks asked for.
    """
    problems: list[str] = []
    found: dict[str, Filters] = {}
    for owner, loaded, folder, interval in (
        ("teacher", teacher, arguments.teacher_filters, arguments.teacher_filter_interval),
        ("student", student, arguments.student_filters, arguments.filter_interval),
    ):
        with collect(problems):
            found[owner] = load_filters(folder or loaded.name, loaded.model, owner)
            expected = None if interval is None else filtered_blocks(loaded.model.config.num_hidden_layers, interval)
            if expected and expected != found[owner].blocks:
                problems.append(
                    f"{owner} filters: blocks {expected} were asked for, those learnt read {found[owner].blocks}; "
                    "learn them with that filter_interval, or leave it out here"
                )
    widths = {owner: filters.config.filter_output_dim for owner, filters in found.items() if filters.config}
    if len(set(widths.values())) > 1:
        problems.append(
            f"filters: one filter_output_dim was expected, the teacher's filters are {widths['teacher']} and the "
            f"student's {widths['student']} wide; learn the student's with --filter_output_dim {widths['teacher']}"
        )
    raise_if_any(problems)
    return MethodFilters(found["teacher"], found["student"])


METHODS: dict[str, Callable[[LoadedModel, LoadedModel, DistillArguments], MethodFilters]] = {
    "ted": ted_filters,
    "lwd": lwd_filters,
    "kd": kd_filters,
}


def check_arguments(arguments: DistillArguments) -> None:
    """Refuse an unknown method and weights that make no sense.

    Raises:
        InputError: with all problems.
    """
    problems = []
    if arguments.method not in METHODS:
        near = get_close_matches(arguments.method, METHODS, n=1)
        problems.append(
            f"method: one of {', '.join(METHODS)} was expected, {arguments.method} came"
            + (f"; did you mean {near[0]}?" if near else "")
        )
    for name in ("kl_alpha", "mse_alpha"):
        if not 0 <= (getattr(arguments, name) or 0) < math.inf:
            problems.append(f"{name}: a weight of at least 0 was expected, {getattr(arguments, name)} came")
    if not 0 < arguments.temperature < math.inf:
        problems.append(f"temperature: a number above 0 was expected, {arguments.temperature} came")
    raise_if_any(problems)


# --- the stage ------------------------------------------------------------------------------------------------


def distillation_terms(
    student: FilteredOutput,
    teacher: TeacherSignals,
    task: Task,
    batch: Batch,
    kl_alpha: float,
    mse_alpha: float,
    temperature: float,
    counts: Counts | None = None,
) -> dict[str, Tensor]:
    """Prediction loss, KL, the layer loss of each pair and their mean, and under `loss` the weighted sum.

    Without states nothing but the predictions is matched. `counts` defaults to the items of the batch.
    """
    labels, rows, tokens = counts or (None, None, None)
    pred_loss = task.loss(student.logits, batch, labels)
    kl_loss = task.kl(student.logits, teacher.logits, batch, temperature, rows)
    terms = {"pred_loss": pred_loss, "kl_loss": kl_loss}
    layer_loss = torch.zeros_like(pred_loss)
    if student.states or teacher.states:
        pair_losses = layer_losses(student.states, teacher.states, task.mask(batch), tokens)
        layer_loss = pair_losses.mean()
        terms |= {"layer_averaged_mse_loss": layer_loss, "pair_losses": pair_losses}
    return {"loss": distillation_loss(pred_loss, kl_loss, layer_loss, kl_alpha, mse_alpha), **terms}


class DistillTrainer(StageTrainer):
    """Trains the student, a `FilteredModel`, and its filters against a teacher.

    Args:
        teacher: gives the teacher's logits and states for a batch.
        pairs: (teacher block, student block); empty where no layer is matched.
    """

    def __init__(
        self,
        *args: Any,
        teacher: Teacher,
        pairs: list[tuple[int, int]],
        kl_alpha: float,
        mse_alpha: float,
        temperature: float,
    ) -> None:
        super().__init__(*args)
        self.teacher = teacher
        self.pairs = pairs
        self.kl_alpha = kl_alpha
        self.mse_alpha = mse_alpha
        self.temperature = temperature

    def loss_terms(self, model: nn.Module, batch: Batch, counts: Counts) -> dict[str, Tensor]:
        """Prediction loss, KL, each pair's layer loss, and their weighted sum (method, section 1, Stage II)."""
        student = model(batch)
        with self.accelerator.autocast():
            teacher = self.teacher(batch)
        return distillation_terms(
            student, teacher, self.task, batch, self.kl_alpha, self.mse_alpha, self.temperature, counts
        )

    def term_names(self, name: str, terms: Tensor) -> Iterator[tuple[str, Tensor]]:
        """`mse_loss/teacher_4_student_2` for a pair."""
        if name == "pair_losses":
            for (teacher, student), loss in zip(self.pairs, terms, strict=True):
                yield f"mse_loss/teacher_{teacher}_student_{student}", loss
        else:
            yield name, terms

    def score(self) -> Metrics:
        """Scores of the student's own predictions."""
        return evaluation.evaluate(self.logits_of(lambda batch: self.model(batch).logits), self.task, self.validation)

    def save_weights(self, folder: Path) -> None:
        """The plain student with its filters beside it."""
        self.model.model.save_pretrained(folder)
        if self.model.filters is not None:
            save_filters(folder, self.model.filters, self.model.model)

    def load_weights(self, folder: Path) -> None:
        """Read a plain checkpoint of the student, and its filters."""
        read_weights(self.model.model, folder)
        if self.model.filters is not None:
            self.model.filters.load_state_dict(load_filters(folder, self.model.model, "student").state_dict())


def distill(
    teacher_name_or_path: str | Path,
    student_name_or_path: str | Path,
    task: Task,
    args: StageArguments,
    distill_arguments: DistillArguments | None = None,
    model_arguments: ModelArguments | None = None,
) -> Results:
    """Distil a fine-tuned teacher into a student; leave a plain checkpoint and its filters in `args.output_dir`.

    Returns:
        Scores in percent, parameters, seconds and steps: what `all_results.json` holds.

    Raises:
        InputError: before any training, with all problems.
        TrainingError: the loss is no longer a number.
    """
    distill_arguments = distill_arguments or DistillArguments()
    problems: list[str] = []
    with collect(problems):
        check_writable(Path(args.output_dir))
    with collect(problems):
        check_arguments(distill_arguments)
    with collect(problems):
        check_rows(task, args)
        check_metric(args, score_names(task))
    raise_if_any(problems)
    args = stage_arguments(args, task)
    set_seed(args.seed)
    loaded: dict[str, LoadedModel] = {}
    with collect(problems):
        loaded["teacher"] = load_model(teacher_name_or_path, task)
    with collect(problems):
        loaded["student"] = load_model(student_name_or_path, task, model_arguments, new_head=distill_arguments.new_head)
    raise_if_any(problems)
    return _distill(loaded["teacher"], loaded["student"], task, args, distill_arguments)


def _distill(
    teacher: LoadedModel, student: LoadedModel, task: Task, args: StageArguments, arguments: DistillArguments
) -> Results:
    tokenizer = shared_tokenizer(teacher, student)
    filters = METHODS[arguments.method](teacher, student, arguments)
    pairs = make_pairs(*([] if side is None else side.blocks for side in filters))
    mse_alpha = (100.0 if pairs else 0.0) if arguments.mse_alpha is None else arguments.mse_alpha
    weights = {"kl_alpha": arguments.kl_alpha, "mse_alpha": mse_alpha, "temperature": arguments.temperature}
    method = {"method": arguments.method, "pairs": pairs, **weights}
    finished = begin(args, settings("distill", task, args, {"teacher": teacher, "student": student}, **method))
    if finished is not None:
        return finished
    data = read_data(task, tokenizer, args)
    live_teacher = LiveTeacher(teacher.with_filters(filters.teacher, task)).to(args.device)
    module = student.with_filters(filters.student, task)
    trainer = DistillTrainer(
        module, args, task, tokenizer, data.train, data.validation, teacher=live_teacher, pairs=pairs, **weights
    )
    scores = trainer.fit()

    def write_files(folder: Path) -> None:
        if filters.student is not None:
            save_filters(folder, filters.student, student.model)
        write_card(
            folder, arguments.method, task, scores, student.name, teacher=teacher.name, pairs=pairs, weights=weights
        )

    return finish(trainer, scores, student, f"distill {arguments.method}", write_files)
