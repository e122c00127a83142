"""`run.log`: every message and compact line of a run with its time, whatever the terminal shows.

Messages come from loggers and from Python's warnings. Those of before the file can be opened, as nothing is written
until a folder is known to be the run's, are remembered until then.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO

from ..secrets import text_without_secrets

LOG_NAME = "run.log"
_MOST_REMEMBERED = 1000
_TIME = "%Y-%m-%d %H:%M:%S"


class MessageLog(logging.Handler):
    """Messages of this process: kept in memory, or in a file while one is open."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._remembered: deque[str] = deque(maxlen=_MOST_REMEMBERED)
        self._file: TextIO | None = None
        self._since: float | None = time.time()
        self._loggers: list[logging.Logger] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Add a logger's message."""
        with suppress(Exception):  # a message that cannot be formatted is its own handler's to report
            self.add(record.getMessage(), record.created)
        # Where nobody has set up logging, Python prints messages itself, unless there is a handler, as now.
        if logging.lastResort is not None and record.levelno >= logging.lastResort.level and self._is_alone(record):
            logging.lastResort.handle(record)

    def _is_alone(self, record: logging.LogRecord) -> bool:
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None:
            if any(handler is not self for handler in logger.handlers):
                return False
            logger = logger.parent if logger.propagate else None
        return True

    def add(self, message: str, when: float | None = None) -> None:
        """Add a message without its secrets; the lines after its first are indented. A full disk costs the log only."""
        # `localtime()` alone reads a coarser clock, which may be behind the one that messages have their times from.
        stamp = time.strftime(_TIME, time.localtime(time.time() if when is None else when))
        first, *others = text_without_secrets(message).rstrip("\n").split("\n")
        text = "\n".join([f"{stamp} {first}", *(" " * (len(stamp) + 1) + line for line in others)]) + "\n"
        if self._file is None:
            self._remembered.append(text)
            return
        with suppress(OSError, ValueError):
            self._file.write(text)
            self._file.flush()

    def open_file(self, file: Path) -> None:
        """Append to a file from now on, what is remembered first."""
        from ..output import command, versions  # which imports torch

        self.listen()
        with suppress(OSError):
            self._file = file.open("a", encoding="utf-8", errors="replace")
        used = ", ".join(f"{name} {number}" for name, number in versions().items())
        remembered = "".join(self._remembered)
        self._remembered.clear()
        self.add(f"started: {command()} ({used})", self._since)
        if self._file is not None:
            with suppress(OSError):
                self._file.write(remembered)

    def listen(self) -> None:
        """Take the messages of all loggers that there are; called again, of those that were made since too."""
        # Some libraries print their own messages and do not hand them on.
        named = [logger for logger in [*logging.root.manager.loggerDict.values()] if isinstance(logger, logging.Logger)]
        for logger in (logging.root, *(logger for logger in named if not logger.propagate)):
            if logger not in self._loggers:
                logger.addHandler(self)
                self._loggers.append(logger)

    def stop_listening(self) -> None:
        """Take no more messages."""
        for logger in self._loggers:
            logger.removeHandler(self)
        self._loggers.clear()

    def close_file(self) -> None:
        """Remember messages again."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
            self._since = time.time()

    @property
    def is_open(self) -> bool:
        """Whether there is a file."""
        return self._file is not None


_CURRENT: ContextVar[MessageLog | None] = ContextVar("ted_distill_log", default=None)


@contextmanager
def remembering() -> Iterator[MessageLog]:
    """Remember all messages from now on, for a log that is opened later; the outermost call decides how long."""
    if (known := _CURRENT.get()) is not None:
        yield known
        return
    log = MessageLog()
    with kept_by(log), _warnings_into(log):
        try:
            yield log
        finally:
            log.close_file()


@contextmanager
def kept_by(log: MessageLog) -> Iterator[None]:
    """Give a log the messages of all loggers."""
    token = _CURRENT.set(log)
    log.listen()
    try:
        yield
    finally:
        log.stop_listening()
        _CURRENT.reset(token)


@contextmanager
def logged_into(folder: Path) -> Iterator[None]:
    """Append all messages to `run.log` of a folder, also why it was left; nothing if a log is open already.

    Under `torchrun` those of the main process alone.
    """
    from accelerate import PartialState

    with remembering() as log:
        if log.is_open or not PartialState().is_main_process:
            yield
            return
        log.open_file(folder / LOG_NAME)
        try:
            yield
        except BaseException as error:
            log.add(f"stopped: {type(error).__name__}: {error}" if str(error) else f"stopped: {type(error).__name__}")
            raise
        finally:
            log.close_file()


def add_to_log(line: str) -> None:
    """Add a line of the display to the log, if there is one."""
    if (log := _CURRENT.get()) is not None:
        log.add(line)


@contextmanager
def _warnings_into(log: MessageLog) -> Iterator[None]:
    """Log Python's warnings as well as showing them."""
    show = warnings.showwarning

    def show_and_log(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, *more: Any, **named: Any
    ) -> None:
        log.add(f"{category.__name__}: {message}")
        show(message, category, filename, lineno, *more, **named)

    warnings.showwarning = show_and_log
    try:
        yield
    finally:
        if warnings.showwarning is show_and_log:
            warnings.showwarning = show
