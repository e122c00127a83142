"""A stage rehearsed: its own trainer makes a few real steps, whose time and memory are measured.

The first step is on the longest rows there are: it needs the most memory, and everything that happens once happens in
it. Then come batches of all sizes, each twice: the second time, the outputs of a frozen model are read from the cache,
as they are in every epoch but the first. Nothing of it is kept.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_callback import DefaultFlowCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy, SchedulerType

from ...fast.states_cache import CACHE_NAME, StatesCache
from ...method.filter_files import save_filters
from ...method.filters import FilteredModel, Filters, initializer_range
from ...models.load import LoadedModel
from ...stages.autocast import with_fitting_autocast
from ...stages.distill import choose, distill_trainer
from ...stages.distill_arguments import DistillArguments
from ...stages.finetune import finetune_trainer
from ...stages.learn_filters import filter_trainer
from ...stages.lifecycle import StageData, keeps_states
from ...stages.methods import METHODS
from ...tasks.base import Split
from ...training.checkpointing import bytes_of
from ...training.stage_arguments import StageArguments
from ...training.trainer import StageTrainer
from ..matching import fill_pairs, filter_arguments
from ..planning import PlannedStage
from ..recipe_keys import FINETUNE, LEARN_FILTERS, OWNERS
from . import memory
from .models import Models
from .sample import Batches, choose_batches, encode_sample

ONE_A_ROW = ", one a row"
"""End of the names of outputs that are kept of one token of each row."""
_RATE = 1e-5
"""A learning rate that spoils nothing: the time of a step does not depend on it."""


@dataclass(frozen=True)
class Measured:
    """What a stage took in its rehearsal. Seconds are wall time on this machine."""

    step: float
    """Of a micro-batch of mean size, forward and backward; a frozen model is run."""
    step_kept: float
    """The same where the frozen model's outputs are read from the cache, if there is one."""
    update: float
    """Of the optimizer, once for each update."""
    opening: float
    """To load models and make the trainer."""
    starting: float
    """To measure the filters' start, for each token that it is measured on."""
    scoring: float
    """To score on the sampled rows, the first time."""
    scoring_again: float
    """The same later on."""
    peak: int
    """Bytes of memory: the most that was held."""
    longest: int
    """Tokens of the longest row."""
    checkpoint: int
    """Bytes of the weights in a checkpoint."""
    trained: int
    """Bytes of the weights that are trained."""
    model: int
    """Bytes of the finished model."""
    outputs: frozenset[str]
    """The frozen model's outputs that are kept, by name; none if it is run in every epoch."""


class Rehearsal:
    """Rehearses stages of a run, one after the other, each with models of its own.

    Args:
        folder: for what the trainers write.
        most: batches to time in each stage.
        budget: seconds that a stage's steps may take; at least one batch is timed.
    """

    def __init__(self, models: Models, folder: Path, most: int, budget: float) -> None:
        self.models = models
        self.plan, self.recipe = models.plan, models.plan.recipe
        self.task = models.task
        self.folder = folder
        self.most = most
        self.budget = budget
        self._scoring: dict[str, tuple[float, float]] = {}

    def stage(self, planned: PlannedStage) -> Measured:
        """Rehearse one stage.

        Raises:
            InputError: a model cannot go through it.
            torch.OutOfMemoryError: the memory of a GPU is too small.
        """
        folder = self.folder / planned.name
        args = _rehearsed(planned.args, folder)
        memory.reset_peak(args.device)
        began = time.perf_counter()
        stage = self._open(planned, args)
        loading = time.perf_counter() - began
        shared = planned.name == "learn_filters_teacher" or planned.method is not None
        if not keeps_states(planned.args, self.task, shared or planned.args.cache_dir is not None):
            args.cache_limit = 0
        data, batches = self._data(stage, planned.args)
        args.max_steps = len(batches.order)
        began = time.perf_counter()
        trainer = stage.trainer(data)
        making = time.perf_counter() - began
        caches = _fresh_caches(trainer, folder)
        first, again = self._scored(planned, trainer)
        clock = _Clock(args.device, self.budget)
        trainer.callback_handler.callbacks = [DefaultFlowCallback(), clock]
        trainer.train()
        step, kept = clock.of_steps(batches)
        tokens = sum(data.train["length"][:]) if stage.measures_start else 0
        return Measured(
            step=step if caches else kept, step_kept=kept, update=clock.of_optimizer,
            opening=loading + (0.0 if tokens else making), starting=making / tokens if tokens else 0.0,
            scoring=first, scoring_again=again,
            peak=memory.peak(args.device) + _read_at_the_end(planned.args, stage.model_bytes),
            longest=max(data.train["length"][:]),
            checkpoint=trainer.checkpoint_bytes, trained=_trained_bytes(trainer), model=stage.model_bytes,
            outputs=_outputs(trainer) if caches else frozenset(),
        )  # fmt: skip

    def _scored(self, planned: PlannedStage, trainer: StageTrainer) -> tuple[float, float]:
        """Seconds to score the stage's model; all methods train the same student."""
        what = planned.name if planned.name in LEARN_FILTERS else "student"
        what = "teacher" if planned.name == FINETUNE[0] else what
        if what not in self._scoring:
            self._scoring[what] = _scoring(trainer, self.budget)
        return self._scoring[what]

    def _open(self, planned: PlannedStage, args: StageArguments) -> _Opened:
        """Load the models of a stage, with everything that its trainer needs besides the data."""
        name, owner = planned.name, planned.name.rpartition("_")[2]
        if planned.method is not None:
            return self._open_method(planned, args)
        loaded = self.models.load(owner)
        size = bytes_of(loaded.model.state_dict().values())
        if name in FINETUNE:
            args = with_fitting_autocast(args, loaded, self.task)
            return _Opened(loaded.tokenizer, None, size, partial(finetune_trainer, loaded, self.task, args))
        arguments = filter_arguments(self.recipe)[owner]
        loaded.require_states()
        shape = arguments.shape(loaded.model.config)

        def trainer(data: StageData) -> StageTrainer:
            return filter_trainer(loaded, shape, self.task, args, data, arguments)

        return _Opened(loaded.tokenizer, None, size, trainer, arguments.start(shape) == "scaled")

    def _open_method(self, planned: PlannedStage, args: StageArguments) -> _Opened:
        method = METHODS[planned.name]
        loaded = {owner: self.models.load(owner) for owner in OWNERS if owner == "student" or method.needs_teacher}
        arguments = self._arguments(planned, loaded)
        args = with_fitting_autocast(args, loaded["student"], self.task)
        chosen = choose(loaded["student"], loaded.get("teacher"), self.task, args, arguments)
        tokenizers = chosen.tokenizers
        return _Opened(
            tokenizers.student, None if tokenizers.shared else tokenizers.teacher,
            bytes_of(loaded["student"].model.state_dict().values()),
            partial(distill_trainer, chosen, self.task, args), method.matches_states,
        )  # fmt: skip

    def _arguments(self, planned: PlannedStage, loaded: dict[str, LoadedModel]) -> DistillArguments:
        """A method's arguments with the run's pairs, and filters of the right shapes where Stage I would learn them."""
        assert planned.method is not None
        arguments = copy.copy(planned.method.arguments)
        arguments.unlabelled_share = arguments.augment = None
        # Those of its own intervals too: the models of a rehearsal do not say of which blocks a student was made.
        pairs = planned.method.pairs or self.plan.pairs
        if isinstance(pairs, list):
            arguments.filter_interval = arguments.teacher_filter_interval = None
            fill_pairs(arguments, pairs)
        learners = METHODS[planned.name].learners(self.recipe.student_filters[planned.name])
        for owner in learners:
            folder, model = self.folder / f"{owner}_filters", loaded[owner].model
            if not folder.exists():
                folder.mkdir()
                shape = filter_arguments(self.recipe)[owner].shape(model.config)
                save_filters(folder, Filters.random(shape, initializer_range(model.config)), model)
            setattr(arguments, f"{owner}_filters", str(folder))
        return arguments

    def _data(self, stage: _Opened, args: StageArguments) -> tuple[StageData, Batches]:
        """The batches of the rehearsal as one data set in order, and the sampled rows to score on."""
        features, usual = encode_sample(self.task, stage.tokenizer)
        batches = choose_batches(features, args, usual, self.most)
        own = None
        if stage.teacher_tokenizer is not None:
            own = batches.features(encode_sample(self.task, stage.teacher_tokenizer)[0])
        rows = {name: rows for name, rows in self.task.rows.items() if name.startswith("validation")}
        splits = {name: Split(found, self.task.encode(found, stage.tokenizer)) for name, found in rows.items()}
        return StageData(batches.features(features), splits, own), batches


@dataclass
class _Opened:
    """A stage up to its data."""

    tokenizer: PreTrainedTokenizerBase
    teacher_tokenizer: PreTrainedTokenizerBase | None
    """The teacher's own, if it has one."""
    model_bytes: int
    """Of the finished model."""
    trainer: Callable[[StageData], StageTrainer]
    measures_start: bool = False
    """Whether making the trainer measures something on training rows."""


class _Clock(TrainerCallback):
    """When each step ended; ends the training when the time is up and at least one batch was timed."""

    def __init__(self, device: torch.device, budget: float) -> None:
        self.device = device
        self.budget = budget
        self.ends: list[float] = []
        self.optimizer: list[float] = []

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """The gradients are there."""
        self._before = self._now()

    def on_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """The optimizer has made its step."""
        self.optimizer.append(self._now() - self._before)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The first step is a warm-up; then come pairs of the same batch."""
        self.ends.append(self._now())
        pairs, half = divmod(len(self.ends) - 1, 2)
        if pairs and not half and self.ends[-1] - self.ends[0] > self.budget:
            control.should_training_stop = True

    @property
    def of_optimizer(self) -> float:
        """Seconds of the optimizer in an update."""
        return float(np.mean(self.optimizer[1:]))

    def of_steps(self, batches: Batches) -> tuple[float, float]:
        """Seconds of a micro-batch of mean size without the optimizer, the first time it comes and the second.

        Steps are taken to last in proportion to their tokens, which only makes up for sizes that were not timed.
        """
        seconds = np.diff(self.ends) - np.array(self.optimizer[1:])
        first, second = seconds[::2], seconds[1::2]
        scale = batches.mean_tokens / sum(batches.tokens[: len(second)])
        return float(first.sum() * scale), float(second.sum() * scale)


def _rehearsed(args: StageArguments, folder: Path) -> StageArguments:
    """The arguments of a stage for a few steps that leave nothing behind."""
    args = copy.copy(args)
    args.output_dir, args.cache_dir = str(folder), str(folder / CACHE_NAME)
    args.eval_strategy = args.logging_strategy = IntervalStrategy.NO
    args.save_strategy = SaveStrategy.NO
    args.load_best_model_at_end = args.eval_on_start = args.logging_first_step = False
    args.early_stopping_patience = args.metric_for_best_model = args.greater_is_better = None
    args.report_to, args.disable_tqdm = [], True
    args.gradient_accumulation_steps, args.train_sampling_strategy = 1, "sequential"
    args.dataloader_drop_last, args.num_train_epochs, args.warmup_steps = False, 1.0, 0
    args.dataloader_num_workers, args.dataloader_prefetch_factor = 0, None
    args.dataloader_persistent_workers = False
    # The time of a step does not depend on its rate, and this one spoils no weights; a schedule may not fit it.
    args.learning_rate, args.lr_scheduler_type, args.lr_scheduler_kwargs = _RATE, SchedulerType.CONSTANT, {}
    return args


def _read_at_the_end(args: StageArguments, model: int) -> int:
    """Bytes of the best checkpoint, which is read beside the model; not onto a GPU."""
    return model if args.load_best_model_at_end and args.device.type == "cpu" else 0


def _fresh_caches(trainer: StageTrainer, folder: Path) -> bool:
    """Whether outputs of a frozen model are kept; what was kept while the trainer was made is forgotten."""
    frozen = _frozen(trainer)
    if frozen is None or not isinstance(cache := frozen.cache, StatesCache) or not cache.with_hidden_states:
        return False
    frozen.cache = StatesCache(folder / "fresh-cache", cache.lengths, cache.one_a_row, cache.with_hidden_states)
    return True


def _frozen(trainer: StageTrainer) -> FilteredModel | None:
    """The frozen model of a stage, if it has one."""
    return next(iter(trainer.frozen_models()), None)


def _outputs(trainer: StageTrainer) -> frozenset[str]:
    """Names of the outputs that a stage reads from the cache: those of one state a row are other files."""
    frozen = _frozen(trainer)
    assert frozen is not None
    assert isinstance(frozen.cache, StatesCache)
    names = ["logits", *(f"block {block}" for block in frozen.blocks)]
    names += [] if frozen.relation_block is None else [f"relations {frozen.relation_block}"]
    return frozenset(f"{name}{ONE_A_ROW}" if frozen.cache.one_a_row else name for name in names)


def _trained_bytes(trainer: StageTrainer) -> int:
    return bytes_of(weight for weight in trainer.model.parameters() if weight.requires_grad)


def _scoring(trainer: StageTrainer, budget: float) -> tuple[float, float]:
    """Seconds that it takes to score on the sampled rows, the first time and again; 0 without such rows."""
    if not trainer.validation:
        return 0.0, 0.0
    trainer.model.eval()
    first = _seconds(trainer.score)
    # The first time includes what happens once; a stage with a cache of these rows is faster from then on.
    return first, (_seconds(trainer.score) if first < budget else first)


def _seconds(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began
