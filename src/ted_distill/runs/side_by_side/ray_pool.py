"""Steps as tasks of a Ray cluster, which decides where and how many at once. All its machines need the same files."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from ...errors import InputError, TrainingError, reason_of
from ..graph import Node
from .jobs import Begin, Ended, Hello, Job
from .worker import OpenRuns, result_of


class RayPool:
    """A pool of tasks; leaving it cancels those that are not over.

    Args:
        hello: what every task is told.
        jobs: node -> what is to be done.
        teachers: run -> the node whose results are the teacher's.
        threads: of a task.
        on_gpus: whether a task needs a GPU.
        on_cpus: whether the recipe says that it needs none.

    Raises:
        InputError: no cluster answers, or it has GPUs and this machine has none, or the other way round.
    """

    def __init__(
        self,
        hello: Hello,
        jobs: Mapping[str, Job],
        teachers: Mapping[str, str],
        threads: int,
        on_gpus: bool,
        on_cpus: bool = False,
    ) -> None:
        import ray

        self._ray = ray
        self._jobs = jobs
        self._teachers = teachers
        self._running: dict[Any, str] = {}
        try:
            # The cluster that RAY_ADDRESS or this machine's ray names; without one, it starts one here.
            ray.init(ignore_reinit_error=True)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise InputError(f"launcher: expected a Ray cluster to answer, got {error}; check RAY_ADDRESS") from error
        if not on_cpus:
            refuse_other_devices(int(ray.cluster_resources().get("GPU", 0)), on_gpus)
        self._hello = ray.put(hello)
        # A stage that was interrupted goes on where it was: trying again loses nothing.
        self._task = ray.remote(num_cpus=threads, num_gpus=int(on_gpus), max_retries=2)(_do)

    def __enter__(self) -> RayPool:
        return self

    def __exit__(self, *error: object) -> None:
        for task in self._running:
            self._ray.cancel(task, force=True)

    @property
    def places(self) -> int:
        """As many as there are nodes: the cluster lets them wait."""
        return len(self._jobs)

    def start(self, place: int, node: Node, done: Mapping[str, Any]) -> None:
        """Hand a job to the cluster."""
        job = self._jobs[node.name]
        begin = Begin(node.name, job, done.get(self._teachers.get(job.run, "")) or {})
        self._running[self._task.options(name=node.name).remote(self._hello, begin)] = node.name

    def next(self) -> tuple[str, Any]:
        """Wait for a job to end; its name, and its result or exception."""
        (task,), _ = self._ray.wait(list(self._running), num_returns=1)
        name = self._running.pop(task)
        try:
            ended: Ended = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            return name, TrainingError(
                f"launcher: expected the task {name} of the cluster to end, got {type(error).__name__} "
                f"({reason_of(error)}); start the same command again"
            )
        return name, ended.result


def refuse_other_devices(gpus: int, on_gpus: bool) -> None:
    """Number types and defaults follow from the devices of this machine, so tasks need the same kind.

    Args:
        gpus: how many the cluster has.
        on_gpus: whether this machine's GPUs are counted on.

    Raises:
        InputError: only one of the two has GPUs.
    """
    if gpus and not on_gpus:
        raise InputError(
            f"launcher: expected a GPU on this machine too, as the cluster has {gpus}, got none; start the command on "
            "one of the machines with GPUs, or set use_cpu: true under training"
        )
    if on_gpus and not gpus:
        raise InputError(
            "launcher: expected GPUs in the cluster, as on this machine, got none; add machines that have some, or set "
            "use_cpu: true under training"
        )


def _do(hello: Hello, begin: Begin) -> Ended:
    """A task, on some machine of the cluster; its lines go to the standard error, which Ray shows to the user."""
    from ...identity import pin
    from ...models.trying.known import knowing_models
    from ...progress.relayed import relayed
    from ...tasks.reading.notices import begin_with

    os.chdir(hello.folder)
    sys.argv = hello.argv
    begin_with(hello.notices)
    shown = relayed(lambda text, progress: _print(text), lambda text: _print(f"{begin.name}: {text}"))
    with knowing_models(), shown as display:
        pin(hello.commits)
        display.restart(begin.teacher, begin.job.within)
        return result_of(OpenRuns(hello.runs), begin)


def _print(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
