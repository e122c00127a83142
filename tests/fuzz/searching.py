"""Searching for inputs that break something: how many are tried, and what is asked of each."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

from ted_distill.errors import collect

FEW = 80
"""Examples of each kind in the default suite: always the same."""
LONGEST = 10
"""Seconds of processor time that one example may take."""


def search(examples: SearchStrategy[Any], check: Callable[[Any], None], number: int = FEW) -> None:
    """Call `check` with so many examples, and raise what it raises for the smallest that fails.

    Up to `FEW` they are the same in every run; more are drawn anew each time.
    """
    quiet = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    budget = settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=number <= FEW,
        suppress_health_check=quiet,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        print_blob=True,
    )

    def one(example: Any) -> None:
        with no_hang():
            check(example)

    budget(given(examples)(one))()


@contextmanager
def no_hang() -> Iterator[None]:
    """Raise `AssertionError` if what is inside takes longer than `LONGEST`."""

    def stop(signal_number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"no end after {LONGEST} seconds")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def refusal(action: Callable[[], Any]) -> list[str] | None:
    """The problems for which an action refuses its input, each in one line; None if it does not.

    Anything but an `InputError` is raised.
    """
    problems: list[str] = []
    with collect(problems):
        action()
        return None
    assert problems
    for problem in problems:
        assert "\n" not in problem, problem
        assert len(problem) < 2000, problem
    return problems
