"""What a command of `ted` is: a row of the table in `main.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        usage: its line in the overview, without `ted`.
        title: what it does, in the overview and above its flags.
        run: does it, with what was read from the command line.
        kinds: loads the dataclasses that its flags fill; a function, since torch takes seconds to import.
        read: for a command that takes other words than flags: what they mean, or None if help was printed.
        trains: `run` trains models, so that input refused there may come after a training.
    """

    usage: str
    title: str
    run: Callable[..., None]
    kinds: Callable[[], Sequence[type]] = tuple
    read: Callable[[list[str]], tuple[Any, ...] | None] | None = None
    trains: bool = False
