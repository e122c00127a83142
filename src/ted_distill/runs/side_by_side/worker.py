"""The process of a worker: it does one job after the other, and ends when the process that started it is gone.

Its standard input and output are for messages (`jobs.py`). What others print goes to the standard error, where the
process that started it reads and shows it.
"""

from __future__ import annotations

import os
import pickle
import queue
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from .jobs import Begin, Ended, Hello, Job, Line, Message, RunOfWorkers, Sender, View, failed

_A_LOOK = 0.4
"""Seconds between two reports of progress."""


def main() -> None:
    """Do the jobs that come in."""
    incoming, send = _channel()
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(incoming, messages), daemon=True).start()
    with suppress(KeyboardInterrupt):
        hello = messages.get()
        assert isinstance(hello, Hello)
        sys.argv = hello.argv
        _work(hello, messages, send)


def _channel() -> tuple[Any, Sender]:
    """Streams of messages, in and out; other code gets an empty standard input, and standard error as its output."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return incoming, Sender(outgoing)


def _receive(incoming: Any, messages: queue.SimpleQueue[Any]) -> None:
    """Pass messages on. If the stream ends, so has the process that sent them, and this one ends too."""
    with suppress(EOFError, OSError, pickle.UnpicklingError):
        while True:
            messages.put(pickle.load(incoming))
    os._exit(1)


def _work(hello: Hello, messages: queue.SimpleQueue[Any], send: Sender) -> None:
    from ...identity import pin
    from ...models.trying.known import knowing_models
    from ...progress.relayed import relayed
    from ...tasks.reading.notices import begin_with
    from ..checking import memory

    begin_with(hello.notices)
    runs = OpenRuns(hello.runs)
    shown = relayed(lambda text, progress: send(Line(text, progress)), lambda text: send(Message(text)))
    with knowing_models(), shown as display:
        pin(hello.commits)
        if hello.live:
            threading.Thread(target=_tell, args=(display, send), daemon=True).start()
        while True:
            begin = messages.get()
            display.restart(begin.teacher, begin.job.within)
            send(result_of(runs, begin))
            memory.release()


def _tell(display: Any, send: Callable[[Any], None]) -> None:
    """Report progress at regular intervals."""
    while True:
        threading.Event().wait(_A_LOOK)
        with suppress(RuntimeError):  # it changed while it was looked at
            send(View(*display.view))


def result_of(runs: OpenRuns, begin: Begin) -> Ended:
    """Do a job, and say how it ended."""
    try:
        return Ended(begin.name, runs.do(begin.job))
    except Exception as error:
        return failed(begin.name, error)


class OpenRuns:
    """Runs, each opened when it is first needed; those on the same rows share them."""

    def __init__(self, runs: dict[str, RunOfWorkers]) -> None:
        self._runs = runs
        self._steps: dict[str, Any] = {}
        self._tasks: list[tuple[RunOfWorkers, Any]] = []

    def do(self, job: Job) -> Any:
        """Do a job; its result."""
        steps = self._opened(job.run)
        if job.predicts:
            steps.predictions(job.step)
            return None
        return steps.make(job.step)

    def _opened(self, key: str) -> Any:
        from ..steps import Steps

        if key not in self._steps:
            run = self._runs[key]
            self._steps[key] = Steps(run.recipe, run.shared, self._task(run))
        return self._steps[key]

    def _task(self, run: RunOfWorkers) -> Any:
        from ...stages.rows.held_out import hold_out
        from ...tasks import load_task
        from ...tasks.own_tasks import own_task
        from ..run_task import task_of_run

        for other, known in self._tasks:
            same = replace(other, recipe=run.recipe, shared=run.shared) == run
            if same and other.recipe.task == run.recipe.task:
                return known
        if run.rows is None:
            task = load_task(run.recipe.task)
        else:
            if run.recipe.task.own_task:
                own_task(*run.recipe.task.own_task)  # its class is found in a module that this makes
            task = pickle.loads(run.rows)
        if run.held_out_seed is not None:
            task = hold_out(task_of_run(run.recipe, task), run.held_out_seed)
        self._tasks.append((run, task))
        return task


if __name__ == "__main__":
    main()
