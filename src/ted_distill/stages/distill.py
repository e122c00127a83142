"""Stage II: train the student to match the teacher's filtered states and predictions.

KD, LWD and TED are this stage with other filters: see `methods.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn

from ..errors import collect, raise_if_any
from ..fast.precision import cast_weights, resolve_dtype
from ..method.filter_files import filters_fingerprint, load_filters, save_filters
from ..method.filters import Batch, FilteredModel, Filters, Signals
from ..method.layer_losses import LayerLoss, bind_layer_loss, bound_variances, layer_losses
from ..method.losses import distillation_loss
from ..models.dropout import turn_off_dropout
from ..models.load import LoadedModel, ModelArguments, load_model, offer_labels_of, read_weights
from ..models.tokenizers import Tokenizers, choose_tokenizers, matched_logits
from ..tasks.base import Counts, Metrics, Task
from ..training import evaluation
from ..training.model_card import write_card
from ..training.speed import freeze_unseen_rows, use_fast_modules
from ..training.stage_arguments import StageArguments
from ..training.trainer import StageTrainer
from .filter_starts import least_squares_start, sample_batches, start_from
from .lifecycle import OpenStage, StageData, prepare, publish, read_data, states_cache
from .methods import METHODS, DistillArguments, MethodFilters, layer_methods
from .retest import with_test_scores
from .stage_identity import Results, places, stage_identity
from .teacher_inputs import TeacherInputs
from .teacher_variances import measure_variances

_OWN = ("method", "kl_alpha", "temperature", "student_dropout")


def distillation_terms(
    student: Signals,
    teacher: Signals,
    task: Task,
    batch: Batch,
    *,
    kl_alpha: float,
    mse_alpha: float,
    temperature: float,
    counts: Counts | None = None,
    losses: Sequence[LayerLoss] | None = None,
    matched: slice | Tensor | None = None,
) -> dict[str, Tensor]:
    """The terms of Stage II's loss, and under `loss` their weighted sum (method, section 1).

    `pair_losses` are the layer losses (K,) and `layer_loss` is their mean; both are missing if no blocks are matched.

    Args:
        counts: number of items in the whole update, to average over [those of the batch].
        losses: the layer loss of each pair [`mse_layer_loss`].
        matched: places of the logits that are matched, see `models.tokenizers.matched_logits` [all].
    """
    labels, predictions, tokens = counts or (None, None, None)
    pred_loss = task.loss(student.logits, batch, labels)
    of_student, of_teacher = (
        signals.logits if matched is None else signals.logits[..., matched] for signals in (student, teacher)
    )
    match_loss = task.match(of_student, of_teacher, batch, temperature, predictions)
    terms = {"pred_loss": pred_loss, "match_loss": match_loss}
    layer_loss = torch.zeros_like(pred_loss)
    if student.states or teacher.states:
        pair_losses = layer_losses(student.states, teacher.states, task.mask(batch), tokens, losses)
        layer_loss = pair_losses.mean()
        terms |= {"layer_loss": layer_loss, "pair_losses": pair_losses}
    return {"loss": distillation_loss(pred_loss, match_loss, layer_loss, kl_alpha, mse_alpha), **terms}


class DistillTrainer(StageTrainer):
    """Trains the student, a `FilteredModel`, and its filters against a teacher.

    Args:
        teacher: a frozen `FilteredModel`.
        pairs: (teacher block, student block); empty if no blocks are matched.
        losses: the layer loss of each pair, see `method.layer_losses.bind_layer_loss` [`mse_layer_loss`].
        matched: places of the logits that are matched [all].
        teacher_inputs: what the teacher reads, if its tokenizer is not the student's.
    """

    def __init__(
        self,
        *args: Any,
        teacher: FilteredModel,
        pairs: list[tuple[int, int]],
        kl_alpha: float,
        mse_alpha: float,
        temperature: float,
        losses: Sequence[LayerLoss] | None = None,
        matched: slice | Tensor | None = None,
        teacher_inputs: TeacherInputs | None = None,
    ) -> None:
        super().__init__(*args)
        self.teacher = teacher
        self.pairs = pairs
        self.kl_alpha = kl_alpha
        self.mse_alpha = mse_alpha
        self.temperature = temperature
        self.losses = losses
        self.matched = matched
        self.teacher_inputs = teacher_inputs
        if teacher_inputs is not None:
            self.data_collator = teacher_inputs.collate

    def loss_terms(self, model: nn.Module, batch: Batch, counts: Counts) -> dict[str, Tensor]:
        """See `distillation_terms`."""
        # The teacher first: its temporary memory is free again when the student's graph is made.
        teacher = self.teacher(batch if self.teacher_inputs is None else self.teacher_inputs.of_batch(batch))
        student = model(batch)
        return distillation_terms(
            student, teacher, self.task, batch, kl_alpha=self.kl_alpha, mse_alpha=self.mse_alpha,
            temperature=self.temperature, counts=counts, losses=self.losses, matched=self.matched,
        )  # fmt: skip

    def term_names(self, name: str, terms: Tensor) -> Iterator[tuple[str, Tensor]]:
        """`layer_loss/teacher_4_student_2` for a pair."""
        if name == "pair_losses":
            for (teacher, student), loss in zip(self.pairs, terms, strict=True):
                yield f"layer_loss/teacher_{teacher}_student_{student}", loss
        else:
            yield name, terms

    def score(self) -> Metrics:
        """Scores of the student's own predictions."""
        return evaluation.evaluate(self.logits_of(self.scored_logits), self.task, self.validation)

    def save_weights(self, folder: Path) -> None:
        """Write the plain student, with its filters next to it."""
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
        Scores in percent, parameters, seconds and steps: the contents of `all_results.json`.

    Raises:
        InputError: before any training, with all problems.
        TrainingError: the loss is no longer a number.
    """
    return open_distill(
        teacher_name_or_path, student_name_or_path, task, args, distill_arguments, model_arguments
    ).result()


def open_distill(
    teacher_name_or_path: str | Path,
    student_name_or_path: str | Path,
    task: Task,
    args: StageArguments,
    distill_arguments: DistillArguments | None = None,
    model_arguments: ModelArguments | None = None,
    teacher_arguments: ModelArguments | None = None,
) -> OpenStage:
    """`distill` up to its first write: checks arguments, data, models and folder. Raises `InputError`.

    Args:
        teacher_arguments: how the teacher is loaded [as `model_arguments` trust it, otherwise as it is].
    """
    arguments = distill_arguments or DistillArguments()
    models = [teacher_name_or_path, student_name_or_path]
    # Revision and overrides are for the student only; `trust_remote_code` is for both models.
    trust = ModelArguments(trust_remote_code=bool(model_arguments and model_arguments.trust_remote_code))
    teacher_arguments = teacher_arguments or trust
    offer_labels_of(teacher_name_or_path, task, teacher_arguments)
    args = prepare(task, args, check=arguments.check, models=models)
    problems: list[str] = []
    loaded: dict[str, LoadedModel] = {}
    with collect(problems):
        loaded["teacher"] = load_model(teacher_name_or_path, task, teacher_arguments)
    with collect(problems):
        loaded["student"] = load_model(student_name_or_path, task, model_arguments, new_head=arguments.new_head)
    raise_if_any(problems)
    tokenizers = choose_tokenizers(loaded["teacher"], loaded["student"], task, layer_methods([arguments.method]))
    matched_logits({model.name: model.model.config for model in loaded.values()}, tokenizers.student, task)
    filters = METHODS[arguments.method](loaded["teacher"], loaded["student"], arguments)
    identity = stage_identity("distill", task, args, loaded, distill=_settings(arguments, filters))
    return OpenStage(
        args, identity, places(task, loaded),
        run=lambda: _run(loaded["teacher"], loaded["student"], tokenizers, filters, task, args, arguments),
        test=lambda results: with_test_scores(results, task, args, model_arguments),
    )  # fmt: skip


def _settings(arguments: DistillArguments, filters: MethodFilters) -> dict[str, Any]:
    """What determines the method's loss: weights, pairs, and filters (learnt ones by content, random ones by shape)."""
    found: dict[str, Any] = {name: getattr(arguments, name) for name in _OWN}
    found |= {"mse_alpha": arguments.layer_weight(filters.pairs), "pairs": filters.pairs}
    if filters.pairs:
        found["layer_loss"] = arguments.layer_loss
    if filters.teacher is not None and filters.teacher.config is not None:
        found["teacher_filters"] = filters_fingerprint(filters.teacher)
    if filters.student is not None and filters.student.config is not None:
        learnt = filters.student_start == "learned"
        shape = {**asdict(filters.student.config), "start": filters.student_start}
        found["student_filters"] = filters_fingerprint(filters.student) if learnt else shape
    return found


def _run(
    teacher: LoadedModel,
    student: LoadedModel,
    tokenizers: Tokenizers,
    filters: MethodFilters,
    task: Task,
    args: StageArguments,
    arguments: DistillArguments,
) -> Results:
    data = read_data(task, tokenizers.student, args, tokenizers.teacher)
    trainer = distill_trainer(teacher, student, tokenizers, filters, task, args, data, arguments)
    trainer.check_room(trainer.checkpoint_bytes, [trainer.teacher.cache])
    outcome = trainer.fit()

    def write_files(folder: Path) -> None:
        if filters.student is not None:
            save_filters(folder, filters.student, student.model)
        weights = {name: getattr(trainer, name) for name in ("kl_alpha", "mse_alpha", "temperature")}
        write_card(
            folder, arguments.method, task, outcome, student.name,
            teacher=teacher.name, pairs=filters.pairs, weights=weights,
        )  # fmt: skip

    variances = [round(variance, 6) for variance in bound_variances(trainer.losses or [])]
    measured = {"teacher_variances": variances} if variances else {}
    return publish(trainer, {**outcome, **measured}, student, f"distill {arguments.method}", write_files)


def distill_trainer(
    teacher: LoadedModel,
    student: LoadedModel,
    tokenizers: Tokenizers,
    filters: MethodFilters,
    task: Task,
    args: StageArguments,
    data: StageData,
    arguments: DistillArguments,
) -> DistillTrainer:
    """The trainer of a student and its filters; the teacher is cast to `frozen_dtype` in place.

    The teacher's outputs are kept for later epochs, and for other methods and students if `cache_dir` is shared.
    """
    tokenizer, own = tokenizers.student, data.of_teacher
    matched = matched_logits({model.name: model.model.config for model in (teacher, student)}, tokenizer, task)
    frozen_teacher = _frozen_teacher(teacher, filters.teacher, task, args, data.train if own is None else own)
    losses = bind_layer_loss(
        arguments.layer_loss,
        len(filters.pairs),
        lambda: measure_variances(frozen_teacher, task, args, tokenizer, data.train),
    )
    if not arguments.student_dropout:
        turn_off_dropout(student.model)
    student.model.to(args.device)
    if filters.student is not None and filters.student_start == "least_squares":
        unfiltered = student.with_filters(Filters.identity(filters.student.blocks), task)
        batches = sample_batches(task, args, tokenizer, data.train)
        start_from(filters.student, least_squares_start(unfiltered, frozen_teacher, task, batches))
    use_fast_modules(student.model, args)
    freeze_unseen_rows(student.model, args, data.train, tokenizer.pad_token_id)
    return DistillTrainer(
        student.with_filters(filters.student, task), args, task, tokenizer, data.train, data.validation, data.test,
        teacher=frozen_teacher, pairs=filters.pairs, losses=losses, kl_alpha=arguments.kl_alpha,
        mse_alpha=arguments.layer_weight(filters.pairs), temperature=arguments.temperature,
        matched=matched.to(args.device) if isinstance(matched, Tensor) else matched,
        teacher_inputs=None if own is None else TeacherInputs(own, task, tokenizers, len(data.train)),
    )  # fmt: skip


def _frozen_teacher(
    teacher: LoadedModel, filters: Filters | None, task: Task, args: StageArguments, features: Dataset
) -> FilteredModel:
    """The teacher on the batches' device, in its own number type; its outputs are kept for later epochs and methods."""
    dtype = resolve_dtype(args.frozen_dtype, args.device, args.fp16)
    model = teacher.with_filters(filters, task)
    model.cache = states_cache(args, task, teacher, model.blocks, dtype, False, features)
    cast_weights(model, dtype)
    model.freeze().to(args.device)
    use_fast_modules(model, args, frozen=True)
    if args.torch_compile:
        teacher.model.compile(backend=args.torch_compile_backend, mode=args.torch_compile_mode)
    return model
