"""The parent's side of `step_worker.py`: start processes, let one at a time make a step, end them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PAUSE = 0.05
"""Seconds between two steps: the threads of the worker before go on turning for some of them, and then sleep."""


class WorkerError(Exception):
    """A run that failed."""


class Worker:
    """A process that makes a step when told to: `step_worker.py`."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.name = job["variant"]
        self.seconds: list[float] = []
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("step_worker.py")), json.dumps(job)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            env=worker_environment(job["device"]),
        )  # fmt: skip

    def ask(self, message: str | None = None) -> dict[str, Any]:
        """Send a line, if there is one to send, and wait for the answer.

        Raises:
            WorkerError: the process ended; says what it printed last.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            if message is not None:
                self._process.stdin.write(message + "\n")
                self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError) as error:
            code = self._process.wait()
            self._errors.seek(0)
            tail = "".join(self._errors.readlines()[-15:])
            raise WorkerError(f"{self.name}: the process ended with exit code {code}\n{tail}") from error

    def step(self) -> float:
        """Seconds of one step, after what makes OpenMP's threads in the other processes fall asleep."""
        time.sleep(_PAUSE)
        self.seconds.append(self.ask("step")["seconds"])
        return self.seconds[-1]

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()


def worker_environment(device: str) -> dict[str, str]:
    """The same for all workers: no network, one GPU or none."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] if device == "cuda" else ""
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {**offline, **os.environ, "CUDA_VISIBLE_DEVICES": visible}


@contextmanager
def started(jobs: Sequence[dict[str, Any]]) -> Iterator[list[tuple[Worker, dict[str, Any]]]]:
    """Workers that wait for their first step, and each one's description of itself."""
    workers = [Worker(job) for job in jobs]
    try:
        yield [(worker, worker.ask()) for worker in workers]
    finally:
        for worker in workers:
            worker.close()
