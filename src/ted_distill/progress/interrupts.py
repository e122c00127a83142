"""Ctrl-C that is not lost: Python drops an exception that a callback of the garbage collector raises, this one as well.

A command notes that it was interrupted, beside raising `KeyboardInterrupt`; stages and updates look at the note.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ASKED = threading.Event()


@contextmanager
def noting_interrupts() -> Iterator[None]:
    """Within this context, an interrupt by SIGINT is noted and raised.

    Nothing changes in other threads than the main one, and where SIGINT is ignored (a job in the background)
    or has a handler of somebody else.
    """
    _ASKED.clear()
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _ASKED.clear()


def raise_if_interrupted() -> None:
    """Raise the `KeyboardInterrupt` that was noted and lost."""
    if _ASKED.is_set():
        raise KeyboardInterrupt


def _interrupt(signum: int, frame: FrameType | None) -> None:
    _ASKED.set()
    raise KeyboardInterrupt
