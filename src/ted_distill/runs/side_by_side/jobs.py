"""What a worker is asked to do, and what it says meanwhile: everything that goes from one process to another."""

from __future__ import annotations

import pickle
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ...progress.state import Loop, StageState
from ..recipe import Recipe


@dataclass(frozen=True)
class Job:
    """One node: a step of one run, or the predictions of one of its models."""

    run: str
    """Key of a `RunOfWorkers`: its folder."""
    step: str
    within: str = ""
    """What the run is a part of, such as `seed 2 of 5`."""
    predicts: bool = False
    """Whether the predictions of the model `step` are wanted, and not the step."""


@dataclass(frozen=True)
class RunOfWorkers:
    """A run as a worker opens it."""

    recipe: Recipe
    shared: Path | None = None
    rows: bytes | None = None
    """The task with rows that are nowhere but in memory, pickled; None to read them as the recipe says."""
    held_out_seed: int | None = None
    """Draws a part of the training rows to score on instead of training on them; None for the rows as they are."""


@dataclass(frozen=True)
class Hello:
    """The first message to a worker."""

    runs: dict[str, RunOfWorkers]
    argv: list[str]
    """Words of the command, which stages record."""
    live: bool
    """Whether somebody looks at how far it is."""
    notices: frozenset[str]
    """What was said about the data."""
    folder: str
    """The current folder, from which relative paths start."""
    commits: dict[str, str]
    """What names on the Hub stand for."""


@dataclass(frozen=True)
class Begin:
    """Do a job."""

    name: str
    job: Job
    teacher: dict[str, Any]
    """The teacher's results, as far as they are known: what students are compared with on the screen."""


@dataclass(frozen=True)
class Line:
    """A line of the worker's display."""

    text: str
    progress: bool = False


@dataclass(frozen=True)
class Message:
    """What a logger of the worker said."""

    text: str


@dataclass(frozen=True)
class View:
    """How far the worker is."""

    stage: StageState | None
    loops: list[Loop]


@dataclass(frozen=True)
class Ended:
    """A job is done or has failed."""

    name: str
    result: Any
    """What it gave, or the exception that ended it."""
    trace: str = ""
    """Where the exception comes from."""


class Sender:
    """Writes messages to a stream, whole, from any thread."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def __call__(self, message: Any) -> None:
        """Send one."""
        data = pickle.dumps(message)
        with self._lock:
            self._stream.write(data)
            self._stream.flush()


def failed(name: str, error: Exception) -> Ended:
    """The message that a job failed; an exception that cannot be sent is described by another."""
    trace = "".join(traceback.format_exception(error))
    error.__cause__ = error.__context__ = None
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class does not expect
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return Ended(name, error, trace)
