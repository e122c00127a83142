"""How a machine is shared: GPUs, cores, memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ted_distill.runs.graph import Node
from ted_distill.runs.side_by_side.shares import (
    PROCESS_BYTES,
    Machine,
    best_workers,
    described,
    most_workers,
    shares,
    that_fit,
)

GB = 10**9


def test_gpus_are_dealt_out_in_turn_and_cores_evenly() -> None:
    dealt = shares(Machine(cores=12, gpus=("2", "MIG-7")), 3)
    assert [share.gpu for share in dealt] == ["2", "MIG-7", "2"]
    assert [share.environment["CUDA_VISIBLE_DEVICES"] for share in dealt] == ["2", "MIG-7", "2"]
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
        assert {share.environment[name] for share in dealt} == {"4"}


def test_without_gpus_none_is_named_and_each_process_has_a_core_at_least() -> None:
    dealt = shares(Machine(cores=2), 3)
    assert {share.threads for share in dealt} == {1}
    assert all("CUDA_VISIBLE_DEVICES" not in share.environment for share in dealt)


def test_the_number_of_threads_that_the_user_set_stays() -> None:
    machine = Machine(cores=8, threads=2)
    assert {share.threads for share in shares(machine, 2)} == {2}
    assert most_workers(machine, [0] * 9, width=9) == 4


@pytest.mark.parametrize(
    ("machine", "needed", "width", "workers"),
    [
        (Machine(cores=2), [0] * 8, 4, 2),
        (Machine(cores=64), [0] * 8, 3, 3),
        (Machine(cores=1), [0] * 8, 3, 1),
        (Machine(cores=64, gpus=("0", "1")), [90 * GB] * 8, 5, 2),
        (Machine(cores=8, memory=10 * GB), [3 * GB] * 8, 5, 2),
        (Machine(cores=8, memory=1 * GB), [3 * GB] * 8, 5, 1),
    ],
)
def test_as_many_processes_as_have_something_to_do_and_to_do_it_with(
    machine: Machine, needed: list[int], width: int, workers: int
) -> None:
    assert most_workers(machine, needed, width) == workers


def test_memory_is_counted_as_if_the_largest_stages_met() -> None:
    machine = Machine(cores=8, memory=20 * GB)
    assert that_fit(machine, [GB, 12 * GB, GB, GB]) == 2
    assert that_fit(Machine(cores=8, memory=4 * PROCESS_BYTES), [0] * 9) == 3
    assert that_fit(Machine(cores=8), [99 * GB] * 5) == 5


def test_on_gpus_their_memory_is_counted_and_that_of_the_machine_for_the_rest() -> None:
    two = Machine(cores=8, gpus=("0", "1"), memory=99 * GB, gpu_memory=20 * GB)
    assert that_fit(two, [8 * GB] * 9) == 4
    assert that_fit(replace(two, memory=4 * PROCESS_BYTES), [8 * GB] * 9) == 3
    assert that_fit(replace(two, gpu_memory=None), [80 * GB] * 9) == 9


@pytest.mark.parametrize(
    ("machine", "workers", "words"),
    [
        (Machine(cores=4), 2, "2 threads each"),
        (Machine(cores=2), 2, "1 thread each"),
        (Machine(cores=8, gpus=("0", "1")), 2, "one GPU each"),
        (Machine(cores=8, gpus=("0", "1")), 5, "on 2 GPUs"),
        (Machine(cores=8, gpus=("0",)), 4, "on 1 GPU"),
    ],
)
def test_what_each_process_has_is_said(machine: Machine, workers: int, words: str) -> None:
    assert described(shares(machine, workers)) == words


def test_as_many_processes_as_are_done_first() -> None:
    chain = [Node(str(number), (str(number - 1),) if number else ()) for number in range(6)]
    free = [Node(str(number)) for number in range(6)]
    lasts = {node.name: 1.0 for node in free}
    assert best_workers(free, lasts, 2, on_gpus=False) == 2
    assert best_workers(chain, lasts, 2, on_gpus=False) == 1, "the other core would idle"
    assert best_workers([*chain, Node("6")], {**lasts, "6": 1.0}, 2, on_gpus=False) == 1
    assert best_workers([*chain, Node("6")], {**lasts, "6": 1.0}, 2, on_gpus=True) == 2, (
        "the other GPU idles in any case"
    )
    assert best_workers(free, lasts, 4, on_gpus=False) == 3, "six stages by four are two rounds, as by three"
    assert best_workers(free, lasts, 1, on_gpus=True) == 1
