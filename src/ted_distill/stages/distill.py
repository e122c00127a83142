"""Stage II: train the student to match the teacher's filtered states and predictions.

KD, LWD, TED and their rivals are this stage with other things to match: see `methods.py`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset
from torch import Tensor

from ..entries import entry
from ..errors import collect, raise_if_any
from ..fast.embeddings import predicts_tokens
from ..fast.precision import cast_weights
from ..identity import function_fingerprint
from ..method.filter_files import filters_fingerprint, save_filters
from ..method.filters import FilteredModel, Filters
from ..method.layer_losses import LAYER_LOSSES, bind_layer_loss, bound_variances
from ..models.dropout import turn_off_dropout
from ..models.embeddings import freeze_tokens
from ..models.given import Model, as_name
from ..models.load import LoadedModel, ModelArguments, load_model, offer_to_task
from ..models.students import has_teachers_embeddings
from ..models.tokenizers import Tokenizers, choose_tokenizers, matched_logits
from ..progress import remembering
from ..tasks.base import Task
from ..tasks.reading.notices import notice
from ..training.fitting_memory import check_recomputing, room_to_begin
from ..training.new_heads import start_at_the_mean
from ..training.shown.model_card import write_card
from ..training.speed import freeze_unseen_rows, use_fast_modules
from ..training.stage_arguments import StageArguments
from ..training.stage_defaults import DISTILL
from .autocast import with_fitting_autocast
from .card_names import student_words, teacher_words
from .distill_arguments import DistillArguments
from .distill_trainer import DistillTrainer, LossSettings
from .filters.filter_starts import least_squares_start, start_from
from .filters.method_filters import MethodFilters, method_filters, pairs_of_copied
from .lifecycle import OpenStage, StageData, prepare, publish, read_data, states_cache
from .matching.pair_balance import BATCH, ROWS, balanced_weights
from .matching.relation_choice import Relations, choose_relations
from .method_checks import check_method
from .methods import LEARNED, LEAST_SQUARES, token_methods
from .rate_search import Held, run_with_rate
from .retest import with_test_scores
from .rows.samples import drawn_batches
from .rows.unlabelled_rows import MoreRows, check_more_rows, choose_more_rows
from .stage_identity import Results, places, stage_identity
from .teachers.frozen import cast_frozen, pack_frozen
from .teachers.teacher_inputs import TeacherInputs
from .teachers.teacher_scores import known_teacher_scores
from .teachers.teacher_variances import measure_variances


@entry
@remembering()
def distill(
    teacher_name_or_path: Model,
    student_name_or_path: Model,
    task: Task,
    args: StageArguments,
    distill_arguments: DistillArguments | None = None,
    model_arguments: ModelArguments | None = None,
) -> Results:
    """Distil a fine-tuned teacher into a student; leave a plain checkpoint and its filters in `args.output_dir`.

    Args:
        teacher_name_or_path, student_name_or_path: folders, Hub ids or (model, tokenizer).

    Returns:
        Scores in percent, parameters, seconds and steps: the contents of `all_results.json`.

    Raises:
        InputError: before any training, with all problems.
        TrainingError: the loss is no longer a number.
    """
    return open_distill(
        as_name(teacher_name_or_path), as_name(student_name_or_path), task, args, distill_arguments, model_arguments
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
    needed = {"teacher": teacher_name_or_path} if arguments.of_method.needs_teacher else {}
    named = {**needed, "student": student_name_or_path}
    # Revision and overrides are for the student only; `trust_remote_code` is for both models.
    trust = ModelArguments.trusting_as(model_arguments)
    loading = {"teacher": teacher_arguments or trust, "student": model_arguments}
    labels_from = next(iter(named))
    offer_to_task(named[labels_from], task, loading[labels_from])
    args = prepare(task, args, check=lambda: check_more_rows(task, arguments), models=list(named.values()))
    held = Held(partial(_load, named, loading, task, args, arguments), args.seed)
    chosen = held.get()
    loaded = {owner: getattr(chosen, owner) for owner in named}
    config = chosen.student.model.config
    args = with_fitting_autocast(DISTILL.fill(args, config), chosen.student, task)
    identity = stage_identity("distill", task, args, loaded, distill=chosen.identity)

    def open_trial(task: Task, args: StageArguments) -> OpenStage:
        return open_distill(
            teacher_name_or_path, student_name_or_path, task, args, arguments, model_arguments, teacher_arguments
        )

    return OpenStage(
        args, identity, places(task, loaded), title=arguments.method,
        teacher=known_teacher_scores(needed["teacher"], task) if needed else {},
        run=lambda: run_with_rate(held, partial(_run, task), open_trial, task, args, DISTILL.rate_of(config)),
        test=lambda results: with_test_scores(results, task, args, model_arguments),
    )  # fmt: skip


def _load(
    named: dict[str, str | Path],
    loading: dict[str, ModelArguments | None],
    task: Task,
    args: StageArguments,
    arguments: DistillArguments,
) -> Chosen:
    """The models by role, and what of the teacher the student will match. Raises `InputError`."""
    problems: list[str] = []
    loaded: dict[str, LoadedModel] = {}
    for owner, name in named.items():
        with collect(problems):
            new_head = arguments.new_head and owner == "student"
            loaded[owner] = load_model(name, task, loading[owner], new_head=new_head)
            if owner == "student":
                check_recomputing(loaded[owner].model, args)
    raise_if_any(problems)
    return choose(loaded["student"], loaded.get("teacher"), task, args, arguments)


@dataclass(frozen=True)
class Chosen:
    """Models, and what of the teacher the student will match."""

    student: LoadedModel
    teacher: LoadedModel | None
    tokenizers: Tokenizers
    filters: MethodFilters
    relations: Relations | None
    matched: slice | Tensor | None
    arguments: DistillArguments
    train_embeddings: bool = True
    more_rows: MoreRows | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What determines the method's loss: weights, pairs, and filters (learnt ones by content, others by shape)."""
        arguments, pairs = self.arguments, self.filters.pairs
        found: dict[str, Any] = {
            "method": arguments.method,
            "student_dropout": arguments.student_dropout,
            "train_embeddings": self.train_embeddings,
        }
        if self.more_rows is not None:
            found["unlabelled"] = self.more_rows.identity
        if self.teacher is None:
            return found
        found |= {"kl_alpha": arguments.prediction_weight, "temperature": arguments.temperature}
        found |= {"mse_alpha": arguments.layer_weight(pairs), "pairs": pairs}
        if pairs:
            found |= {
                "layer_loss": arguments.layer_loss,
                "pair_weights": arguments.weights_of_pairs(None) or arguments.pair_weights,
            }
            if (code := function_fingerprint(LAYER_LOSSES[arguments.layer_loss])) is not None:
                found["layer_loss_code"] = code
        if pairs or self.relations:
            found["layer_schedule"] = arguments.layer_schedule
        if self.relations:
            found |= {"relations": self.relations._asdict(), "attention_alpha": arguments.relation_weight}
        if not self.arguments.train_filters:
            found["train_filters"] = False
        for owner, filters in (("teacher", self.filters.teacher), ("student", self.filters.student)):
            if filters is not None and filters.config is not None:
                start = LEARNED if owner == "teacher" else self.filters.student_start
                shape = {**asdict(filters.config), "start": start}
                found[f"{owner}_filters"] = filters_fingerprint(filters) if start == LEARNED else shape
        return found


def choose(
    student: LoadedModel, teacher: LoadedModel | None, task: Task, args: StageArguments, arguments: DistillArguments
) -> Chosen:
    """Tokenizers, filters and attention relations of a method. Raises `InputError` if the models cannot have them."""
    method = arguments.of_method
    both = [student] if teacher is None else [teacher, student]
    tokenizers = choose_tokenizers(both[0], student, task, token_methods([arguments.method]))
    configs = {model.name: model.model.config for model in both}
    matched = matched_logits(configs, tokenizers.student, task)
    filters, relations = MethodFilters(), None
    problems: list[str] = []
    more_rows = None
    with collect(problems):
        more_rows = choose_more_rows(task, arguments, tokenizers, args.seed)
    if teacher is not None:
        with collect(problems):
            filters = method_filters(teacher, student, arguments)
        if method.matches_relations:
            with collect(problems):
                pairs = filters.pairs or pairs_of_copied(teacher, student)
                last = pairs[-1] if pairs else None
                for model in (teacher, student):
                    model.require_relations()
                relations = choose_relations(teacher.model, student.model, args, arguments, last)
    with collect(problems):
        widths = None if teacher is None else (teacher.model.config, student.model.config)
        check_method(arguments, args, filters.pairs, widths)
    raise_if_any(problems)
    trained = arguments.train_embeddings
    if trained is None:
        trained = predicts_tokens(student.model) or not has_teachers_embeddings(student, teacher)
    return Chosen(student, teacher, tokenizers, filters, relations, matched, arguments, trained, more_rows)


def _run(task: Task, chosen: Chosen, args: StageArguments, found: Results) -> Results:
    tokenizers, filters, student = chosen.tokenizers, chosen.filters, chosen.student
    student.identity  # noqa: B018  (of the weights before they are trained: it is kept)
    more = None if chosen.more_rows is None else chosen.more_rows.mixed
    data = read_data(task, tokenizers.student, args, tokenizers.teacher, more)
    with room_to_begin(args, student.model.supports_gradient_checkpointing):
        trainer = distill_trainer(chosen, task, args, data)
    trainer.check_room(trainer.checkpoint_bytes, [] if trainer.teacher is None else [trainer.teacher.cache])
    outcome = trainer.fit()
    method = chosen.arguments.of_method
    called, start = student_words(student.name)

    def write_files(folder: Path) -> None:
        if (trained := trainer.trained_filters) is not None:
            save_filters(folder, trained, student.model)
        write_card(
            folder, chosen.arguments.method, task, outcome, student.place, student.tokenizer, text=method.text,
            teacher=teacher_words(chosen.teacher.name) if chosen.teacher else None, pairs=filters.pairs,
            loss=trainer.settings.formula if chosen.teacher else None,
            called=called, start=start, kind=f"distilled ({method.title}) on" if chosen.teacher else "trained alone on",
        )  # fmt: skip

    measured: dict[str, Any] = {}
    if variances := bound_variances(trainer.settings.losses or []):
        measured["teacher_variances"] = [round(variance, 6) for variance in variances]
    if chosen.arguments.balances_pairs and trainer.settings.pair_weights:
        measured["pair_weights"] = [round(weight, 6) for weight in trainer.settings.pair_weights]
    return publish(
        trainer, {**outcome, **measured, **found}, student, f"distill {chosen.arguments.method}", write_files
    )


def distill_trainer(chosen: Chosen, task: Task, args: StageArguments, data: StageData) -> DistillTrainer:
    """The trainer of a student and its filters; the teacher is cast to `frozen_dtype` in place.

    The teacher's outputs are kept for later epochs, and for other methods and students if `cache_dir` is shared.
    """
    student, filters, relations = chosen.student, chosen.filters, chosen.relations
    tokenizer, own = chosen.tokenizers.student, data.of_teacher
    teacher = None
    if chosen.teacher is not None:
        teacher = _frozen_teacher(chosen.teacher, chosen, task, args, data.train if own is None else own)
    if not chosen.arguments.student_dropout:
        turn_off_dropout(student.model)
    elif (filters.pairs or relations) and turn_off_dropout(student.model, "layerdrop"):
        notice(
            f"student_dropout: expected all blocks of {student.name} in training, as their states are matched, got a "
            "student that leaves out some (layerdrop); it leaves out none, and its other dropout stays"
        )
    start_at_the_mean(student.model, student.fresh, task)
    filtered = student.with_filters(filters.student, task).to(args.device)
    if relations:
        filtered.record_relations(relations.student_block)
    if not chosen.train_embeddings:
        freeze_tokens(student.model)
    settings = _loss_settings(chosen, filtered, teacher, task, args, data)
    if filters.student is not None:
        filters.student.requires_grad_(chosen.arguments.train_filters)
    use_fast_modules(student.model, args, flash=relations is None)
    if chosen.train_embeddings:
        freeze_unseen_rows(student.model, args, task, data.train, tokenizer.pad_token_id)
    inputs = None if own is None else TeacherInputs(own, task, chosen.tokenizers, len(data.train))
    return DistillTrainer(
        filtered, args, task, tokenizer, data.train, data.validation, data.test,
        teacher=teacher, pairs=filters.pairs, settings=settings, teacher_inputs=inputs,
    )  # fmt: skip


def _loss_settings(
    chosen: Chosen,
    student: FilteredModel,
    teacher: FilteredModel | None,
    task: Task,
    args: StageArguments,
    data: StageData,
) -> LossSettings:
    """The weights of the loss and its constants, and the start of the student's filters, measured on training rows."""
    arguments, filters, tokenizer = chosen.arguments, chosen.filters, chosen.tokenizers.student
    if teacher is None:
        return LossSettings(0.0, 0.0, arguments.temperature)
    losses = bind_layer_loss(
        arguments.layer_loss,
        len(filters.pairs),
        lambda: measure_variances(teacher, task, args, tokenizer, data.train),
    )
    if filters.student is not None and filters.student_start == LEAST_SQUARES:
        unfiltered = chosen.student.with_filters(Filters.identity(filters.student.blocks), task)
        batches = drawn_batches(task, args, tokenizer, data.train)
        start_from(filters.student, least_squares_start(unfiltered, teacher, task, batches))
    weights = arguments.weights_of_pairs(len(filters.pairs))
    if arguments.balances_pairs and filters.pairs:
        batches = drawn_batches(task, args, tokenizer, data.train, most=ROWS, size=BATCH)
        weights = balanced_weights(student, teacher, task, batches, losses)
    matched, relations = chosen.matched, chosen.relations
    return LossSettings(
        arguments.prediction_weight, arguments.layer_weight(filters.pairs), arguments.temperature,
        attention_alpha=arguments.relation_weight, losses=losses, pair_weights=weights,
        layer_schedule=arguments.layer_schedule, relation_heads=relations.heads if relations else 1,
        causal=student.causal, matched=matched.to(args.device) if isinstance(matched, Tensor) else matched,
    )  # fmt: skip


def _frozen_teacher(
    teacher: LoadedModel, chosen: Chosen, task: Task, args: StageArguments, features: Dataset
) -> FilteredModel:
    """The teacher on the batches' device, in its own number type; its outputs are kept for later epochs and methods."""
    dtype = cast_frozen(teacher, args)
    model = teacher.with_filters(chosen.filters.teacher, task)
    if chosen.relations:
        model.record_relations(chosen.relations.teacher_block)
    model.cache = states_cache(args, task, teacher, model.blocks, dtype, None, features, model.relation_block)
    cast_weights(model, dtype)
    model.freeze().to(args.device)
    use_fast_modules(model, args, frozen=True, flash=chosen.relations is None)
    pack_frozen(teacher, args, model.filters)
    if args.torch_compile:
        teacher.model.compile(backend=args.torch_compile_backend, mode=args.torch_compile_mode)
    return model
