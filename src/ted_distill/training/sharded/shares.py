"""Which rows a process trains on: its share of one common order, in which no row comes twice.

Batches are dealt out in turn: of P processes, the first trains on batches 1, P + 1, ..., the second on 2, P + 2, ... An
update is therefore the same rows, whether one process takes them all or several share them. Where rows run out, the
last processes get less, or nothing; the trainer lets them go through an update without counting (`StandIn`).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice, repeat
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from torch import Tensor, distributed
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, Sampler
from transformers import TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler

from ...errors import raise_if_any
from ...tasks.reading.mapped import PARALLELISM
from ...tasks.text.block_stream import BlockStream, Place, Share, Walk

_STAND_IN = "stand_in"
SKIPPED: dict[str, Any] = {"skipped": True}
"""A row of a micro-batch that was trained on before the training was interrupted."""
ORDERS = ("group_by_length", "random", "sequential")


def check_batches(args: TrainingArguments) -> None:
    """Refuse arguments that would change the batches described here.

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


def is_skipped(features: dict[str, Any]) -> bool:
    """Whether the features are `SKIPPED`, or a copy."""
    return "skipped" in features


def _gathered(part: Any) -> list[Any]:
    """The parts of all processes, on every process."""
    parts: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, part)
    return parts


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
        order = torch.randperm(self.rows, generator=torch.Generator().manual_seed(self.seed + self.epoch))
        # Numbers of Python's take four times the room.
        yield from chain.from_iterable(part.tolist() for part in order.split(1000))


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

    Every process sees the whole stream, so that all of them see its end in the same update. Of a `BlockStream` each
    tokenises a part; and this remembers where it was, so that a resumed training goes on there (`go_on`).

    Args:
        gather: what this process has -> what all have; None if they cannot talk to each other where batches are made.
    """

    def __init__(
        self,
        rows: Iterable[Any],
        batch_size: int,
        drop_last: bool,
        processes: int,
        process: int,
        gather: Callable[[Any], list[Any]] | None = None,
    ) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.processes = processes
        self.process = process
        self.share = None if gather is None or processes == 1 else Share(processes, process, gather)
        self._places: deque[Place] = deque()
        self._start: tuple[int, Place] | None = None

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the next order of the stream."""
        if hasattr(self.rows, "set_epoch"):
            self.rows.set_epoch(epoch)

    def place_of(self, micro_batches: int) -> Place | None:
        """The last place in this epoch before this many micro-batches were given out; None if there is none here."""
        blocks = micro_batches * self._round
        return next((place for place in reversed(self._places) if place.blocks <= blocks), None)

    def go_on(self, micro_batches: int, place: Place) -> None:
        """Begin the next pass with this many micro-batches of `SKIPPED` rows, and go on from a place before them."""
        if isinstance(self.rows, BlockStream) and place.blocks <= micro_batches * self._round:
            self._start = micro_batches, place

    @property
    def _round(self) -> int:
        """Rows of a micro-batch of all processes."""
        return self.batch_size * self.processes

    def __iter__(self) -> Iterator[Any]:
        start, self._start = self._start, None
        skipped = start[0] if start else 0
        yield from repeat(SKIPPED, skipped * self.batch_size)
        source = self._source(skipped * self._round, start[1] if start else None)
        while round_ := list(islice(source, self._round)):
            if self.drop_last and len(round_) < self._round:
                return
            mine = round_[self.process * self.batch_size : (self.process + 1) * self.batch_size]
            yield from map(self._feature, mine) if mine else [stand_in_row(self._feature(round_[0]))]

    def _source(self, given: int, start: Place | None) -> Iterator[Any]:
        """The rows after those that were `given`."""
        if not isinstance(self.rows, BlockStream):
            yield from self.rows
            return
        self._places.clear()
        blocks = self.rows.walk(Walk(start, self.share, self._places.append))
        for behind, block in enumerate(blocks, start=1 + (start.blocks if start else 0)):
            # Loaders are up to two micro-batches ahead of the training.
            while len(self._places) > 1 and self._places[1].blocks <= behind - 4 * self._round:
                self._places.popleft()
            if behind > given:
                yield block

    def _feature(self, row: Any) -> Any:
        return self.rows.feature(row) if isinstance(self.rows, BlockStream) else row


def _context(args: TrainingArguments) -> str | None:
    """How workers are started, if there are any: an argument that older versions of transformers do not have."""
    return getattr(args, "dataloader_multiprocessing_context", None) if args.dataloader_num_workers else None


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
        # Workers that make batches are not part of the group of processes.
        together = distributed.is_available() and distributed.is_initialized() and not args.dataloader_num_workers
        rows = ProcessRows(rows, size, drop_last, *share, _gathered if together else None)
        if args.dataloader_num_workers:
            os.environ.setdefault(PARALLELISM, "false")  # they are forked, and tokenise
    else:
        taken = {"batch_sampler": ProcessBatches(BatchSampler(sampler, size, drop_last), *share)}
    loader = DataLoader(
        rows,
        collate_fn=collate,
        num_workers=args.dataloader_num_workers,
        pin_memory=args.dataloader_pin_memory,
        persistent_workers=args.dataloader_persistent_workers,
        prefetch_factor=args.dataloader_prefetch_factor,
        multiprocessing_context=_context(args),
        **taken,
    )
    # A GPU fetches a batch from pinned memory while it computes, which is not what accelerate does by itself.
    pinned = args.dataloader_pin_memory and accelerator.device.type == "cuda"
    # As for one process, because accelerate's own shares repeat rows to make them even, and count them again.
    return prepare_data_loader(
        loader,
        accelerator.device,
        num_processes=1,
        process_index=0,
        put_on_device=True,
        dispatch_batches=False,
        non_blocking=accelerator.non_blocking or pinned,
    )
