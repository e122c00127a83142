"""A command of `ted`: a row of the table in `main.py`."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Names:
    """Names that come before the flags of a command, such as those of `ted trim CHECKPOINT OUT --texts FILE`.

    Attributes:
        order: the names as the help has them; OUT may also be given as a flag.
        what: the same in words, for messages.
        counts: how many there may be.
    """

    order: str
    what: str
    counts: Container[int]


@dataclass(frozen=True)
class Command:
    """One command. It has either `kinds`, with or without `names`, or `read` and `help`.

    Attributes:
        usage: its line in the overview, without `ted`.
        title: what it does, in the overview.
        run: runs it, with the arguments that were read: what `read` returns, or `names` as a list, then `kinds`.
        kinds: loads the dataclasses that its flags fill; a function, since torch takes seconds to import.
        names: what comes before its flags.
        about: what it does, above its flags [its title].
        read: reads the words of a command that does not take flags.
        help: what `--help` prints for such a command.
        needs_words: without any word it is refused, with its help; one with flags always is.
        trains: `run` trains models, so an `InputError` may come after some training.
        light: neither reading its words nor running it needs torch or transformers.
    """

    usage: str
    title: str
    run: Callable[..., None]
    kinds: Callable[[], Sequence[type]] = tuple
    names: Names | None = None
    about: str = ""
    read: Callable[[list[str]], tuple[Any, ...]] | None = None
    help: str = ""
    needs_words: bool = False
    trains: bool = False
    light: bool = False
