"""What is known of the stage, the evaluation or the loop that is going on: numbers alone, no words and no screen."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Clock = Callable[[], float]

_RECENT, _FEWEST = 30.0, 8
"""Seconds, and the fewest steps, over which speed is measured: the first epoch fills caches, later ones do not."""


@dataclass(frozen=True)
class Score:
    """A score of an evaluation beside what it is compared with, in percent."""

    step: int
    name: str
    value: float
    best: float
    best_step: int
    teacher: float | None = None
    of: str = ""
    """Whose score it is, if not the model's: `mean over filter heads`."""


@dataclass
class Loop:
    """Something with a number of items that takes a while, such as an evaluation."""

    what: str
    total: int | None = None
    unit: str = ""
    """The name of the items; empty if they are not counted."""
    clock: Clock = time.monotonic
    done: int = 0
    started: float = 0.0

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return self.clock() - self.started

    @property
    def seconds_left(self) -> float | None:
        """None while nothing is done, and where the number of items is not known."""
        if not self.done or self.total is None:
            return None
        return self.seconds / self.done * max(0, self.total - self.done)


@dataclass
class StageState:
    """How far a stage is.

    Speed is that of the steps since it began here, also when it was resumed, and without its evaluations.
    """

    name: str
    """As in a plan of a run: `learn_filters_teacher`."""
    number: int = 0
    of: int = 0
    """Its place among the stages of a run; 0 for a stage alone."""
    within: str = ""
    """What the run is a part of, such as `seed 2 of 5`."""
    clock: Clock = time.monotonic
    part: str = ""
    """What part of it is going on, such as a trial of a learning rate."""
    step: int = 0
    steps: int = 0
    rows_per_step: int = 0
    evaluations_left: int = 0
    loss: float | None = None
    terms: dict[str, float] = field(default_factory=dict)
    score: Score | None = None
    started: float = 0.0
    _idle: float = 0.0
    """Seconds spent on evaluations, which do not count as time of the steps."""
    _evaluation: float = 0.0
    _evaluations_per_step: float = 0.0
    _marks: deque[tuple[float, int]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def title(self) -> str:
        """`learn filters teacher`, what its run is a part of, and the part of it that is going on."""
        return ", ".join(part for part in (self.name.replace("_", " "), self.within, self.part) if part)

    @property
    def seconds(self) -> float:
        """Since it began here."""
        return self.clock() - self.started

    def begin(self, step: int, steps: int, rows_per_step: int, evaluations_left: int) -> None:
        """Training begins, after `step` steps that were made before an interruption."""
        self.forget()
        self.step, self.steps, self.rows_per_step = step, steps, rows_per_step
        self.evaluations_left = evaluations_left
        self._evaluations_per_step = evaluations_left / max(1, steps - step)
        self._mark()

    def forget(self) -> None:
        """Nothing is known of a training: before the first one, and after one that was only a part."""
        self.step = self.steps = 0
        self.loss, self.terms, self.score = None, {}, None
        self._evaluation = 0.0
        self._marks.clear()

    def made(self, step: int, evaluations_left: int) -> None:
        """A step was made."""
        self.step, self.evaluations_left = step, evaluations_left
        self._mark()

    def logged(self, logs: Mapping[str, float]) -> None:
        """A point of the curves; the loss of a pair or a block has a `/` in its name and is not shown."""
        self.loss = logs["loss"]
        self.terms = {name: value for name, value in logs.items() if name.endswith("_loss") and "/" not in name}

    def scored(self, score: Score, seconds: float) -> None:
        """An evaluation is over, which took some seconds."""
        self.score, self._evaluation = score, seconds

    def rested(self, seconds: float) -> None:
        """The steps waited for something else, such as an evaluation."""
        self._idle += seconds

    def _mark(self) -> None:
        now = self.clock() - self._idle
        self._marks.append((now, self.step))
        while len(self._marks) > _FEWEST and now - self._marks[1][0] > _RECENT:
            self._marks.popleft()

    @property
    def seconds_per_step(self) -> float | None:
        """None before the first step."""
        if len(self._marks) < 2:
            return None
        (then, first), (now, last) = self._marks[0], self._marks[-1]
        return (now - then) / (last - first) if last > first and now > then else None

    @property
    def whole_seconds_per_step(self) -> float | None:
        """The same with the step's share of the evaluations."""
        seconds = self.seconds_per_step
        return None if seconds is None else seconds + self._evaluation * self._evaluations_per_step

    @property
    def rows_per_second(self) -> float | None:
        """Rows, or features made of them, that are trained on."""
        seconds = self.seconds_per_step
        return self.rows_per_step / seconds if seconds else None

    @property
    def seconds_left(self) -> float | None:
        """Those of the remaining steps and, as soon as one was seen, of the remaining evaluations."""
        seconds = self.seconds_per_step
        if seconds is None or not self.steps:
            return None
        return seconds * max(0, self.steps - self.step) + self._evaluation * self.evaluations_left
