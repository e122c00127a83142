"""The ways a command stops: the input was wrong, the training went wrong, or its result is not good enough."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

QUOTED = 60
"""The most characters of a value that a message quotes."""


class InputError(ValueError):
    """Input that is refused before any training, with every problem found so far in one message.

    Each problem is a sentence that says what was expected, what was found and what to do. The command line prints
    them as a list and exits with code 2.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(f"- {problem}" for problem in self.problems))

    def __reduce__(self) -> tuple[type[InputError], tuple[list[str]]]:
        """Another process gets the problems, not the text that is made of them."""
        return type(self), (self.problems,)


class TrainingError(RuntimeError):
    """Training cannot continue, for example because the loss is no longer a number. Exit code 1."""


class NotFiniteError(TrainingError):
    """A loss, weights or logits are infinite or NaN: another learning rate may do."""


class NoRoomError(TrainingError):
    """There is no memory for a batch of `rows`: a smaller one may do.

    Two arguments, as accelerate takes an error with a single one about memory for one of training batches, and goes on
    with smaller ones.
    """

    def __init__(self, message: str, rows: int) -> None:
        super().__init__(message, rows)

    def __str__(self) -> str:
        """The message."""
        return str(self.args[0])


class GateError(RuntimeError):
    """Everything was done, but the result does not do what was required of it. Exit code 4.

    Attributes:
        results: what the function would have returned, where it was finished all the same; otherwise None.
    """

    def __init__(self, message: str, results: Any = None) -> None:
        super().__init__(message)
        self.results = results


def results_all_the_same(run: Callable[[], Any]) -> tuple[Any, GateError | None]:
    """What a run or comparison returns, and the error if something required of it does not hold: its table and report
    come before that is said.
    """
    try:
        return run(), None
    except GateError as failed:
        return failed.results, failed


@contextmanager
def collect(problems: list[str]) -> Iterator[None]:
    """Add the problems of an `InputError` raised inside to `problems` and continue, to report all of them at once."""
    try:
        yield
    except InputError as error:
        problems += error.problems


def raise_if_any(problems: Iterable[str]) -> None:
    """Raise one `InputError` that holds all `problems`, if there are any; a repeated sentence counts once."""
    found = list(dict.fromkeys(problems))
    if found:
        raise InputError(found)


def shown(value: Any) -> str:
    """A value as messages quote it, cut to about 60 characters."""
    if value is None or isinstance(value, bool):
        return "nothing" if value is None else str(value).lower()
    quote = reprlib.Repr()
    quote.maxstring = quote.maxother = quote.maxlong = QUOTED
    try:
        text = quote.repr(value)
    except ValueError:  # a whole number of thousands of digits
        return f"a very large {type(value).__name__}"
    return text if len(text) <= QUOTED else f"{text[: QUOTED - 3]}..."


def reason_of(error: BaseException, most: int = 200, *, whole: bool = False) -> str:
    """Why something failed, in one line of at most `most` characters: what libraries say may go on for pages.

    It is the first line of the error's text, with the next one where it ends with a colon; without a text, its type.

    Args:
        whole: all lines of the text, which belong together.
    """
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    for line in lines[1:]:
        if not (whole or text.endswith(":")):
            break
        text = f"{text} {line}"
    return text[:most]


def nearest(name: str, known: Iterable[str], most: int = 1, likeness: float = 0.6) -> str:
    """`; did you mean X?`, or `; did you mean X or Y?` with up to `most` of the `known` names; or nothing.

    Args:
        likeness: the least that a name must have in common with the given one, from 0 to 1 (the same).
    """
    return did_you_mean(near_names(name, known, most, likeness))


def near_names(name: str, known: Iterable[str], most: int = 1, likeness: float = 0.6) -> list[str]:
    """The known names most like a given one, the nearest first; for arguments see `nearest`."""
    return get_close_matches(name, list(known), n=most, cutoff=likeness)


def did_you_mean(names: Sequence[str]) -> str:
    """`; did you mean X or Y?`, or nothing without names."""
    return f"; did you mean {' or '.join(names)}?" if names else ""
