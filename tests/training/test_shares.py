"""Processes share one order of rows: each row comes once, and every update holds the rows that it would hold in one."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from ted_distill import InputError, StageArguments
from ted_distill.fast.states_cache import ROW
from ted_distill.training.sharded.shares import (
    EpochLengthSampler,
    EpochSampler,
    ProcessBatches,
    ProcessRows,
    StandIn,
    check_batches,
    is_stand_in,
)
from ted_distill.training.updates import collate


def shares(rows: int, size: int, processes: int, drop_last: bool = False) -> list[list[list[int]]]:
    """The batches of every process."""
    batches = BatchSampler(SequentialSampler(range(rows)), size, drop_last)
    return [list(ProcessBatches(batches, processes, process)) for process in range(processes)]


def rounds(of_processes: list[list[list[int]]]) -> list[list[int]]:
    """The rows that all processes train on at once, one micro-batch each."""
    longest = max(map(len, of_processes))
    return [[row for own in of_processes for row in chain(*own[place : place + 1])] for place in range(longest)]


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize("rows", [1, 2, 7, 12, 13, 46])
@pytest.mark.parametrize("size", [1, 4])
def test_all_processes_together_see_the_batches_of_one(rows: int, size: int, processes: int) -> None:
    together = rounds(shares(rows, size, processes))
    assert together == list(BatchSampler(range(rows), size * processes, False))


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("rows", [2, 12, 13, 23, 46])
def test_a_last_round_that_is_not_full_is_dropped_if_wanted(rows: int, processes: int) -> None:
    together = rounds(shares(rows, 4, processes, drop_last=True))
    assert together == list(BatchSampler(range(rows), 4 * processes, True))


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("rows", [1, 4, 5, 9, 16, 17])
def test_all_processes_expect_as_many_batches_as_the_first_gets(rows: int, drop_last: bool) -> None:
    batches = BatchSampler(SequentialSampler(range(rows)), 2, drop_last)
    lengths = {len(ProcessBatches(batches, 4, process)) for process in range(4)}
    assert lengths == {len(list(ProcessBatches(batches, 4, 0)))}


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("rows", [0, 1, 4, 5, 9, 16, 17])
def test_the_processes_share_a_stream_as_they_share_rows_that_are_counted(rows: int, drop_last: bool) -> None:
    stream = [{"text": row} for row in range(rows)]
    found = []
    for process in range(3):
        loader = DataLoader(ProcessRows(stream, 2, drop_last, 3, process), 2, drop_last=drop_last, collate_fn=list)
        found.append([[row["text"] for row in batch if not is_stand_in(row)] for batch in loader])
    # All end after the same number of batches: those that have no rows left have stand-ins.
    assert len({len(batches) for batches in found}) == 1
    assert rounds(found) == rounds(shares(rows, 2, 3, drop_last))[: len(found[0])]


def test_a_stand_in_has_no_number_under_which_outputs_are_kept() -> None:
    task = SimpleNamespace(collate=lambda features, tokenizer: {"input_ids": torch.zeros(len(features), 2)})
    rows = [{ROW: 7, "input_ids": [0, 0]}]
    (own,) = ProcessRows(rows, 2, False, 2, 0)
    (other,) = ProcessRows(rows, 2, False, 2, 1)
    first, second = (collate([row], task, None) for row in (own, other))
    assert not isinstance(first, StandIn)
    assert first[ROW].tolist() == [7]
    assert isinstance(second, StandIn)
    assert ROW not in second


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    for sampler in (EpochSampler(50, 3), EpochLengthSampler(4, list(range(50)), 3)):
        orders = []
        for epoch in (0, 1, 0):
            sampler.set_epoch(epoch)
            torch.rand(1)
            orders.append(list(sampler))
        assert orders[0] == orders[2] != orders[1]
        assert sorted(orders[0]) == list(range(50))


def test_the_rows_of_an_update_are_those_of_all_processes() -> None:
    batches = ProcessBatches(BatchSampler(SequentialSampler(range(13)), 2, False), 3, 1)
    assert batches.rows_of(slice(0, 2)) == list(range(12))
    assert batches.rows_of(slice(2, 4)) == [12]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accelerator_config": {"split_batches": True}}, "accelerator_config: expected split_batches false"),
        ({"train_sampling_strategy": "batch_rebalance"}, "train_sampling_strategy: expected one of group_by_length"),
    ],
)
def test_arguments_that_would_give_other_batches_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_batches(StageArguments(str(tmp_path), use_cpu=True, **changes))
