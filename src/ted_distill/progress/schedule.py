"""The stages of a run, and the time that those to come will take, as far as similar ones were measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

StepsOf = Callable[[str, int | None], int | None]
"""(stage, training features if they are known by now) -> its steps, if they are known."""


class Schedule:
    """What a run has to do.

    Args:
        names: of its stages, in order.
        kind_of: stages of one kind take about equally long for a step.
    """

    def __init__(
        self,
        names: Sequence[str] = (),
        steps_of: StepsOf = lambda name, features: None,
        kind_of: Callable[[str], str] = str,
    ) -> None:
        self._names = list(names)
        self._steps_of = steps_of
        self._kind_of = kind_of
        self._features: int | None = None
        self._seconds: dict[str, float] = {}

    def place(self, name: str) -> tuple[int, int]:
        """Its number, from 1, and that of all stages; zeros for one that is not among them."""
        return (self._names.index(name) + 1, len(self._names)) if name in self._names else (0, 0)

    def finished(self, name: str, results: dict[str, Any]) -> None:
        """Learn from a finished stage how long a step takes, and how many features there are."""
        self._features = results.get("train_features") or self._features
        seconds, steps = results.get("seconds"), results.get("steps")
        if seconds and steps:
            self._seconds[self._kind_of(name)] = seconds / steps

    def seconds_after(self, name: str, seconds_per_step: float | None) -> float | None:
        """How long the stages after this one will take; None unless all of them can be estimated.

        Args:
            seconds_per_step: of this one, so far.
        """
        number, _ = self.place(name)
        known = dict(self._seconds)
        if seconds_per_step is not None:
            known[self._kind_of(name)] = seconds_per_step
        total = 0.0
        for later in self._names[number:] if number else ():
            steps, seconds = self._steps_of(later, self._features), known.get(self._kind_of(later))
            if steps is None or seconds is None:
                return None
            total += steps * seconds
        return total if number and number < len(self._names) else None
