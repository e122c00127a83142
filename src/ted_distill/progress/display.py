"""What a person sees while a run, a stage or an evaluation works.

In a terminal it is one live display. Elsewhere, as in a pipe, a file or a notebook, it is one compact line at a time.
The lines go into `run.log` in either case. The code that works knows only the current display, which it tells what it
does; without one, it is silent.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, TypeVar

from . import words
from .interrupts import raise_if_interrupted
from .log_file import add_to_log
from .schedule import Schedule
from .state import Clock, Loop, Score, StageState

T = TypeVar("T")

_AT_LEAST, _AT_MOST = 5.0, 60.0
"""Least and most seconds between two lines on steps: points of the curves that come sooner get no line."""
_LONG_LOOP = 30.0
"""Seconds after which a line says how far a loop is."""


class Display:
    """Knows what is going on, and says it.

    Args:
        schedule: the stages of a run.
        quiet: show no progress (`disable_tqdm`): only scores, and how each stage ended.
        clock: seconds.
    """

    def __init__(self, schedule: Schedule | None = None, *, quiet: bool = False, clock: Clock = time.monotonic) -> None:
        self.schedule = schedule or Schedule()
        self._within = _WITHIN.get()
        self.teacher: Mapping[str, Any] = {}
        """Scores of the teacher on the same rows, as far as they are known: what a student is compared with."""
        self.stage: StageState | None = None
        self._loops: list[Loop] = []
        self._others: dict[int, tuple[StageState | None, list[Loop]]] = {}
        self._quiet = quiet
        self._clock = clock
        self._live: Any = None
        self._said = clock()
        self._rested = 0.0

    # --- stages ---------------------------------------------------------------------------------------------------

    @contextmanager
    def show_stage(self, name: str) -> Iterator[StageState]:
        """A stage, until it ends; one inside another is a part of it."""
        if self.stage is not None:
            yield self.stage
            return
        raise_if_interrupted()
        self.stage = StageState(name, *self.schedule.place(name), self._within, clock=self._clock)
        yield self.stage
        # One that was interrupted stays in the picture.
        self.stage = None

    @contextmanager
    def show_part(self, what: str) -> Iterator[None]:
        """A part of the stage that is a training of its own, such as a trial."""
        if self.stage is None:
            yield
            return
        before, self.stage.part = self.stage.part, what
        yield
        self.stage.part = before
        self.stage.forget()

    def end_stage(self, seconds: float, result: str) -> None:
        """Say how the stage ended, unless that was only a part of it.

        Args:
            seconds: of training, those before an interruption included.
        """
        if self.stage is not None and not self.stage.part:
            self._say(words.end_line(self.stage, seconds, result), progress=False, above=True)

    # --- training -------------------------------------------------------------------------------------------------

    def begin_training(self, step: int, steps: int, rows_per_step: int, evaluations_left: int) -> None:
        """Training begins, or goes on after `step`."""
        if self.stage is not None:
            self.stage.begin(step, steps, rows_per_step, evaluations_left)
            self._said, self._rested = self._clock(), 0.0

    def recall(self, logs: Mapping[str, float] | None, score: Score | None) -> None:
        """The last point and the last score of before an interruption."""
        if self.stage is not None:
            self.stage.score = score
            if logs is not None:
                self.stage.logged(logs)

    def step(self, step: int, evaluations_left: int) -> None:
        """An update was made."""
        if self.stage is not None:
            self._rested = 0.0
            self.stage.made(step, evaluations_left)
            if self._clock() - self._said >= _AT_MOST:
                self._say_step()

    def point(self, logs: Mapping[str, float]) -> None:
        """A point of the curves: `loss` and its terms."""
        if self.stage is not None:
            self.stage.logged(logs)
            if self._clock() - self._said >= _AT_LEAST:
                self._say_step()

    def score(self, score: Score) -> None:
        """An evaluation is over."""
        if self.stage is not None:
            self.stage.scored(score, self._rested)
            self._say(words.score_line(self.stage, score), progress=False)

    def _say_step(self) -> None:
        assert self.stage is not None
        self._say(words.steps_line(self.stage, self.run_left))
        self._said = self._clock()

    @property
    def run_left(self) -> float | None:
        """Seconds until the end of the run; None for a stage alone, and while they cannot be known."""
        if self.stage is None or self.stage.seconds_left is None or self.stage.part:
            return None
        after = self.schedule.seconds_after(self.stage.name, self.stage.whole_seconds_per_step)
        return None if after is None else self.stage.seconds_left + after

    # --- loops ----------------------------------------------------------------------------------------------------

    @contextmanager
    def show_loop(self, what: str, total: int | None = None, unit: str = "") -> Iterator[Loop]:
        """Something that takes a while; its `done` is for the caller to raise."""
        loop = Loop(what, total, unit, self._clock)
        self._loops.append(loop)
        with suppress(GeneratorExit):  # a loop that needs only the first of its items
            yield loop
        # One that was interrupted stays in the picture.
        self._loops.remove(loop)
        if self.stage is not None and not self._loops:
            self._rested += loop.seconds
            self.stage.rested(loop.seconds)

    def advance(self, loop: Loop, number: int) -> None:
        """Some items of a loop are done."""
        loop.done += number
        if min(loop.seconds, self._clock() - self._said) >= _LONG_LOOP:
            self._say(words.loop_line(self.stage.title if self.stage is not None else "", loop))
            self._said = self._clock()

    # --- other processes ------------------------------------------------------------------------------------------

    @property
    def is_live(self) -> bool:
        """Whether somebody looks at it."""
        return self._live is not None

    def show_other(self, place: int, stage: StageState | None, loops: list[Loop]) -> None:
        """How far one of several processes is that work for this one; with nothing to show, it is forgotten."""
        if stage is None and not loops:
            self._others.pop(place, None)
        else:
            self._others[place] = stage, loops

    def relay(self, line: str, *, progress: bool) -> None:
        """A line of such a process."""
        self._say(line, progress=progress, above=not progress)

    # --- to the terminal and the log ------------------------------------------------------------------------------

    def _say(self, line: str, *, progress: bool = True, above: bool = False) -> None:
        """Add a line to the log, and print it.

        Args:
            progress: it only says how far something is, so a quiet display leaves it out.
            above: it stays above a live display, which shows all others itself.
        """
        add_to_log(line)
        with suppress(OSError, ValueError):  # a reader who has gone is no reason to stop
            if self._live is not None:
                if above:
                    self._live.line(line)
            elif not (progress and self._quiet) and sys.stderr is not None:
                sys.stderr.write(line + "\n")
                sys.stderr.flush()

    @contextmanager
    def open(self) -> Iterator[None]:
        """Draw the live display, in a terminal, until it ends."""
        from .live import LiveScreen, has_terminal, pictures

        if self._quiet or not has_terminal():
            yield
            return
        self._live = LiveScreen(lambda width: pictures(self._views, self.run_left, width))
        try:
            with self._live.open():
                yield
        finally:
            self._live = None

    @property
    def _views(self) -> list[tuple[StageState | None, list[Loop]]]:
        """What is going on here, and in the processes that work for this one."""
        return [(self.stage, [*self._loops]), *(self._others[place] for place in sorted(self._others))]


class _Silent(Display):
    """The display of processes that are not the main one."""

    def _say(self, line: str, *, progress: bool = True, above: bool = False) -> None:
        pass

    @contextmanager
    def open(self) -> Iterator[None]:
        yield


_WITHIN: ContextVar[str] = ContextVar("ted_distill_display_within", default="")


@contextmanager
def within(what: str) -> Iterator[None]:
    """Name what the runs inside are a part of, such as `seed 2 of 5`, in all that they show."""
    token = _WITHIN.set(what)
    try:
        yield
    finally:
        _WITHIN.reset(token)


def part_of() -> str:
    """What this run is a part of, as `within` was told; empty if nothing was said."""
    return _WITHIN.get()


# --- the current display --------------------------------------------------------------------------------------

_CURRENT: ContextVar[Display | None] = ContextVar("ted_distill_display", default=None)


def current_display() -> Display:
    """The display that is open; a silent one if there is none."""
    return _CURRENT.get() or _Silent()


@contextmanager
def showing(schedule: Schedule | None = None, *, quiet: bool = False) -> Iterator[Display]:
    """The current display, or a new one until the end; only the main process has one that says anything."""
    if (known := _CURRENT.get()) is not None:
        yield known
        return
    from accelerate import PartialState

    kind = Display if PartialState().is_main_process else _Silent
    display = kind(schedule, quiet=quiet)
    with current(display), without_other_bars(), display.open():
        yield display


@contextmanager
def current(display: Display) -> Iterator[None]:
    """Make a display the current one."""
    token = _CURRENT.set(display)
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextmanager
def without_other_bars() -> Iterator[None]:
    """Keep the bars of `datasets` and `transformers` out of the display, and of pipes."""
    import datasets
    from transformers.utils import logging as transformers_logging

    models_shown = transformers_logging.is_progress_bar_enabled()
    if models_shown:
        transformers_logging.disable_progress_bar()
    # One who asked for them in the environment has them.
    asked = datasets.config.HF_DATASETS_DISABLE_PROGRESS_BARS is False
    shown = not asked and not datasets.are_progress_bars_disabled()
    if shown:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
        if models_shown:
            transformers_logging.enable_progress_bar()


def watched(items: Iterable[T], what: str, total: int | None = None, unit: str = "", each: int = 1) -> Iterator[T]:
    """The items of a loop, which the current display shows while it goes on.

    Args:
        what: what it does: `evaluating`.
        total, unit: how many things there are, and their name.
        each: number of things that an item stands for, such as the rows of a batch.
    """
    display = current_display()
    with display.show_loop(what, total, unit) as loop:
        for item in items:
            raise_if_interrupted()
            yield item
            display.advance(loop, min(each, (total or sys.maxsize) - loop.done))


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Something that takes a while and whose progress is not known, such as loading a model."""
    with current_display().show_loop(what):
        yield
