"""Which rows a process trains on: its share of one common order, in which no row comes twice.

Batches are dealt out in turn: of P processes, the first trains on batches 1, P + 1, ..., the second on 2, P + 2, ... An
update is therefore the same rows, whether one process takes them all or several share them. Where rows run out, the
last processes get less, or nothing; the trainer lets them go through an update without counting (`StandIn`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, Sampler
from transformers import TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler

from ..errors import raise_if_any

_STAND_IN = "stand_in"
ORDERS = ("group_by_length", "random", "sequential")


def check_batches(args: TrainingArguments) -> None:
    """Refuse arguments under which batches would be other ones than those described here.

    Raises:
        InputError: with all problems.
    """
    problems = []
    if args.train_sampling_strategy not in ORDERS:
        problems.append(
            f"train_sampling_strategy: expected one of {', '.join(ORDERS)}, got {args.train_sampling_strategy}"
        )
    if args.accelerator_config.split_batches:
        problems.append(
            "accelerator_config: expected split_batches false, as per_device_train_batch_size is that of one process, "
            "got true; leave it out"
        )
    raise_if_any(problems)


class StandIn(dict[str, Tensor]):
    """A micro-batch of a process that has no rows left while others do: it is run, and counts nothing."""


def stand_in_row(features: dict[str, Any]) -> dict[str, Any]:
    """A row for a `StandIn`."""
    return features | {_STAND_IN: True}


def is_stand_in(features: dict[str, Any]) -> bool:
    """Whether the features are those of `stand_in_row`."""
    return _STAND_IN in features


class EpochSampler(Sampler[int]):
    """All row numbers in a random order that depends only on seed and epoch: a resumed epoch sees the same batches."""

    def __init__(self, rows: int, seed: int) -> None:
        self.rows = rows
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.rows

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the next order."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        yield from torch.randperm(self.rows, generator=torch.Generator().manual_seed(self.seed + self.epoch)).tolist()


class EpochLengthSampler(LengthGroupedSampler):
    """Rows of similar length together, in an order that depends only on seed and epoch: a resumed epoch sees the same
    batches."""

    def __init__(self, batch_size: int, lengths: list[int], seed: int) -> None:
        super().__init__(batch_size, lengths=lengths, generator=torch.Generator())
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the next order."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator.manual_seed(self.seed + self.epoch)
        return super().__iter__()


class ProcessBatches(BatchSampler):
    """Every P-th batch of row numbers. Its length is that of the process with the most batches, on all processes."""

    def __init__(self, batches: BatchSampler, processes: int, process: int) -> None:
        self.batches = batches
        self.processes = processes
        self.process = process
        self.sampler = batches.sampler
        self.batch_size = batches.batch_size
        self.drop_last = batches.drop_last

    def __len__(self) -> int:
        whole, rest = divmod(len(self.batches), self.processes)
        return whole if self.drop_last else whole + bool(rest)

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the next order of all rows."""
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        # A round that does not reach every process is a last batch that is not full.
        end = len(self) * self.processes if self.drop_last else None
        return islice(iter(self.batches), self.process, end, self.processes)

    def rows_of(self, micro_batches: slice) -> list[int]:
        """Row numbers of all processes in a range of this epoch's micro-batches."""
        first, last = micro_batches.start * self.processes, micro_batches.stop * self.processes
        return [row for batch in islice(iter(self.batches), first, last) for row in batch]


class ProcessRows(IterableDataset[Any]):
    """Every P-th batch of the rows of a stream, row by row; a stand-in where the last round gives this process none.

    Every process reads the whole stream, so that all of them see its end in the same update.
    """

    def __init__(self, rows: Iterable[Any], batch_size: int, drop_last: bool, processes: int, process: int) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.processes = processes
        self.process = process

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the next order of the stream."""
        if hasattr(self.rows, "set_epoch"):
            self.rows.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:
        source = iter(self.rows)
        while round_ := list(islice(source, self.batch_size * self.processes)):
            if self.drop_last and len(round_) < self.batch_size * self.processes:
                return
            mine = round_[self.process * self.batch_size : (self.process + 1) * self.batch_size]
            yield from mine or [stand_in_row(round_[0])]


def training_batches(
    rows: Any,
    sampler: Sampler[int] | None,
    collate: Callable[[list[Any]], dict[str, Tensor]],
    size: int,
    args: TrainingArguments,
    accelerator: Accelerator,
) -> DataLoader[Any]:
    """The loader of this process's micro-batches, on its device.

    Args:
        rows: a data set, or a stream.
        sampler: the order of all rows; None for a stream, which has its own.
        size: rows of a micro-batch.
    """
    drop_last = args.dataloader_drop_last
    share = accelerator.num_processes, accelerator.process_index
    if sampler is None:
        taken: dict[str, Any] = {"batch_size": size, "drop_last": drop_last}
        rows = ProcessRows(rows, size, drop_last, *share)
    else:
        taken = {"batch_sampler": ProcessBatches(BatchSampler(sampler, size, drop_last), *share)}
    loader = DataLoader(
        rows,
        collate_fn=collate,
        num_workers=args.dataloader_num_workers,
        pin_memory=args.dataloader_pin_memory,
        persistent_workers=args.dataloader_persistent_workers,
        prefetch_factor=args.dataloader_prefetch_factor,
        **taken,
    )
    # As for one process, because accelerate's own shares repeat rows to make them even, and count them again.
    return prepare_data_loader(
        loader,
        accelerator.device,
        num_processes=1,
        process_index=0,
        put_on_device=True,
        dispatch_batches=False,
        non_blocking=accelerator.non_blocking,
    )
