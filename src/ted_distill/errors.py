"""The two ways a stage stops: the input was wrong, or the training went wrong."""

from __future__ import annotations

from collections.abc import Iterable


class InputError(ValueError):
    """Input that is refused before any training, with every problem found so far in one message.

    Each problem is a sentence that says what was expected, what came and what to do. The command line prints
    them as a list and exits with code 2.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(f"- {problem}" for problem in self.problems))


class TrainingError(RuntimeError):
    """A training that cannot go on, such as one whose loss is no longer a number. Exit code 1."""


def raise_if_any(problems: Iterable[str]) -> None:
    """Raise one `InputError` that holds all `problems`, if there are any."""
    found = list(problems)
    if found:
        raise InputError(found)
