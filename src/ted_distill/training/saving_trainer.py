"""The part of the stages' trainer that writes and reads checkpoints."""

from __future__ import annotations

import logging
import zlib
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import set_seed

from ..errors import NotFiniteError
from ..output import (
    check_checkpoint,
    check_space,
    checkpoint_folder,
    last_checkpoint,
    on_main,
    processes_of,
    resumable_checkpoint,
    unsealed_checkpoints,
)
from ..wording import counted
from .checkpointing import bytes_of, readable, room_needed, save_state, save_whole
from .sharded.sharded_trainer import ShardedTrainer

logger = logging.getLogger(__name__)


class SavingTrainer(ShardedTrainer):
    """Checkpoints that are whole or not there at all, and from which training resumes exactly.

    Raises:
        TrainingError: weights that are not finite, or a checkpoint that cannot be read.
    """

    disk_need: int | None = None
    """Bytes that this stage will write, for the message that a disk is full."""

    # --- what a stage defines -------------------------------------------------------------------------------------

    @abstractmethod
    def save_weights(self, folder: Path) -> None:
        """Write what this stage trains."""

    @abstractmethod
    def load_weights(self, folder: Path) -> None:
        """Read what `save_weights` wrote."""

    @property
    def checkpoint_bytes(self) -> int:
        """Room that `save_weights` takes on the disk."""
        return bytes_of(self.model.state_dict().values())

    def save_position(self, folder: Path) -> None:
        """Write where in its rows this training is, if that does not follow from the number of updates."""

    # --- before training ------------------------------------------------------------------------------------------

    def check_room(self, model_bytes: int, caches: Iterable[object] = ()) -> None:
        """Refuse to start a stage whose files will not fit on their disks.

        Args:
            model_bytes: of the finished model.
            caches: the `StatesCache`s that the stage fills; others take no room.

        Raises:
            InputError: says which disk, and how much is needed for what.
        """
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        rows = len(self.train_dataset) if isinstance(self.train_dataset, Dataset) else 0
        needs = room_needed(self.args, self.checkpoint_bytes, trained, rows, model_bytes, caches)
        self.disk_need = sum(need.size for need in needs)
        on_main(lambda: check_space(needs))

    def find_checkpoint(self) -> Path | None:
        """The last checkpoint that training can resume from exactly; None to start from the beginning."""
        folder, args = Path(self.args.output_dir), self.args
        processes = args.world_size if self.is_deepspeed_enabled else None
        checkpoint = on_main(
            lambda: resumable_checkpoint(folder, args.load_best_model_at_end, self.optimizer_file, processes)
        )
        if checkpoint and args.should_save:
            wrote = processes_of(checkpoint)
            other = "" if wrote == args.world_size else f", which {counted(wrote, 'process')} wrote"
            logger.warning("%s: resuming from %s%s", folder, checkpoint.name, other)
        return checkpoint

    def _init_training_state(self, *args: Any, **kwargs: Any) -> Any:
        positions = super()._init_training_state(*args, **kwargs)
        self._find_best()
        if self.args.world_size > 1 and not self.state.global_step:
            self._draw_apart()
        return positions

    def _find_best(self) -> None:
        """Say where the best checkpoint is: the folder may have been moved since the state was written."""
        best = self.state.best_global_step
        self.state.best_model_checkpoint = str(checkpoint_folder(Path(self.args.output_dir), best)) if best else None

    def _draw_apart(self) -> None:
        """Give each process random numbers of its own: dropout would hide the same places of all their batches."""
        place = self.args.seed, self.state.global_step, self.args.process_index, self.args.world_size
        set_seed(zlib.crc32(repr(place).encode()))

    # --- writing --------------------------------------------------------------------------------------------------

    def _get_output_dir(self, trial: Any) -> str:
        """Where the Trainer writes checkpoints; it finds no others there, and so deletes none."""
        return str(unsealed_checkpoints(Path(self.args.output_dir)))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder, step, best = Path(self.args.output_dir), self.state.global_step, self.state.best_global_step
        with save_whole(folder, step, best, self.args.save_total_limit, self.accelerator, self.args.should_save):
            super()._save_checkpoint(model, trial)
            if self.args.should_save:
                written = checkpoint_folder(unsealed_checkpoints(folder), step)
                save_state(self.state, written)
                self.save_position(written)
        self._find_best()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        if not self.args.should_save:
            return
        damaged = [name for name, weight in self.whole.named_parameters() if not torch.isfinite(weight).all()]
        if damaged:
            raise NotFiniteError(
                f"weights are not finite after step {self.state.global_step} (first: {damaged[0]}), so they are not "
                f"saved; the last good checkpoint is {last_checkpoint(Path(self.args.output_dir))}"
            )
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self.save_weights(folder)

    # --- reading --------------------------------------------------------------------------------------------------

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        self.read_weights_of(Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with readable(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_scaler(self, checkpoint: str | None) -> None:
        with readable(checkpoint):
            super()._load_scaler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with readable(checkpoint):
            super()._load_rng_state(checkpoint)
        if checkpoint is not None and processes_of(Path(checkpoint)) != self.args.world_size:
            # No process has the state of another one.
            self._draw_apart()

    def _load_best_model(self) -> None:
        folder = checkpoint_folder(Path(self.args.output_dir), self.state.best_global_step)
        on_main(lambda: check_checkpoint(folder))
        self.read_weights_of(folder)
