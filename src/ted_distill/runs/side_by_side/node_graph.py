"""Runs whose steps are made together: all that one process would make in order, by several at once."""

from __future__ import annotations

import logging
import pickle
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ...errors import InputError, shown
from ...identity import commits
from ...output.disk import existing
from ...output.processes import process_count
from ...progress import current_display
from ...tasks import Task
from ...tasks.reading.notices import said_notices
from ..checking import memory
from ..graph import Node, waves
from ..planning import Plan, PlannedModel, PlannedStage, Unknown, plan_stages, with_data
from ..recipe import Recipe
from ..recipe_keys import FINETUNE, LEARN_FILTERS
from ..steps import Steps
from .cache_order import Touch, touch_of, waits
from .jobs import Hello, Job, RunOfWorkers
from .scheduling import Pool, work_through
from .shares import (
    AUTO,
    best_workers,
    described,
    most_workers,
    shares,
    that_fit,
    this_machine,
)
from .workers import Workers

logger = logging.getLogger(__name__)

SHORT = 400
"""Updates of all stages together below which processes take longer to start than they save."""
LOCAL, RAY = "local", "ray"


@dataclass(frozen=True)
class Started:
    """A run that was checked and planned."""

    steps: Steps
    planned: Plan
    within: str = ""
    """What it is a part of, such as `seed 2 of 5`."""
    predicts: bool = False
    """Whether predictions of its models are wanted too."""

    @property
    def key(self) -> str:
        """Different for each run."""
        return str(self.steps.at.folder)


def refuse_several(recipe: Recipe) -> None:
    """Refuse workers where the processes are started by others, and Ray where it is not installed.

    Raises:
        InputError: names the key.
    """
    asked = recipe.run.workers
    if asked not in (None, 1, AUTO) and process_count() > 1:
        raise InputError(
            f"workers: expected 1 where torchrun or accelerate launch starts the processes, got {shown(asked)}; leave "
            "it out"
        )
    if recipe.run.launcher == RAY and find_spec("ray") is None:
        raise InputError(
            "launcher: expected Ray to be installed for ray, got none; pip install 'ted-distill[ray]', or leave it out"
        )


def is_side_by_side(recipe: Recipe) -> bool:
    """Whether a recipe asks for several processes, or leaves it open."""
    run = recipe.run
    asks = run.workers not in (None, 1) or run.launcher != LOCAL
    return asks and process_count() == 1


def make_together(
    runs: Sequence[Started],
    rows: Task | None = None,
    held_out_seed: int | None = None,
    tolerated: tuple[type[Exception], ...] = (),
) -> list[dict[str, Any]]:
    """Make the steps of runs that share a folder, side by side where the recipe asks for it.

    What they share is made once, by the first run. On CPUs the results are the same, byte for byte, as those of one
    step after the other, provided that each stage has as many threads.

    Args:
        rows: the task, if its rows are not those that the recipe names.
        held_out_seed: see `RunOfWorkers`.
        tolerated: failures of a node that are a result.

    Returns:
        For each run the results of its steps, those that were tolerated as exceptions; nothing at all where the steps
        are left for this process, to be made in order.

    Raises:
        InputError, TrainingError: see the stages.
    """
    run = runs[0].steps.recipe.run
    unfinished = any(stage not in one.steps.finished for one in runs for stage in one.steps.recipe.stages)
    if not unfinished or not is_side_by_side(runs[0].steps.recipe):
        return [{} for _ in runs]
    graph = Graph(runs, one_machine=run.launcher == LOCAL)
    if not graph.left:
        return [{} for _ in runs]
    sent = {one.key: _sent(one.steps, rows, held_out_seed) for one in runs}
    hello = Hello(sent, list(sys.argv), current_display().is_live, said_notices(), str(Path.cwd()), commits())
    if run.launcher == RAY:
        from .ray_pool import RayPool

        recipe = runs[0].steps.recipe
        on_cpus = all(recipe.stage(name).get("use_cpu") for name in recipe.stages)
        gpus = len(graph.machine.gpus) > 0
        with RayPool(hello, graph.jobs, graph.teachers, graph.threads, gpus, on_cpus) as pool:
            return graph.results(pool, tolerated)
    number = graph.workers(run.workers, rows is not None)
    if number == 1:
        return [{} for _ in runs]
    parts = shares(graph.machine, number)
    logger.warning(
        "%d stages at once, %s; the steps of this run: %d", number, described(parts), len(graph.left)
    )  # fmt: skip
    with Workers(parts, hello, graph.jobs, graph.teachers) as pool:
        return graph.results(pool, tolerated)


def _sent(steps: Steps, rows: Task | None, held_out_seed: int | None) -> RunOfWorkers:
    """A run for other processes. Raises `InputError` for rows that cannot be sent."""
    content = None
    if rows is not None:
        try:
            content = pickle.dumps(rows)
        except Exception as error:  # whatever the objects in it raise
            raise InputError(
                f"workers: expected rows that can be sent to other processes, got ones that cannot ({error}); write "
                "them to a file, or set workers=1"
            ) from error
    return RunOfWorkers(steps.read, steps.at.shared, content, held_out_seed)


class Graph:
    """The nodes of several runs, with their jobs and what is done of them.

    Args:
        runs: the first one makes what they share.
        one_machine: all of it happens on this machine; others may see each other's writes late, and not share files
            that several write to.
    """

    def __init__(self, runs: Sequence[Started], one_machine: bool = False) -> None:
        self.runs = runs
        self.jobs: dict[str, Job] = {}
        self.teachers: dict[str, str] = {}
        self.done: dict[str, Any] = {}
        self._planned: dict[str, PlannedStage] = {}
        self._touches: list[tuple[str, Touch]] = []
        nodes: dict[str, Node] = {}
        plans = _with_data(runs)
        self._models = {owner: _size(model) for owner, model in plans[0].models.items()}
        fits = _fits(plans)
        for run, plan in zip(runs, plans, strict=True):
            self.teachers[run.key] = self._name(run, run.steps.tuning("teacher"))
            planned = {stage.name: stage for stage in plan_stages(plan)}
            for node in run.steps.nodes:
                name = self._name(run, node.name)
                if name in nodes:
                    continue
                nodes[name] = Node(name, tuple(self._name(run, other) for other in node.needs))
                self.jobs[name] = Job(run.key, node.name, "" if run.steps.is_shared(node.name) else run.within)
                self._add_stage(name, run, plan, planned.get(node.name), fits)
            for model in run.steps.models if run.predicts else ():
                self._add_predictions(nodes, run, model)
        # Where room is short, what is kept depends on the order.
        order = {} if one_machine and fits and self._adds_in_no_order else waits(self._touches)
        self.nodes = [replace(node, after=tuple(sorted(order.get(node.name, ())))) for node in nodes.values()]

    def _name(self, run: Started, step: str) -> str:
        return step if run.steps.is_shared(step) or not run.within else f"{step}, {run.within}"

    def _add_stage(self, name: str, run: Started, plan: Plan, stage: PlannedStage | None, fits: bool) -> None:
        if stage is None:
            return
        self._planned[name] = stage
        if stage.name in run.steps.finished:
            self.done[name] = run.steps.finished[stage.name]
        elif touch := touch_of(plan, stage, name, fits):
            self._touches.append((name, touch))

    def _add_predictions(self, nodes: dict[str, Node], run: Started, model: str) -> None:
        step = run.steps.tuning(model) if model in ("teacher", "student") else model
        made = self._name(run, step)
        name = f"predictions of {made if step == model else model}"
        if name not in nodes:
            within = run.within if step == model else ""
            nodes[name] = Node(name, (made,))
            self.jobs[name] = Job(run.key, model, within, predicts=True)

    # --- how many ---------------------------------------------------------------------------------------------------

    @property
    def left(self) -> list[str]:
        """The stages that are not finished."""
        return [name for name in self._planned if name not in self.done]

    @cached_property
    def machine(self) -> Any:
        """What there is to share."""
        least = None
        if self._on_gpus:
            memory.release()  # what this process keeps in reserve is not free for others
            least = min(torch.cuda.mem_get_info(number)[0] for number in range(torch.cuda.device_count()))
        return this_machine(self._on_gpus, memory.free(torch.device("cpu")), least)

    @property
    def _on_gpus(self) -> bool:
        return any(stage.args.device.type == "cuda" for stage in self._planned.values())

    @property
    def _adds_in_no_order(self) -> bool:
        """Whether last digits differ from one time to the next, so that there are none to keep."""
        return self._on_gpus and not any(stage.args.full_determinism for stage in self._planned.values())

    @property
    def threads(self) -> int:
        """Of a process, where a cluster decides how many there are."""
        return self.machine.threads or 1

    def workers(self, asked: int | str | None, rows_in_memory: bool) -> int:
        """How many processes: those that were asked for, or those that pay; fewer where memory is short."""
        planned = [self._planned[name].memory for name in self.left]
        needed = [number if isinstance(number, int) else 0 for number in planned]
        width = max((sum(node.name in self.left for node in wave) for wave in waves(self.nodes)), default=1)
        if asked == AUTO:
            steps = [self._planned[name].steps for name in self.left]
            known = [number for number in steps if isinstance(number, int)]
            if rows_in_memory or (len(known) == len(steps) and sum(known) < SHORT):
                return 1
            machine = self.machine
            return best_workers(self.nodes, self._lasts(), most_workers(machine, needed, width), bool(machine.gpus))
        assert isinstance(asked, int)
        fitting = max(1, that_fit(self.machine, needed))
        wanted = min(asked, len(self.left))
        if fitting < wanted:
            logger.warning(
                "workers: expected memory for %d stages at once, got room for %d; no more are at work", wanted, fitting
            )
        return min(wanted, fitting)

    def _lasts(self) -> dict[str, float]:
        """Node -> about how long it takes, in a unit of its own: steps, by the size of what they train or only run."""
        found = {}
        for name in self.left:
            stage, models = self._planned[name], self._models
            owner = "teacher" if stage.name in (FINETUNE[0], LEARN_FILTERS[0]) else "student"
            # Without gradients, a third of the work.
            size = models[owner] / 3 if stage.name in LEARN_FILTERS else models[owner]
            found[name] = size * (stage.steps if isinstance(stage.steps, int) else 1)
        return found

    # --- all of it --------------------------------------------------------------------------------------------------

    def results(self, pool: Pool, tolerated: tuple[type[Exception], ...]) -> list[dict[str, Any]]:
        """Results of the steps of each run; of finished stages none, as their results are known."""
        found = work_through(self.nodes, pool, self.done, tolerated)
        new = {name: result for name, result in found.items() if name not in self.done}
        return [
            {node.name: new[name] for node in run.steps.nodes if (name := self._name(run, node.name)) in new}
            for run in self.runs
        ]


def _size(model: PlannedModel | Unknown) -> float:
    """Parameters; 1 where they are not known."""
    found = None if isinstance(model, Unknown) else model.parameters
    return float(found) if isinstance(found, int) else 1.0


def _with_data(runs: Sequence[Started]) -> list[Plan]:
    """The plans with a sample of the data, which is the same for all, tokenised."""
    first = with_data(runs[0].planned)
    return [replace(run.planned, data=first.data) for run in runs]


def _fits(plans: Sequence[Plan]) -> bool:
    """Whether everything that may be kept of frozen models has room, with a wide margin."""
    stages = [stage for plan in plans[:1] for stage in plan_stages(plan)]
    folder = existing(Path(str(plans[0].recipe.run.output_dir)))
    room = min([stage.args.cache_limit * 1e9 for stage in stages] + [shutil.disk_usage(folder).free / 2])
    total = 0.0
    for stage in stages:
        if isinstance(stage.disk, Unknown):
            return False
        total += stage.disk or 0
    return total < room / 2
