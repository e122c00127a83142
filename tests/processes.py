"""Several processes on one machine, as `torchrun` starts them, but forked: importing torch again would take 10 s."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from accelerate.state import AcceleratorState, GradientState, PartialState

_PATIENCE = 120
"""Seconds after which processes that wait for each other are ended."""


def in_processes(number: int, function: Callable[[], object], folder: Path, patience: float = _PATIENCE) -> None:
    """Call a function in so many processes that know of each other.

    Args:
        folder: for what they print.
        patience: seconds after which they are ended.

    Raises:
        AssertionError: one of them failed, or they took too long; with what it printed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [_started(function, rank, number, port, folder / f"process-{rank}.txt") for rank in range(number)]
    failed = _failed(dict(enumerate(children)), patience)
    assert failed is None, (folder / f"process-{failed}.txt").read_text(encoding="utf-8")[-4000:]


def _started(function: Callable[[], object], rank: int, number: int, port: int, printed: Path) -> int:
    """The number of a new process that calls the function and ends."""
    if child := os.fork():
        return child
    status = 1
    try:
        with printed.open("w", encoding="utf-8") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            sys.stdout, sys.stderr = output, output
            try:
                _join(rank, number, port)
                function()
                status = 0
            except BaseException:
                traceback.print_exc()
    finally:
        # Neither pytest nor what it registered for its end may go on here.
        os._exit(status)


def _join(rank: int, number: int, port: int) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(number),
        "LOCAL_WORLD_SIZE": str(number),
    }
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    PartialState._reset_state()


def _failed(running: dict[int, int], patience: float) -> int | None:
    """Waits for processes, by rank; the rank of the first that fails, whereupon the others are ended."""
    deadline, failed = time.monotonic() + patience, None
    while running:
        for rank, child in list(running.items()):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                del running[rank]
                failed = rank if status and failed is None else failed
        if failed is not None or time.monotonic() > deadline:
            failed = next(iter(running)) if failed is None else failed
            for child in running.values():
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            return failed
        time.sleep(0.01)
    return None
