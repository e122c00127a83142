"""What others write to the terminal while there is a live display: it is printed above, line by line."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TextIO


class Lines(io.TextIOBase):
    """A stream that hands on whole lines; of a line that is overwritten, as bars are, its last state."""

    def __init__(self, stream: TextIO, print_line: Callable[[str], None]) -> None:
        self._stream = stream
        self._print = print_line
        self._open = ""

    def write(self, text: str) -> int:
        """Hand on the lines that are complete."""
        *whole, self._open = (self._open + text).split("\n")
        for line in whole:
            self._print(_last_state(line))
        return len(text)

    def flush(self) -> None:
        """Nothing: half a line would be torn from its end."""

    def finish(self) -> None:
        """Hand on what came without an end."""
        if rest := _last_state(self._open):
            self._print(rest)
        self._open = ""

    def isatty(self) -> bool:
        """False: bars and colours of others have no place here."""
        return False

    def writable(self) -> bool:
        """True."""
        return True

    def fileno(self) -> int:
        """That of the terminal."""
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the terminal, as all that the class it inherits from does not have."""
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """What the terminal does with letters that its encoding lacks."""
        return self._stream.errors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _last_state(line: str) -> str:
    return line.rstrip("\r").rpartition("\r")[2]


@contextmanager
def printed_above(print_line: Callable[[str], None]) -> Iterator[None]:
    """Hand what is written to the terminal, also by loggers that took hold of the streams before, to `print_line`."""
    with ExitStack() as stack:
        for name in ("stderr", "stdout"):
            stream = getattr(sys, name)
            # A redirected stdout gets what is meant for it.
            if stream is not None and stream.isatty():
                stack.enter_context(_replaced(name, stream, Lines(stream, print_line)))
        yield


@contextmanager
def _replaced(name: str, stream: TextIO, lines: Lines) -> Iterator[None]:
    handlers = [handler for handler in _handlers() if handler.stream is stream]

    def put_back() -> None:
        if getattr(sys, name) is lines:
            setattr(sys, name, stream)
        for handler in handlers:
            if handler.stream is lines:
                handler.stream = stream

    setattr(sys, name, lines)
    for handler in handlers:
        handler.stream = lines
    _replacements.append(put_back)
    try:
        yield
    finally:
        put_back()
        _replacements.remove(put_back)
        lines.finish()


def _handlers() -> list[logging.StreamHandler]:
    """Of all loggers, those that write to a stream."""
    named = [logger for logger in [*logging.root.manager.loggerDict.values()] if isinstance(logger, logging.Logger)]
    found = [handler for logger in (logging.root, *named) for handler in logger.handlers]
    streaming = [handler for handler in dict.fromkeys(found) if isinstance(handler, logging.StreamHandler)]
    # Some look up the stream at each message, and need no help.
    return [handler for handler in streaming if "stream" in vars(handler)]


_replacements: list[Callable[[], None]] = []
"""What puts the streams back, while they are replaced."""


def _forget() -> None:
    """A forked process, such as a data loader's, has no display, and the terminal's lock may be held for ever there."""
    for put_back in _replacements:
        put_back()
    _replacements.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
