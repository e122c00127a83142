"""All candidates timed in turns, in every format, on rows as long as those of the data."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch

from ..method.filters import FilteredModel
from ..progress import busy
from ..wording import counted, duration
from .arguments import BenchArguments, Format
from .figures import Figures, speed_figures
from .ground import Ground
from .opened import Opened, calls
from .sample import BATCH_SIZE, batches_of, collated, spread_by_length
from .timing import Work, take_turns

logger = logging.getLogger(__name__)

Key = tuple[str, Format]
"""The title of a candidate, and one of its formats."""
_SECONDS_A_TURN = 10.0
"""What the rows of the slowest may take, one by one; all of them have fewer rows if they would take longer."""
_FEWEST, _PILOT = 16, 4
"""Rows that are timed in any case, and rows that say how many there is time for."""


def timed(opened: list[Opened], ground: Ground, arguments: BenchArguments) -> tuple[dict[Key, Figures], dict[str, Any]]:
    """Figures of each candidate in each format, and what they were measured on."""
    with _threads(arguments.threads), busy("warming up"):
        modules = {(one.candidate.title, kind): one.module(kind, arguments.threads) for one, kind in _all(opened)}
        of = {one.candidate.title: one for one in opened}
        pilots = [_pilot(of[key[0]], module) for key, module in modules.items()]
    count = min(arguments.rows, max(_FEWEST, int(_SECONDS_A_TURN / max(pilots))))
    works = {key: _work(of[key[0]], module, count) for key, module in modules.items()}
    _say(works, sum(pilots), arguments.rounds)
    with _threads(arguments.threads):
        turns = take_turns(works, arguments.rounds)
    found = {key: speed_figures(of_key, works[key].rows_in_batches) for key, of_key in turns.items()}
    return found, _sample(opened[0], ground, next(iter(works.values())))


def _all(opened: list[Opened]) -> Iterator[tuple[Opened, Format]]:
    return ((one, kind) for one in opened for kind in one.formats)


def _pilot(opened: Opened, module: FilteredModel) -> float:
    """Seconds of a row, roughly, measured on a few."""
    split = opened.encoded
    places = spread_by_length(split.features["length"], _PILOT)
    single = calls(module, collated(opened, split, [[place] for place in places]))
    single[0]()
    began = time.perf_counter()
    for call in single:
        call()
    return max((time.perf_counter() - began) / len(single), 1e-9)


def _work(opened: Opened, module: FilteredModel, count: int) -> Work:
    split = opened.encoded
    places = spread_by_length(split.features["length"], count)
    groups = batches_of(places)
    return Work(
        calls(module, collated(opened, split, [[place] for place in places])),
        calls(module, collated(opened, split, groups)),
        sum(map(len, groups)),
    )


def _say(works: Mapping[Key, Work], seconds: float, rounds: int) -> None:
    """What is about to be done. `seconds`: of a row of each candidate."""
    first = next(iter(works.values()))
    # Batches take no longer than their rows do one by one.
    most = rounds * seconds * (len(first.single) + first.rows_in_batches)
    logger.warning(
        "== timing: %s, %s of %s: at most %s",
        counted(len(works), "candidate"), counted(rounds, "round"), counted(len(first.single), "row"), duration(most),
    )  # fmt: skip


def _sample(opened: Opened, ground: Ground, work: Work) -> dict[str, Any]:
    """The rows that were timed, as the first candidate reads them."""
    split = opened.encoded
    lengths = [
        split.features["length"][place] for place in spread_by_length(split.features["length"], len(work.single))
    ]
    many = len(split.features) != len(split.rows)
    return {
        "rows": len(lengths),
        "unit": ("block" if ground.task.running_text else "window") if many else "row",
        "tokens": {"shortest": min(lengths), "median": median(lengths), "longest": max(lengths)},
        "batch_size": BATCH_SIZE,
        "batches": len(work.batches),
    }


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """PyTorch uses this many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
