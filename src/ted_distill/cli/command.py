"""A command of `ted`: a row of the table in `main.py`."""

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
        run: runs it, with the arguments from the command line.
        kinds: loads the dataclasses that its flags fill; a function, since torch takes seconds to import.
        read: for a command that does not take only flags: reads its words; None if help was printed.
        trains: `run` trains models, so an `InputError` may come after some training.
        light: neither reading its words nor running it needs torch or transformers.
    """

    usage: str
    title: str
    run: Callable[..., None]
    kinds: Callable[[], Sequence[type]] = tuple
    read: Callable[[list[str]], tuple[Any, ...] | None] | None = None
    trains: bool = False
    light: bool = False
