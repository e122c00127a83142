"""The one subclass of `transformers.Trainer` that the stages share: plumbing only, no loss."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerControl
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK
from transformers.trainer_utils import SaveStrategy

from ..errors import InputError, NotFiniteError, TrainingError, reason_of
from ..fast.memory import keep_freed_memory
from ..method.filters import Batch
from ..output import (
    explain_full_disk,
    last_checkpoint,
)
from ..progress import showing
from ..tasks.base import Counts, Metrics, Split, Task
from .announcements import first_line, not_finite
from .contradictions import text_of
from .fitting_memory import SHOWN, divide_anew, what_fits
from .saved_interrupts import SavedInterrupts, postponing
from .saving_trainer import SavingTrainer
from .scores import evaluation
from .scores.best_score import chosen_score
from .scores.early_stopping import EarlyStopping, evaluations_without_gain
from .scores.selection import SCORES_OF, logged_scores, mark_candidate, selection
from .sharded.shares import StandIn
from .shown.shown_progress import ShownProgress
from .stage_arguments import StageArguments
from .update_counts import refuse_untrained, warmup_doubt
from .updates import UpdateTrainer, collate

logger = logging.getLogger(__name__)


class StageTrainer(UpdateTrainer, SavingTrainer):
    """Trains one module on one task with a stage's loss, and scores it with `evaluation.evaluate`.

    A stage defines the terms of its loss (`loss_terms`), how to score (`score`), and which weights a checkpoint
    holds (`save_weights`, `load_weights`). Every term, and every pair's layer loss, gets its own curve.

    Raises:
        TrainingError: the loss is not finite; names the step and the last good checkpoint.
    """

    control: TrainerControl
    scores_of = ""
    """Whose scores `score` gives, if not the model's."""

    def __init__(
        self,
        module: nn.Module,
        args: StageArguments,
        task: Task,
        tokenizer: PreTrainedTokenizerBase,
        train_features: Dataset,
        validation: dict[str, Split],
        test: dict[str, Split] | None = None,
    ) -> None:
        patience = args.early_stopping_patience
        # One device for each process: of several visible ones the Trainer would use all, through `nn.DataParallel`.
        args._n_gpu = min(args.n_gpu, 1)
        super().__init__(
            model=module,
            args=args,
            data_collator=partial(collate, task=task, tokenizer=tokenizer),
            train_dataset=train_features,
            eval_dataset=validation["validation"].features if validation else None,
            processing_class=tokenizer,
            callbacks=[
                *([EarlyStopping(patience)] if patience else []),
                ShownProgress(self.scores_of),
                SavedInterrupts(),
            ],
        )
        for shown in (PrinterCallback, DEFAULT_PROGRESS_CALLBACK):
            self.remove_callback(shown)
        self.task = task
        self.validation = validation
        self.test = test or {}
        # The stages scale their losses by the counts of the whole update (`get_batch_samples`), not the Trainer.
        self.model_accepts_loss_kwargs = True
        self._resumed_from: str | None = None
        self._last_batch: Batch | None = None
        self._last_counts: Counts | None = None
        self._sums: dict[str, Tensor] = {}
        self._updates_logged = 0
        self._first_bad_step = torch.full((), -1, device=args.device)
        self._clock = time.monotonic()
        self._seconds_before = 0.0
        self._was_tried = False

    # --- what a stage defines ------------------------------------------------------------------------------------

    @abstractmethod
    def loss_terms(self, model: nn.Module, batch: Batch, counts: Counts) -> dict[str, Tensor]:
        """The terms of the loss on a micro-batch, and under `loss` their weighted sum.

        Each is a sum over the micro-batch divided by `counts`, those of the whole update. `term_names` splits (K,)
        tensors into scalars.
        """

    def score(self) -> Metrics:
        """Scores of the model's own predictions as it is now, on every validation split."""
        return evaluation.evaluate(self.logits_of(self.scored_logits), self.task, self.validation)

    def term_names(self, name: str, terms: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Names and scalars of one entry of `loss_terms`."""
        yield name, terms

    @property
    def can_recompute(self) -> bool:
        """Whether activations can be computed again in the backward pass."""
        models = [module for module in self.model.modules() if isinstance(module, PreTrainedModel)]
        return all(model.supports_gradient_checkpointing for model in models)

    # --- training ---------------------------------------------------------------------------------------------

    def fit(self) -> dict[str, Any]:
        """Train from the last checkpoint that is whole, if there is one; leave the best weights in the module.

        Returns:
            Their scores, in percent, those on test rows first, and how the weights were chosen (`selection`).
        """
        checkpoint = self.find_checkpoint()
        self._resumed_from = None if checkpoint is None else checkpoint.name
        reason = ""
        with explain_full_disk([Path(self.args.output_dir)], self.disk_need):
            try:
                self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
            except torch.OutOfMemoryError as error:
                reason = reason_of(error, SHOWN)
        if reason:
            step = self.state.global_step + 1
            raise TrainingError(what_fits(self.args, step, reason, self._tries(), self.can_recompute))
        self._stop_if_not_finite()
        self._refuse_half_trained()
        self.gather_weights()
        self.model.eval()  # training leaves the module in training mode, and final scores must be without dropout
        chosen = self.args.load_best_model_at_end and self.state.best_global_step is not None
        scores = logged_scores(self.state, self.state.best_global_step if chosen else self.state.global_step)
        if self.validation and not scores:
            scores = self.score()
        chosen_by = chosen_score(self.args) if chosen else None
        whose = {SCORES_OF: self.scores_of} if self.scores_of else {}
        facts = selection(self.state, self.task, chosen_by, bool(self.test))
        return {**self.test_scores(), **scores, **whose, **facts}

    def _refuse_half_trained(self) -> None:
        """Streams may have fewer rows than updates were asked for; early stopping is meant to."""
        patience = self.args.early_stopping_patience
        early = patience is not None and evaluations_without_gain(self.args, self.state) >= patience
        if not early and not isinstance(self.train_dataset, IterableDataset):
            refuse_untrained(self.state.global_step, self.state.max_steps)

    def test_scores(self) -> Metrics:
        """Scores of the module's own predictions on the test rows, if there are any."""
        return evaluation.evaluate(self.logits_of(self.scored_logits), self.task, self.test)

    def _tries(self) -> Callable[[int], None] | None:
        """A function that runs some rows of the last batch forward and backward; None if several processes train."""
        batch = self._last_batch
        if batch is None or self.args.world_size > 1:
            return None

        def run(rows: int) -> None:
            part = type(batch)({name: tensor[:rows] for name, tensor in batch.items()})
            self.model.zero_grad()
            try:
                self.compute_loss(self.model, part, num_items_in_batch=self._last_counts).backward()
            finally:
                self.model.zero_grad()

        return run

    @property
    def seconds(self) -> float:
        """Seconds of this stage so far, including those before an interruption."""
        return self._seconds_before + time.monotonic() - self._clock

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """See `transformers.Trainer.train`; the clock resumes at the checkpoint's time."""
        self._clock = time.monotonic()
        if self.args.keep_freed_memory and self.args.device.type == "cpu":
            keep_freed_memory()
        with (
            showing(quiet=bool(self.args.disable_tqdm)) as display,
            display.show_stage(Path(self.args.output_dir).name),
            postponing(self.args, self.train_dataset),
        ):
            return super().train(resume_from_checkpoint, *args, **kwargs)

    def _update_auto_batch_size(self, batch_size: int) -> None:
        """See `transformers.Trainer`; an update accumulates more of the smaller batches, for as many rows."""
        failed = self.args.per_device_train_batch_size if self._was_tried else None
        self._was_tried = True
        divide_anew(self.args, batch_size, self.state.global_step, failed)
        self._sums = {}
        super()._update_auto_batch_size(self.args.train_batch_size)

    def _init_training_state(self, *args: Any, **kwargs: Any) -> Any:
        positions = super()._init_training_state(*args, **kwargs)
        if self.state.global_step and isinstance(self.train_dataset, IterableDataset):
            positions = self._stream_position()
            if self._resumed_from is not None:
                self._go_on_in_stream(Path(self.args.output_dir) / self._resumed_from, positions[1])
        if self.is_world_process_zero():
            self._announce()
        self._seconds_before = max((entry.get("seconds", 0.0) for entry in self.state.log_history), default=0.0)
        self._updates_logged = self.state.global_step
        if self.state.global_step:  # resumed
            # The evaluation before the first update was made, and is in the log.
            self.args.eval_on_start = False
            patience = self.args.early_stopping_patience
            if patience and evaluations_without_gain(self.args, self.state) >= patience:
                return args[2], 0  # no epoch is left
        return positions

    def _announce(self) -> None:
        updates = self.state.max_steps
        if isinstance(self.train_dataset, IterableDataset):
            logger.warning(first_line(self.args, None, None, updates, 0))
        else:
            features, epochs = len(self.train_dataset), updates / self._updates_in_epoch
            # Features may come without rows, as those of a benchmark do.
            rows = int(self.task.row_counts["train"]) if "rows" in vars(self.task) else features
            logger.warning(first_line(self.args, rows, features, updates, epochs))
        if (doubt := warmup_doubt(self.args, updates)) is not None:
            logger.warning("%s: %s", self.args.output_dir, doubt)
        if self.args.save_only_model and text_of(self.args.save_strategy) != "no":
            logger.warning(
                "%s: save_only_model leaves the optimizer out of checkpoints, so an interrupted training starts from "
                "the beginning",
                self.args.output_dir,
            )

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The stage's loss on one micro-batch."""
        terms = self.loss_terms(model, inputs, num_items_in_batch)
        if isinstance(inputs, StandIn):
            # Run all the same: processes wait for each other's gradients.
            terms = {name: 0 * term for name, term in terms.items()}
        self._record(terms)
        # Data-parallel training averages gradients over processes; ours are shares of a sum.
        return terms["loss"] * self.accelerator.num_processes

    def training_step(self, model: nn.Module, inputs: Batch, num_items_in_batch: Any = None) -> Tensor:
        """See `transformers.Trainer`; records the first update whose loss is not finite, without waiting for it."""
        self._last_batch, self._last_counts = inputs, num_items_in_batch
        loss = super().training_step(model, inputs, num_items_in_batch)
        first_bad = ~torch.isfinite(loss) & (self._first_bad_step < 0)
        self._first_bad_step = torch.where(first_bad, self.state.global_step + 1, self._first_bad_step)
        return loss

    def _stop_if_not_finite(self) -> None:
        step = int(self.accelerator.gather(self._first_bad_step.reshape(1)).max())
        if step < 0:
            return
        kept = last_checkpoint(Path(self.args.output_dir))
        raise NotFiniteError(not_finite(step, self._rows_of(step), str(kept) if kept else None, self._resumed_from))

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        # Before anything is logged or saved: a checkpoint of NaN would replace a good one.
        if self.control.should_log or self.control.should_save or self.control.should_evaluate:
            self._stop_if_not_finite()
        # Sums since the last point are not saved: a resumed training has the same points only if none are pending.
        best = self.control.should_evaluate and self.args.save_strategy == SaveStrategy.BEST
        self.control.should_log |= self.control.should_save or best
        super()._maybe_log_save_evaluate(*args, **kwargs)

    # --- curves -----------------------------------------------------------------------------------------------

    def _record(self, terms: dict[str, Tensor]) -> None:
        for entry, values in terms.items():
            if entry != "loss":
                values = values.detach()
                self._sums[entry] = self._sums[entry] + values if entry in self._sums else values.clone()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the seconds, and the means of the loss terms since the last point, to each point of the curves."""
        if "loss" in logs and self._sums:
            updates = self.state.global_step - self._updates_logged
            named = [pair for entry, values in self._sums.items() for pair in self.term_names(entry, values)]
            totals = self.accelerator.reduce(torch.stack([total for _, total in named]), reduction="sum") / updates
            logs |= dict(zip([name for name, _ in named], totals.tolist(), strict=True))
            self._sums = {}
            self._updates_logged = self.state.global_step
        logs["seconds"] = round(self.seconds, 1)
        super().log(logs, start_time)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score with the stage's `score`: hidden states are never gathered, and there is only one scoring path.

        Args:
            eval_dataset: none, as a stage is scored on its validation rows.
            ignore_keys: of no effect.

        Raises:
            InputError: other rows were given.
        """
        if eval_dataset is not None:
            raise InputError(
                "evaluate: expected no eval_dataset, as a stage is scored on its validation rows, got one; use "
                "ted_distill.evaluate for other rows"
            )
        was_training = self.model.training
        self.model.eval()
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self.score().items()}
        self.model.train(was_training)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def scored_logits(self, batch: Batch) -> Tensor:
        """The part of a `FilteredModel`'s logits that scores need."""
        # A sharded model is called as it is trained.
        return self.task.scored(self.model(batch, need_states=self.is_sharded).logits, batch)

    def logits_of(self, forward: Callable[[Batch], Tensor]) -> Callable[[Split], list[np.ndarray]]:
        """Logits of a forward function on a split, under this stage's precision and batch size."""
        return lambda split: evaluation.predict(
            forward,
            self.task,
            split,
            self.processing_class,
            device=self.args.device,
            batch_size=self.args.per_device_eval_batch_size,
            autocast=self.accelerator.autocast,
            together=self.is_sharded,
        )

    # --- checkpoints ------------------------------------------------------------------------------------------

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        name = chosen_score(self.args)
        if f"eval_{name}" not in metrics:
            known = ", ".join(key.removeprefix("eval_") for key in metrics)
            raise InputError(f"metric_for_best_model: expected one of {known}, got {name}")
        # Weights that are not saved cannot be chosen.
        if not self.control.should_save and self.args.save_strategy != SaveStrategy.BEST:
            return False
        mark_candidate(self.state)
        return super()._determine_best_metric(metrics, trial)
