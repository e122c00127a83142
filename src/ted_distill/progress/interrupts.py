"""Interrupts that are not lost: Python drops an exception that a callback of the garbage collector raises, also these.

A command notes that it was interrupted (Ctrl-C) or asked to end (SIGTERM, as schedulers and `kill` do), besides raising
`KeyboardInterrupt` or `Terminated`; stages, updates and loops that are shown look at the note. A training that can
write a checkpoint postpones the first one until it has.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM: everything that an interrupt stops in good order stops for this too."""


_USUAL: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
"""The signals that are noted, and what handles them unless somebody else does."""
_RAISED = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}
_noted: list[int] = []
_POSTPONED = b"\ninterrupted: a checkpoint is written first; interrupt once more to end at once\n"
_postponing = False


@contextmanager
def noting_interrupts() -> Iterator[None]:
    """Within this context, SIGINT and SIGTERM are noted and raised.

    Nothing changes in other threads than the main one and in processes that are forked off, nor for a signal that is
    ignored (SIGINT, in a job in the background) or has a handler of somebody else.
    """
    _noted.clear()
    is_main = threading.current_thread() is threading.main_thread()
    ours = [number for number, usual in _USUAL.items() if is_main and signal.getsignal(number) is usual]
    process = os.getpid()

    def note(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # whoever forked it expects it to end as usual
            signal.signal(number, _USUAL[number])
            os.kill(os.getpid(), number)
            return
        _noted.append(number)
        if is_postponed():
            # Not by a stream: the signal may have come in the middle of a write.
            with suppress(OSError):
                os.write(2, _POSTPONED)
            return
        raise _RAISED[signal.Signals(number)]

    for number in ours:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, _USUAL[number])
        _noted.clear()


@contextmanager
def postponing_interrupts() -> Iterator[None]:
    """Within this context, the first signal that is noted is not raised: see `is_postponed`."""
    global _postponing
    before, _postponing = _postponing, True
    try:
        yield
    finally:
        _postponing = before
    raise_if_interrupted()


def is_postponed() -> bool:
    """Whether one signal has been noted, and waits for what postpones it to come to a good end."""
    return _postponing and len(_noted) == 1


def raise_if_interrupted() -> None:
    """Raise the `KeyboardInterrupt` or `Terminated` that was noted and lost."""
    if _noted and not is_postponed():
        raise_noted()


def raise_noted() -> None:
    """Raise what was noted first, postponed or not."""
    raise _RAISED[signal.Signals(_noted[0])]
