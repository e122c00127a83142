"""A training that is interrupted writes a checkpoint before it ends."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from datasets import IterableDataset
from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_utils import SaveStrategy

from ..progress import is_postponed, postponing_interrupts, raise_noted
from .stage_arguments import StageArguments


class SavedInterrupts(TrainerCallback):
    """At the end of the update in which a command was interrupted, writes a checkpoint and ends the training."""

    def on_step_begin(self, args: StageArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """Ends a training that has not saved what it was asked to, as its scores were no better than before."""
        if is_postponed():
            raise_noted()

    def on_step_end(self, args: StageArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """Asks for a checkpoint; at the end of an epoch, after what is scored there."""
        ends = float(state.epoch or 0).is_integer() or state.global_step >= state.max_steps
        if is_postponed() and not ends:
            control.should_save = True

    def on_epoch_end(self, args: StageArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """The same."""
        if is_postponed():
            control.should_save = True

    def on_save(self, args: StageArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """Ends the training."""
        if is_postponed():
            raise_noted()


def postponing(args: StageArguments, rows: object) -> AbstractContextManager[None]:
    """Postpones interrupts where a checkpoint can be written after any update.

    Not for several processes, of which one alone may have been interrupted; nor for a stream, whose place is known only
    where it would be saved anyway; nor where nothing is saved.
    """
    alone = args.world_size == 1 and args.save_strategy != SaveStrategy.NO
    return postponing_interrupts() if alone and not isinstance(rows, IterableDataset) else nullcontext()
