"""Worker processes of this machine: started once, each with its share of it, and given one job after the other."""

from __future__ import annotations

import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ...errors import InputError, TrainingError
from ...progress import current_display
from ..graph import Node
from .jobs import Begin, Ended, Hello, Job, Line, Message, Sender, View
from .shares import Share

logger = logging.getLogger(__name__)

_PACKAGE = Path(__file__).parents[3]
_START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from ted_distill.runs.side_by_side.worker import main; main()"
)
_PATIENCE = 5.0
"""Seconds that a worker has to end by itself."""


class _Said(NamedTuple):
    place: int
    what: Any
    """A message, a line that something printed, or None at the end of the process."""


class WorkerError(Exception):
    """Where in a worker an error came from."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Workers:
    """A pool of processes; leaving it ends them, whatever they do.

    Args:
        shares: of the machine, one for each process.
        hello: what all of them are told first.
        jobs: node -> what is to be done.
        teachers: run -> the node whose results are the teacher's.
    """

    def __init__(
        self, shares: Sequence[Share], hello: Hello, jobs: Mapping[str, Job], teachers: Mapping[str, str]
    ) -> None:
        self._jobs = jobs
        self._teachers = teachers
        self._said: queue.SimpleQueue[_Said] = queue.SimpleQueue()
        self._processes = [_Process(place, share, self._said) for place, share in enumerate(shares)]
        self._names: dict[int, str] = {}
        self._ended: set[int] = set()
        """Processes that ended on their own while they had nothing to do."""
        self._printed: dict[int, list[str]] = {}
        for process in self._processes:
            process.send(hello)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._processes:
            process.interrupt()
        for place, process in enumerate(self._processes):
            process.end()
            current_display().show_other(place, None, [])

    @property
    def places(self) -> int:
        """The number of processes."""
        return len(self._processes)

    def start(self, place: int, node: Node, done: Mapping[str, Any]) -> None:
        """Give a job to a process that has none."""
        job = self._jobs[node.name]
        self._names[place] = node.name
        teacher = done.get(self._teachers.get(job.run, "")) or {}
        if place in self._ended:
            self._said.put(_Said(place, None))  # once more, for this job
        self._processes[place].send(Begin(node.name, job, teacher))

    def next(self) -> tuple[str, Any]:
        """Show what the processes say until one has ended a job; the job's name, and its result or exception."""
        while True:
            place, what = self._said.get()
            if isinstance(what, Ended):
                self._names.pop(place, None)
                current_display().show_other(place, None, [])
                if what.trace and not isinstance(what.result, (InputError, TrainingError)):
                    what.result.__cause__ = WorkerError(what.trace)
                return what.name, what.result
            if what is None:
                self._ended.add(place)
                if place in self._names:
                    return self._names.pop(place), self._lost(place)
            self._show(place, what)

    def _show(self, place: int, what: Any) -> None:
        name = self._names.get(place)
        if isinstance(what, View):
            current_display().show_other(place, what.stage, what.loops)
        elif isinstance(what, Line):
            current_display().relay(what.text, progress=what.progress)
        elif isinstance(what, Message):
            logger.warning("%s", what.text if what.text.startswith("== ") else _prefixed(name, what.text))
        elif isinstance(what, str) and what.strip():
            self._printed.setdefault(place, []).append(what)
            logger.warning("%s", _prefixed(name, what))

    def _lost(self, place: int) -> TrainingError:
        """What is said of a process that has ended on its own."""
        code = self._processes[place].end()
        if code < 0:
            why = f"was ended by signal {-code}" + (
                ", as happens when memory runs out" if code == -signal.SIGKILL else ""
            )
        else:
            why = f"ended with code {code}"
        last = "".join(f" ({line.strip()})" for line in self._printed.get(place, [])[-1:])
        return TrainingError(
            f"workers: expected each process to end its work, got one that {why}{last}; start the same command again, "
            "with fewer workers if memory is short"
        )


def _prefixed(name: str | None, text: str) -> str:
    step, comma, within = (name or "").partition(", ")
    return f"{step.replace('_', ' ')}{comma}{within}: {text}" if name else text


class _Process:
    """One worker, and the threads that read what it says."""

    def __init__(self, place: int, share: Share, said: queue.SimpleQueue[_Said]) -> None:
        # A session of its own: an interruption at the keyboard is for the process that shows everything.
        apart: dict[str, Any] = {"start_new_session": True}
        if os.name == "nt":
            apart = {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(_PACKAGE)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, **share.environment}, **apart,
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._sender = Sender(self._process.stdin)  # type: ignore[arg-type]
        readers = (_read_messages, self._process.stdout), (_read_lines, self._process.stderr)
        self._threads = [
            threading.Thread(target=read, args=(place, stream, said), daemon=True) for read, stream in readers
        ]
        for thread in self._threads:
            thread.start()

    def send(self, message: Any) -> None:
        """Send a message; one to a process that has ended is lost, and its end is noticed elsewhere."""
        with suppress(BrokenPipeError, OSError):
            self._sender(message)

    def interrupt(self) -> None:
        """Ask it to stop what it does."""
        with suppress(OSError):
            if os.name != "nt":
                self._process.send_signal(signal.SIGINT)
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

    def end(self) -> int:
        """Wait until it has ended, and kill it if that takes too long; its exit code."""
        try:
            code = self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        for thread in self._threads:
            thread.join(_PATIENCE)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with suppress(OSError):
                stream.close()  # type: ignore[union-attr]
        return code


def _read_messages(place: int, stream: BinaryIO, said: queue.SimpleQueue[_Said]) -> None:
    with suppress(EOFError, OSError, ValueError, pickle.UnpicklingError):
        while True:
            said.put(_Said(place, pickle.load(stream)))
    said.put(_Said(place, None))


def _read_lines(place: int, stream: BinaryIO, said: queue.SimpleQueue[_Said]) -> None:
    with suppress(OSError, ValueError):
        for line in stream:
            said.put(_Said(place, line.decode("utf-8", errors="replace").rstrip("\n").rpartition("\r")[2]))
