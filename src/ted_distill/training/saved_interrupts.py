"""A training that is interrupted writes a checkpoint before it ends."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from datasets import IterableDataset
from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from ..progress import is_postponed, postponing_interrupts, raise_noted
from .contradictions import text_of
from .stage_arguments import StageArguments


class SavedInterrupts(TrainerCallback):
    """At the end of the update in which a command was interrupted, writes a checkpoint and ends the training."""

    def __init__(self) -> None:
        self._asked = False
        """Whether a checkpoint was asked for."""

    def on_step_begin(self, args: StageArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """Ends a training that has not saved what it was asked to; of an interrupt since, the update is made first."""
        if is_postponed() and self._asked:
            raise_noted()

    def on_step_end(self, args: StageArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """Asks for a checkpoint; at the end of an epoch, after what is scored there."""
        ends = float(state.epoch or 0).is_integer() or state.global_step >= state.max_steps
        if is_postponed() and not ends:
            control.should_save = self._asked = True

    def on_epoch_end(self, args: StageArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """The same."""
        if is_postponed():
            control.should_save = self._asked = True

    def on_save(self, args: StageArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """Ends the training."""
        if is_postponed():
            raise_noted()


def postponing(args: StageArguments, rows: object) -> AbstractContextManager[None]:
    """Postpones interrupts where a checkpoint can be written after any update.

    Not for several processes, of which one alone may have been interrupted, nor with those that make batches, which end
    at once; nor for checkpoints without an optimizer, from which no training resumes; nor for a stream or without
    skipping rows, whose places are known only where they would be saved anyway; nor where some scores are of weights
    that are not saved, and a checkpoint more would make them candidates.
    """
    alone = args.world_size == 1 and not args.dataloader_num_workers and not args.eval_on_start
    same = text_of(args.save_strategy) == text_of(args.eval_strategy) and (
        args.save_strategy != SaveStrategy.STEPS or args.save_steps == args.eval_steps
    )
    saves = args.save_strategy not in (SaveStrategy.NO, SaveStrategy.BEST) and not args.save_only_model
    whole = not args.ignore_data_skip and not isinstance(rows, IterableDataset)
    scored = args.eval_strategy != IntervalStrategy.NO
    return postponing_interrupts() if alone and saves and whole and (same or not scored) else nullcontext()
