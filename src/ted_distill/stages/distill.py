"""Stage II: train the student to match the teacher's filtered states and predictions.

KD, LWD and TED are this stage with other filters: see `methods.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from ..errors import InputError, collect, raise_if_any
from ..fast.precision import cast_weights, frozen_dtype
from ..method.filter_files import load_filters, save_filters
from ..method.filters import Batch, FilteredOutput, Filters
from ..method.layer_losses import LAYER_LOSSES, NEED_VARIANCE, LayerLoss, layer_losses, mse_layer_loss, states_variances
from ..method.losses import distillation_loss
from ..method.pairs import make_pairs
from ..method.teacher import FrozenTeacher, Teacher, TeacherSignals
from ..models.load import LoadedModel, ModelArguments, load_model, read_weights
from ..models.tokenizers import shared_tokenizer
from ..tasks.base import Counts, Metrics, Task
from ..training import evaluation
from ..training.model_card import write_card
from ..training.speed import make_fast, train_seen_rows
from ..training.stage_arguments import StageArguments
from ..training.trainer import StageTrainer, collate
from .lifecycle import Results, StageData, begin, finish, prepare, read_data, settings, states_cache
from .methods import METHODS, DistillArguments, MethodFilters, check_arguments, layer_weight

_VARIANCE_FEATURES = 512
"""Features that the variance of the teacher's states is measured on: the same ones in every run."""


def distillation_terms(
    student: FilteredOutput,
    teacher: TeacherSignals,
    task: Task,
    batch: Batch,
    kl_alpha: float,
    mse_alpha: float,
    temperature: float,
    counts: Counts | None = None,
    layer_loss: LayerLoss = mse_layer_loss,
    teacher_variances: Tensor | None = None,
) -> dict[str, Tensor]:
    """Prediction loss, KL, the layer loss of each pair and their mean, and under `loss` the weighted sum.

    Without states nothing but the predictions is matched. `counts` defaults to the items of the batch.
    """
    labels, rows, tokens = counts or (None, None, None)
    pred_loss = task.loss(student.logits, batch, labels)
    kl_loss = task.kl(student.logits, teacher.logits, batch, temperature, rows)
    terms = {"pred_loss": pred_loss, "kl_loss": kl_loss}
    averaged = torch.zeros_like(pred_loss)
    if student.states or teacher.states:
        mask = task.mask(batch)
        pair_losses = layer_losses(student.states, teacher.states, mask, tokens, layer_loss, teacher_variances)
        averaged = pair_losses.mean()
        terms |= {"layer_averaged_mse_loss": averaged, "pair_losses": pair_losses}
    return {"loss": distillation_loss(pred_loss, kl_loss, averaged, kl_alpha, mse_alpha), **terms}


class DistillTrainer(StageTrainer):
    """Trains the student, a `FilteredModel`, and its filters against a teacher.

    Args:
        teacher: gives the teacher's logits and states for a batch.
        pairs: (teacher block, student block); empty where no layer is matched.
        layer_loss: of one pair, one of `losses.LAYER_LOSSES`.
        teacher_variances: (K,), for a layer loss that looks at them.
    """

    def __init__(
        self,
        *args: Any,
        teacher: Teacher,
        pairs: list[tuple[int, int]],
        kl_alpha: float,
        mse_alpha: float,
        temperature: float,
        layer_loss: LayerLoss = mse_layer_loss,
        teacher_variances: Tensor | None = None,
    ) -> None:
        super().__init__(*args)
        self.teacher = teacher
        self.pairs = pairs
        self.kl_alpha = kl_alpha
        self.mse_alpha = mse_alpha
        self.temperature = temperature
        self.layer_loss = layer_loss
        self.teacher_variances = teacher_variances

    def loss_terms(self, model: nn.Module, batch: Batch, counts: Counts) -> dict[str, Tensor]:
        """Prediction loss, KL, each pair's layer loss, and their weighted sum (method, section 1, Stage II)."""
        # The teacher first: what it needs on the way is gone when the student's graph is made.
        teacher = self.teacher(batch)
        student = model(batch)
        weights = self.kl_alpha, self.mse_alpha, self.temperature
        return distillation_terms(
            student, teacher, self.task, batch, *weights, counts, self.layer_loss, self.teacher_variances
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
        return evaluation.evaluate(self.logits_of(self.scored_logits), self.task, self.validation)

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
    arguments = distill_arguments or DistillArguments()
    args = prepare(task, args, check=lambda: check_arguments(arguments))
    problems: list[str] = []
    loaded: dict[str, LoadedModel] = {}
    with collect(problems):
        # Revision and overrides are the student's; code that either model brings is run or not.
        trust = ModelArguments(trust_remote_code=bool(model_arguments and model_arguments.trust_remote_code))
        loaded["teacher"] = load_model(teacher_name_or_path, task, trust)
    with collect(problems):
        loaded["student"] = load_model(student_name_or_path, task, model_arguments, new_head=arguments.new_head)
    raise_if_any(problems)
    return _distill(loaded["teacher"], loaded["student"], task, args, arguments)


def _distill(
    teacher: LoadedModel, student: LoadedModel, task: Task, args: StageArguments, arguments: DistillArguments
) -> Results:
    tokenizer = shared_tokenizer(teacher, student)
    filters = METHODS[arguments.method](teacher, student, arguments)
    pairs = make_pairs(*([] if side is None else side.blocks for side in filters))
    weights = {
        "kl_alpha": arguments.kl_alpha,
        "mse_alpha": layer_weight(arguments, pairs),
        "temperature": arguments.temperature,
    }
    method = {"method": arguments.method, "pairs": pairs, "layer_loss": arguments.layer_loss, **weights}
    finished = begin(args, settings("distill", task, args, {"teacher": teacher, "student": student}, **method))
    if finished is not None:
        return finished
    data = read_data(task, tokenizer, args)
    layer_loss = arguments.layer_loss
    trainer = make_trainer(teacher, student, filters, task, args, data, layer_loss=layer_loss, **weights)
    scores = trainer.fit()

    def write_files(folder: Path) -> None:
        if filters.student is not None:
            save_filters(folder, filters.student, student.model)
        write_card(
            folder, arguments.method, task, scores, student.name, teacher=teacher.name, pairs=pairs, weights=weights
        )

    variances = trainer.teacher_variances
    measured = {} if variances is None else {"teacher_variances": [round(value, 6) for value in variances.tolist()]}
    return finish(trainer, {**scores, **measured}, student, f"distill {arguments.method}", write_files)


def make_trainer(
    teacher: LoadedModel,
    student: LoadedModel,
    filters: MethodFilters,
    task: Task,
    args: StageArguments,
    data: StageData,
    *,
    kl_alpha: float,
    mse_alpha: float,
    temperature: float,
    layer_loss: str = "mse",
) -> DistillTrainer:
    """The trainer of a student and its filters; the teacher is cast to `teacher_dtype` in place.

    What the teacher says is kept for later epochs, and for other methods and students where `cache_dir` is shared.
    """
    tokenizer = shared_tokenizer(teacher, student)
    frozen_teacher = _frozen_teacher(teacher, filters.teacher, task, args, data.train)
    teacher_variances = None
    if layer_loss in NEED_VARIANCE and filters.teacher is not None:
        teacher_variances = measure_variances(frozen_teacher, filters.teacher.blocks, task, args, tokenizer, data.train)
    make_fast(student.model, args)
    train_seen_rows(student.model, args, data.train, tokenizer.pad_token_id)
    return DistillTrainer(
        student.with_filters(filters.student, task), args, task, tokenizer, data.train, data.validation,
        teacher=frozen_teacher, pairs=make_pairs(*([] if side is None else side.blocks for side in filters)),
        kl_alpha=kl_alpha, mse_alpha=mse_alpha, temperature=temperature,
        layer_loss=LAYER_LOSSES[layer_loss], teacher_variances=teacher_variances,
    )  # fmt: skip


def measure_variances(
    teacher: Teacher,
    blocks: Sequence[int],
    task: Task,
    args: StageArguments,
    tokenizer: PreTrainedTokenizerBase,
    features: Dataset,
) -> Tensor:
    """(K,) variance of each pair's teacher states, over real tokens of the first features, averaged over F.

    Raises:
        InputError: states that are the same for every token: there is nothing to match.
    """
    first = islice(features, _VARIANCE_FEATURES)

    def batches() -> Iterator[tuple[list[Tensor], Tensor]]:
        while rows := list(islice(first, args.per_device_train_batch_size)):
            batch = {name: tensor.to(args.device) for name, tensor in collate(rows, task, tokenizer).items()}
            yield teacher(batch).states, task.mask(batch)

    variances = states_variances(batches())
    constant = [block for block, variance in zip(blocks, variances.tolist(), strict=True) if not variance > 0]
    if constant:
        raise InputError(
            f"layer_loss: normalized_mse divides by the variance of the teacher's states, and that of block "
            f"{constant[0]} is {variances.min():g}; learn its filters anew or use layer_loss mse"
        )
    return variances


def _frozen_teacher(
    teacher: LoadedModel, filters: Filters | None, task: Task, args: StageArguments, features: Dataset
) -> FrozenTeacher:
    """The teacher where the batches are, in its own precision; what it says is kept for later epochs and methods."""
    dtype = frozen_dtype(args.teacher_dtype, args.device, args.fp16)
    model = teacher.with_filters(filters, task)
    model.cache = states_cache(args, task, teacher, model.blocks, dtype, False, features)
    cast_weights(model, dtype)
    frozen_teacher = FrozenTeacher(model).to(args.device)
    make_fast(model, args, frozen=True)
    if args.torch_compile:
        teacher.model.compile(backend=args.torch_compile_backend, mode=args.torch_compile_mode)
    return frozen_teacher
