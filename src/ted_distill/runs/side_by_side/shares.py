"""How many processes work side by side, and what each has of the machine: a GPU, or some of the cores."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...wording import counted
from ..checking import memory as of_memory
from ..graph import Node, makespan

AUTO = "auto"
PROCESS_BYTES = 1_500_000_000
"""What a process takes besides the models and batches of its stage: PyTorch, its libraries, data."""
GPU_PROCESS_BYTES = 700_000_000
"""What a process takes of its GPU besides them: the driver's part, and kernels."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_SPARE = 0.9
"""Share of the free memory that is planned for."""
_GAIN_OF_THREADS = 0.7
"""N threads are as fast as N to this power single ones: a rule of thumb, as a small model on two threads gains less."""
_WORTH = 0.9
"""Several processes are started only if all is then done in less than this share of the time that one takes."""


@dataclass(frozen=True)
class Machine:
    """What there is to share."""

    cores: int
    """Those that this process may use."""
    gpus: tuple[str, ...] = ()
    """Their names, as CUDA_VISIBLE_DEVICES has them; none where the stages run on a CPU."""
    threads: int | None = None
    """The user's OMP_NUM_THREADS."""
    memory: int | None = None
    """Free bytes, if they are known."""
    gpu_memory: int | None = None
    """Those of the GPU that has the fewest."""


@dataclass(frozen=True)
class Share:
    """What one process has."""

    threads: int
    gpu: str | None = None
    environment: dict[str, str] = field(init=False)
    """Variables that its environment adds to that of this process."""

    def __post_init__(self) -> None:
        found = {name: str(self.threads) for name in _THREADS}
        if self.gpu is not None:
            found[_VISIBLE] = self.gpu
        object.__setattr__(self, "environment", found)


def this_machine(on_gpus: bool, memory: int | None, gpu_memory: int | None = None) -> Machine:
    """What this process may use.

    Args:
        on_gpus: whether the stages run on GPUs.
        memory: free bytes.
        gpu_memory: those of the GPU that has the fewest.
    """
    return Machine(_cores(), _gpus() if on_gpus else (), _user_threads(os.environ), memory, gpu_memory)


def _cores() -> int:
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(there, math.floor(of_memory.cores() or there)))


def _gpus() -> tuple[str, ...]:
    import torch

    named = [name.strip() for name in os.environ.get(_VISIBLE, "").split(",") if name.strip()]
    return tuple(named or map(str, range(torch.cuda.device_count())))


def _user_threads(environment: Mapping[str, str]) -> int | None:
    given = environment.get(_THREADS[0], "").split(",")[0]
    return int(given) if given.isdigit() and int(given) > 0 else None


def most_workers(machine: Machine, needed: Sequence[int], width: int) -> int:
    """How many processes this machine can give something to do: no more than that, and at least one.

    Args:
        needed: bytes that each node needs on the device at most.
        width: how many nodes can be at work at once.
    """
    places = len(machine.gpus) or machine.cores // (machine.threads or 1)
    return max(1, min(width, places, that_fit(machine, needed)))


def best_workers(nodes: Sequence[Node], lasts: Mapping[str, float], most: int, on_gpus: bool) -> int:
    """The number of processes, up to `most`, with which all is done first; 1 where others gain little.

    One process has the threads of all: it loses nothing by stages that wait for each other. Each GPU is used by one.

    Args:
        lasts: node -> how long it takes alone, in any unit.
    """
    alone = makespan(nodes, lasts, 1)
    times = {
        number: makespan(nodes, lasts, number) * (1 if on_gpus else number**_GAIN_OF_THREADS)
        for number in range(2, most + 1)
    }
    best = min(times, key=lambda number: times[number], default=1)
    return best if best > 1 and times[best] < _WORTH * alone else 1


def that_fit(machine: Machine, needed: Sequence[int]) -> int:
    """How many processes fit into memory if the largest nodes run at the same time; each GPU has its own."""
    largest = sorted(needed, reverse=True)
    on_gpus = len(machine.gpus) > 0
    found = _first_that_fit([(0 if on_gpus else most) + PROCESS_BYTES for most in largest], machine.memory)
    if on_gpus:
        of_one = _first_that_fit([most + GPU_PROCESS_BYTES for most in largest], machine.gpu_memory)
        found = min(found, of_one * len(machine.gpus))
    return found


def _first_that_fit(sizes: Sequence[int], memory: int | None) -> int:
    if memory is None:
        return len(sizes)
    found, total = 0, 0
    for size in sizes:
        total += size
        if total > _SPARE * memory:
            break
        found += 1
    return found


def shares(machine: Machine, workers: int) -> list[Share]:
    """What each of this many processes has: GPUs are dealt out in turn, cores evenly."""
    threads = machine.threads or max(1, machine.cores // workers)
    gpus = machine.gpus
    return [Share(threads, gpus[place % len(gpus)] if gpus else None) for place in range(workers)]


def described(parts: Sequence[Share]) -> str:
    """What each process has, such as `2 threads each`, for people to read."""
    gpus = {part.gpu for part in parts if part.gpu is not None}
    if not gpus:
        return f"{counted(parts[0].threads, 'thread')} each"
    return "one GPU each" if len(gpus) == len(parts) else f"on {counted(len(gpus), 'GPU')}"
