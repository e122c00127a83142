"""The one subclass of `transformers.Trainer` that the stages share: plumbing only, no loss."""

from __future__ import annotations

import time
import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import EarlyStoppingCallback, PreTrainedTokenizerBase, TrainerControl
from transformers.trainer_pt_utils import LengthGroupedSampler

from ..errors import InputError, TrainingError
from ..fast.memory import keep_freed_memory
from ..fast.states_cache import ROW
from ..method.filters import Batch
from ..output import (
    explain_full_disk,
    last_checkpoint,
)
from ..tasks.base import Counts, Metrics, Split, Task
from . import evaluation
from .saving_trainer import SavingTrainer
from .stage_arguments import StageArguments


class StageTrainer(SavingTrainer):
    """Trains one module on one task with a stage's loss, and scores it with `evaluation.evaluate`.

    A stage defines the terms of its loss (`loss_terms`), how to score (`score`), and which weights a checkpoint
    holds (`save_weights`, `load_weights`). Every term, and every pair's layer loss, gets its own curve.

    Raises:
        TrainingError: the loss is not finite; names the step and the last good checkpoint.
    """

    control: TrainerControl

    def __init__(
        self,
        module: nn.Module,
        args: StageArguments,
        task: Task,
        tokenizer: PreTrainedTokenizerBase,
        train_features: Dataset,
        validation: dict[str, Split],
    ) -> None:
        patience = args.early_stopping_patience
        super().__init__(
            model=module,
            args=args,
            data_collator=partial(collate, task=task, tokenizer=tokenizer),
            train_dataset=train_features,
            eval_dataset=validation["validation"].features if validation else None,
            processing_class=tokenizer,
            callbacks=[EarlyStoppingCallback(patience)] if patience else [],
        )
        self.task = task
        self.validation = validation
        # The stages scale their losses by the counts of the whole update (`get_batch_samples`), not the Trainer.
        self.model_accepts_loss_kwargs = True
        self._sums: dict[str, Tensor] = {}
        self._updates_logged = 0
        self._first_bad_step = torch.full((), -1, device=args.device)
        self._clock = time.monotonic()
        self._seconds_before = 0.0

    # --- what a stage defines ------------------------------------------------------------------------------------

    @abstractmethod
    def loss_terms(self, model: nn.Module, batch: Batch, counts: Counts) -> dict[str, Tensor]:
        """The terms of the loss on a micro-batch, and under `loss` their weighted sum.

        Each is a sum over the micro-batch divided by `counts`, those of the whole update. `term_names` splits (K,)
        tensors into scalars.
        """

    @abstractmethod
    def score(self) -> Metrics:
        """Scores of the module as it is now, on every validation split."""

    def term_names(self, name: str, terms: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Names and scalars of one entry of `loss_terms`."""
        yield name, terms

    # --- training ---------------------------------------------------------------------------------------------

    def fit(self) -> Metrics:
        """Train from the last checkpoint that is whole, if there is one; leave the best weights in the module.

        Returns:
            Their scores, in percent.
        """
        checkpoint = self.find_checkpoint()
        with explain_full_disk([Path(self.args.output_dir)], self.disk_need):
            self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        self._stop_if_not_finite()
        self.model.eval()  # training leaves the module in training mode, and final scores must be without dropout
        best = self.state.best_global_step if self.args.load_best_model_at_end else None
        return self._logged_scores(best) or (self.score() if self.validation else {})

    def _logged_scores(self, step: int | None) -> Metrics:
        """Scores logged at `step`: those of the weights that `load_best_model_at_end` loaded."""
        for entry in reversed(self.state.log_history):
            if entry["step"] == step and any(name.startswith("eval_") for name in entry):
                return {name.removeprefix("eval_"): value for name, value in entry.items() if name.startswith("eval_")}
        return {}

    @property
    def seconds(self) -> float:
        """Seconds of this stage so far, including those before an interruption."""
        return self._seconds_before + time.monotonic() - self._clock

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """See `transformers.Trainer.train`; the clock resumes at the checkpoint's time."""
        self._clock = time.monotonic()
        if self.args.keep_freed_memory and self.args.device.type == "cpu":
            keep_freed_memory()
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _init_training_state(self, *args: Any, **kwargs: Any) -> Any:
        positions = super()._init_training_state(*args, **kwargs)
        self._seconds_before = max((entry.get("seconds", 0.0) for entry in self.state.log_history), default=0.0)
        self._updates_logged = self.state.global_step
        return positions

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Counts | None]:
        """Micro-batches of one update, and the counts its losses average over, summed over all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, None
        # Not where batches are made: that is ahead of training, and a resumed stage would draw different numbers.
        place = self.args.seed, self.state.global_step, self.accelerator.process_index
        batches = [
            self.task.augment(batch, self.processing_class, zlib.crc32(repr((*place, number)).encode()))
            for number, batch in enumerate(batches)
        ]
        counts = torch.stack([torch.stack(tuple(self.task.counts(batch))) for batch in batches]).sum(dim=0).to(device)
        return batches, Counts(*self.accelerator.reduce(counts, reduction="sum"))

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> None:
        return None

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The stage's loss on one micro-batch."""
        terms = self.loss_terms(model, inputs, num_items_in_batch)
        self._record(terms)
        # Data-parallel training averages gradients over processes; ours are shares of a sum.
        return terms["loss"] * self.accelerator.num_processes

    def training_step(self, model: nn.Module, inputs: Batch, num_items_in_batch: Any = None) -> Tensor:
        """See `transformers.Trainer`; records the first update whose loss is not finite, without waiting for it."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        first_bad = ~torch.isfinite(loss) & (self._first_bad_step < 0)
        self._first_bad_step = torch.where(first_bad, self.state.global_step + 1, self._first_bad_step)
        return loss

    def _stop_if_not_finite(self) -> None:
        step = int(self.accelerator.gather(self._first_bad_step.reshape(1)).max())
        if step < 0:
            return
        kept = last_checkpoint(Path(self.args.output_dir))
        raise TrainingError(
            f"the loss of step {step} is not a finite number; "
            + (f"the last good checkpoint is {kept}" if kept else "no checkpoint had been written yet")
            + "; try a lower learning_rate, more warmup_steps, max_grad_norm=1, or bf16 instead of fp16"
        )

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        # Before anything is logged or saved: a checkpoint of NaN would replace a good one.
        if self.control.should_log or self.control.should_save or self.control.should_evaluate:
            self._stop_if_not_finite()
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> torch.utils.data.Sampler | None:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        dataset = self.train_dataset if train_dataset is None else train_dataset
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        rows = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return _EpochLengthSampler(rows, list(dataset["length"]), seed)

    # --- curves -----------------------------------------------------------------------------------------------

    def _record(self, terms: dict[str, Tensor]) -> None:
        for entry, values in terms.items():
            for name, value in self.term_names(entry, values.detach()):
                if name != "loss":
                    self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the seconds, and the means of the loss terms since the last point, to each point of the curves."""
        if "loss" in logs and self._sums:
            updates = self.state.global_step - self._updates_logged
            totals = self.accelerator.reduce(torch.stack(list(self._sums.values())), reduction="sum") / updates
            logs |= dict(zip(self._sums, totals.tolist(), strict=True))
            self._sums = {}
            self._updates_logged = self.state.global_step
        logs["seconds"] = round(self.seconds, 1)
        super().log(logs, start_time)

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Score with the stage's `score`: hidden states are never gathered, and there is only one scoring path."""
        was_training = self.model.training
        self.model.eval()
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self.score().items()}
        self.model.train(was_training)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def scored_logits(self, batch: Batch) -> Tensor:
        """The part of a `FilteredModel`'s logits that scores need."""
        return self.task.scored(self.model(batch).logits, batch)

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
            progress=not self.args.disable_tqdm,
        )

    # --- checkpoints ------------------------------------------------------------------------------------------

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        name = str(self.args.metric_for_best_model).removeprefix("eval_")
        if f"eval_{name}" not in metrics:
            known = ", ".join(key.removeprefix("eval_") for key in metrics)
            raise InputError(f"metric_for_best_model: expected one of {known}, got {name}")
        if self.args.load_best_model_at_end and not self.control.should_save and self.args.save_strategy != "best":
            return False  # scored more often than saved: only what is saved can be the result
        return super()._determine_best_metric(metrics, trial)


def collate(features: list[dict[str, Any]], task: Task, tokenizer: PreTrainedTokenizerBase) -> Batch:
    """The task's batch, and the numbers of its rows if the features have them."""
    batch = task.collate(features, tokenizer)
    if ROW in features[0]:
        batch[ROW] = torch.tensor([feature[ROW] for feature in features])
    return batch


class _EpochLengthSampler(LengthGroupedSampler):
    """Rows of similar length together, in an order that depends only on seed and epoch: a resumed epoch sees the same
    batches."""

    def __init__(self, batch_size: int, lengths: list[int], seed: int) -> None:
        super().__init__(batch_size, lengths=lengths, generator=torch.Generator())
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator.manual_seed(self.seed + self.epoch)
        return super().__iter__()
