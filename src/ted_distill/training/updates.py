"""The batches of every update: which rows each process trains on, and how many items all of them hold together."""

from __future__ import annotations

import math
import sys
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from datasets import IterableDataset
from torch.utils.data import DataLoader, Sampler, SequentialSampler
from transformers import PreTrainedTokenizerBase, Trainer
from transformers.trainer_utils import SaveStrategy

from ..fast.states_cache import ROW
from ..method.filters import Batch
from ..tasks.base import Counts, Task
from ..tasks.padding import right_padded
from ..tasks.text.block_stream import read_place, write_place
from .checkpointing import readable
from .labelled import LABELLED, labelled_counts
from .sharded.shares import (
    EpochLengthSampler,
    EpochSampler,
    ProcessBatches,
    ProcessRows,
    StandIn,
    is_skipped,
    is_stand_in,
    stand_in_row,
    training_batches,
)

STREAM_NAME = "stream.safetensors"
"""Where a stream was; part of a checkpoint."""


class UpdateTrainer(Trainer):
    """A Trainer whose updates are the same rows for any number of processes, and average over all of their items."""

    task: Task

    def get_train_dataloader(self) -> DataLoader:
        """The share of this process of the micro-batches."""
        sampler, size = self._sampler(), self._train_batch_size
        self._loader = training_batches(
            self.train_dataset, sampler, self.data_collator, size, self.args, self.accelerator
        )
        if sampler is not None:
            self._updates_in_epoch = math.ceil(len(self._loader) / self.args.gradient_accumulation_steps)
        return self._loader

    def _sampler(self) -> Sampler | None:
        """The order of all rows; None for a stream, which has its own."""
        dataset = self.train_dataset
        if isinstance(dataset, IterableDataset):
            return None
        if self.args.train_sampling_strategy == "sequential":
            return SequentialSampler(dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        if self.args.train_sampling_strategy == "random":
            return EpochSampler(len(dataset), seed)
        return EpochLengthSampler(self.args.global_batch, list(dataset["length"]), seed)

    def _stream_position(self) -> tuple[int, int]:
        """How often a resumed training has read its stream to the end, and the micro-batches it has read since.

        The Trainer counts as if the stream had an update for each of `max_steps`, and so does `state.epoch`.
        """
        if self.state.global_step >= self.state.max_steps:
            return sys.maxsize, 0  # nothing is left to do
        whole, part = divmod(self.state.epoch or 0.0, 1)
        if self.args.save_strategy == SaveStrategy.EPOCH:
            return int(whole) + 1, 0  # the checkpoint was written at the end
        return int(whole), round(part * self.state.max_steps * self.args.gradient_accumulation_steps)

    def save_position(self, folder: Path) -> None:
        """Write where the stream is, if it can go on there."""
        rows = self._loader.dataset
        if not isinstance(rows, ProcessRows):
            return
        _, micro_batches = self._stream_position()
        place = rows.place_of(micro_batches) if micro_batches else None
        if place is not None:
            write_place(place, folder / STREAM_NAME)

    def _go_on_in_stream(self, checkpoint: Path, micro_batches: int) -> None:
        """Go on where `save_position` was called, without reading what came before."""
        rows, file = self._loader.dataset, checkpoint / STREAM_NAME
        if isinstance(rows, ProcessRows) and micro_batches and file.is_file() and not self.args.dataloader_num_workers:
            with readable(str(checkpoint)):
                rows.go_on(micro_batches, read_place(file))

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Counts | None]:
        """Micro-batches of one update, and the counts its losses average over, summed over all processes.

        All processes get equally many: those whose rows have run out get stand-ins, which are not counted.
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches and isinstance(self.train_dataset, IterableDataset):
            return batches, None  # the stream has ended, for all processes at once
        batches = [self._augmented(batch, number) for number, batch in enumerate(batches)]
        counts = torch.zeros(len(Counts._fields), device=device)
        for batch in batches:
            if not isinstance(batch, StandIn):
                counts += torch.stack(tuple(labelled_counts(self.task, batch)))
        batches += [self._stand_in] * (num_batches - len(batches))
        # An update without a single item has a loss of 0, not of 0 / 0.
        return batches, Counts(*self.accelerator.reduce(counts, reduction="sum").clamp(min=1))

    def _augmented(self, batch: Batch, number: int) -> Batch:
        # Not where batches are made: that is ahead of training, and a resumed stage would draw different numbers.
        # Rows are numbered as in one process with one micro-batch: those of all others are as large, except the last.
        number = number * self.accelerator.num_processes + self.accelerator.process_index
        seeds = row_seeds(batch, self.args.seed, self.state.global_step, first=number * self._train_batch_size)
        return type(batch)(self.task.augment(batch, self.processing_class, seeds))

    @cached_property
    def _stand_in(self) -> StandIn:
        """A batch that counts nothing, made of the first row."""
        batch = self._augmented(self.data_collator([stand_in_row(next(iter(self.train_dataset)))]), 0)
        return StandIn({name: tensor.to(self.args.device) for name, tensor in batch.items()})

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> None:
        return None

    def _rows_of(self, step: int) -> list[int]:
        """Numbers of the training features of an update, in all processes; none of a stream."""
        batches, accumulated = self._loader.batch_sampler, self.args.gradient_accumulation_steps
        if not isinstance(batches, ProcessBatches):
            return []
        epoch, update = divmod(step - 1, self._updates_in_epoch)
        batches.set_epoch(epoch)
        return batches.rows_of(slice(update * accumulated, (update + 1) * accumulated))


def row_seeds(batch: Batch, *of_batch: int, first: int = 0) -> list[int]:
    """A seed for each row of a batch, for `Task.augment`.

    Args:
        of_batch: what they depend on besides the number of the row.
        first: number of the first row.
    """
    numbers = range(first, first + len(batch["input_ids"]))
    return [zlib.crc32(repr((*of_batch, number)).encode()) for number in numbers]


def collate(features: list[dict[str, Any]], task: Task, tokenizer: PreTrainedTokenizerBase) -> Batch:
    """The task's batch, the numbers of its rows and which of them have a label, if the features say so.

    A `StandIn` has none: another process may be keeping a frozen model's outputs of the same rows.
    """
    if is_skipped(features[0]):
        return {}
    batch = right_padded(task.collate(features, tokenizer))
    if LABELLED in features[0]:
        batch[LABELLED] = torch.tensor([bool(feature[LABELLED]) for feature in features])
    if is_stand_in(features[0]):
        return StandIn(batch)
    if ROW in features[0]:
        batch[ROW] = torch.tensor([feature[ROW] for feature in features])
    return batch
