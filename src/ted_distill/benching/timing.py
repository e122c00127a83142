"""Candidates timed in turns: what else the machine does slows all of them alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..progress import watched

Call = Callable[[], object]
Name = TypeVar("Name", bound=Hashable)
_SEED = 0


@dataclass(frozen=True)
class Work:
    """What a candidate does in each turn: its rows one by one, and then batches of them."""

    single: Sequence[Call]
    batches: Sequence[Call]
    rows_in_batches: int


@dataclass(frozen=True)
class Turn:
    """What one turn of a candidate took."""

    single: list[float]
    """Seconds of each row by itself."""
    single_cpu: float
    """Seconds of processor time for all of them, over all threads."""
    batches: float
    batches_cpu: float


def take_turns(works: Mapping[Name, Work], rounds: int) -> dict[Name, list[Turn]]:
    """Turns of each candidate, one in each round; the order of a round is drawn anew, from a fixed seed."""
    order = list(works)
    found: dict[Name, list[Turn]] = {name: [] for name in works}
    draw = random.Random(_SEED)
    turns = [(name, works[name]) for _ in range(rounds) for name in draw.sample(order, len(order))]
    for name, work in watched(turns, "measuring", len(turns), "turns"):
        found[name].append(take_turn(work))
    return found


def take_turn(work: Work) -> Turn:
    """One turn. The first call is made before the clock starts: the models before have filled the caches."""
    work.single[0]()
    single, single_cpu = _timed(work.single)
    work.batches[0]()
    batches, batches_cpu = _timed(work.batches)
    return Turn(single, single_cpu, sum(batches), batches_cpu)


def _timed(calls: Iterable[Call]) -> tuple[list[float], float]:
    """Seconds of each call, and of the processor for all."""
    cpu, seconds = time.process_time(), []
    for call in calls:
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return seconds, time.process_time() - cpu
