"""The display and the log of a process that works for another one: everything they would show is handed on to it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .display import Display, current, without_other_bars
from .log_file import MessageLog, kept_by
from .state import Loop, StageState


class RelayedDisplay(Display):
    """Hands on its lines, and lets others look at its state.

    Args:
        tell: called with each line, and whether it only says how far something is.
    """

    def __init__(self, tell: Callable[[str, bool], None]) -> None:
        super().__init__()
        self._tell = tell

    def restart(self, teacher: Mapping[str, Any], within: str) -> None:
        """Begin something else, which is a part of `within`; what an error left of the last one is forgotten."""
        self.stage, self.teacher, self._within = None, dict(teacher), within
        self._loops.clear()

    @property
    def view(self) -> tuple[StageState | None, list[Loop]]:
        """How far it is."""
        return self.stage, [*self._loops]

    def _say(self, line: str, *, progress: bool = True, above: bool = False) -> None:
        self._tell(line, progress)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Draw nothing."""
        yield


class _RelayedLog(MessageLog):
    """Hands on what loggers say; there is a file, though not here."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Hand on a logger's message."""
        try:
            self._tell(record.getMessage())
        except (TypeError, ValueError):
            self.handleError(record)

    @property
    def is_open(self) -> bool:
        """True: a stage opens no log of its own."""
        return True


@contextmanager
def relayed(tell_line: Callable[[str, bool], None], tell_message: Callable[[str], None]) -> Iterator[RelayedDisplay]:
    """Hand on everything from now on: lines of the display, and messages of loggers."""
    display = RelayedDisplay(tell_line)
    with kept_by(_RelayedLog(tell_message)), current(display), without_other_bars():
        yield display
