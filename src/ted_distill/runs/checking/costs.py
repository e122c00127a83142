"""From a few measured steps to the time, the memory and the disk of a whole run."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import collect
from ...output import Need, check_space
from ...stages.rate_search import RUNGS, SEARCHED
from ...stages.rows.samples import SAMPLE_TOKENS
from ...tasks import Task
from ...tasks.base import TEST
from ...training.checkpointing import checkpoints_at_once, moments_of
from ...training.stage_arguments import AUTO
from ...training.update_counts import evaluations, saves, updates_of_epoch
from ...wording import duration, size
from ..planning import Plan, PlannedData, PlannedStage
from ..recipe_keys import LEARN_FILTERS
from .rehearsal import ONE_A_ROW, Measured

_WRITTEN = 1 << 24
"""Bytes that are written to see how fast a disk is."""


@dataclass(frozen=True)
class StageCost:
    """The seconds of a stage, and what they are made of."""

    name: str
    measured: Measured
    updates: int
    first: float
    """Of an update where a frozen model is run."""
    later: float
    """Of one where its outputs are read from the cache."""
    training: float
    scoring: float
    other: float
    """To load models, to measure where filters start, and to write checkpoints and the finished model."""

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.training + self.scoring + self.other


class Costs:
    """Adds up the stages of a run, in their order: outputs that a stage has kept are there for the next.

    Args:
        sample: the task with the rows on which was measured.
        write_speed: bytes a second.
    """

    def __init__(self, plan: Plan, sample: Task, write_speed: float) -> None:
        self.plan = plan
        self.sample = sample
        self.write_speed = write_speed
        self.kept: set[str] = set()
        self.kept_more = False

    def stage(self, planned: PlannedStage, measured: Measured) -> StageCost | None:
        """The cost of the next stage; None if the number of its updates is not known."""
        if not isinstance(planned.steps, int):
            return None
        args, name = planned.args, planned.name
        of_epoch = self._of_epoch(planned)
        parts = args.gradient_accumulation_steps
        first, later = (parts * step + measured.update for step in (measured.step, measured.step_kept))
        run = self._runs_of_teacher(planned, measured, of_epoch)
        training = run * first + (planned.steps - run) * later
        scored = measured.scoring_again * self._rows(self.plan.task) / max(1, self._rows(self.sample))
        opened = measured.scoring * self._rows(self.plan.task) / max(1, self._rows(self.sample))
        times = evaluations(args, planned.steps, of_epoch) if self._rows(self.plan.task) else 0
        scoring = times * scored
        if name in LEARN_FILTERS and times:
            scoring += max(0.0, opened - scored)  # the first time, the frozen model is run
        elif self._rows(self.plan.task):
            scoring += scored * len(self.plan.task.rows.get(TEST, ())) / self._rows(self.plan.task)
        written = saves(args, planned.steps, of_epoch) * (measured.checkpoint + moments_of(args) * measured.trained)
        other = measured.opening + measured.starting * self._start_tokens()
        other += (written + measured.model) / self.write_speed
        if args.learning_rate == AUTO:
            training += SEARCHED * training
            scoring += sum(number for number, _ in RUNGS) * scored
        return StageCost(name, measured, planned.steps, first, later, training, scoring, other)

    def _of_epoch(self, planned: PlannedStage) -> int:
        data = self.plan.data
        if not isinstance(data, PlannedData) or not isinstance(data.features, int):
            return int(planned.steps) if isinstance(planned.steps, int) else 1
        return updates_of_epoch(planned.args, data.features + planned.more_features)

    def _runs_of_teacher(self, planned: PlannedStage, measured: Measured, of_epoch: int) -> int:
        """Updates that run the frozen model: all without a cache, otherwise those of the first epoch, or none."""
        steps = int(planned.steps) if isinstance(planned.steps, int) else 0
        if not measured.outputs:
            return steps
        own = planned.name == "learn_filters_student"
        known = not own and measured.outputs <= self.kept
        # The start of filters is measured on some rows, which may be all: their outputs are kept before the training.
        started = bool(measured.starting) and self._start_tokens() >= self._all_tokens()
        if not own:
            of_start = (name.removesuffix(ONE_A_ROW) for name in measured.outputs)
            self.kept |= measured.outputs | {*(of_start if started else ())}
        one_a_row = any(name.endswith(ONE_A_ROW) for name in measured.outputs)
        # Stage I has seen none of the rows without labels.
        of_more = 0 if self.kept_more else math.ceil(planned.more_features / planned.args.global_batch)
        self.kept_more = self.kept_more or planned.more_features > 0
        return min(steps, of_more if known or (started and not one_a_row) else of_epoch)

    def _start_tokens(self) -> float:
        """Tokens on which the start of filters is measured."""
        return min(SAMPLE_TOKENS, self._all_tokens())

    def _all_tokens(self) -> float:
        """Of the training features; infinitely many where their number is not known."""
        data = self.plan.data
        if not isinstance(data, PlannedData) or not isinstance(data.features, int):
            return math.inf
        return data.features * data.tokens

    def _rows(self, task: Task) -> int:
        """Rows that a stage scores on each time."""
        return sum(len(rows) for name, rows in task.rows.items() if name.startswith("validation"))


# --- tables and lines -------------------------------------------------------------------------------------------


def table(costs: list[StageCost], memory: bool) -> list[list[str]]:
    """Cells for a table of the stages, the names of the columns first."""
    names = ["stage", "updates", "an update", "from the cache", "training", "scoring", "loading, files", "in all"]
    rows = [names + (["memory"] if memory else [])]
    for cost in costs:
        cached = duration(cost.later) if cost.measured.outputs else ""
        row = [cost.name, f"{cost.updates:,}", duration(cost.first), cached]
        row += [duration(seconds) for seconds in (cost.training, cost.scoring, cost.other, cost.seconds)]
        rows.append(row + ([size(cost.measured.peak)] if memory else []))
    return rows


# --- disk -------------------------------------------------------------------------------------------------------


def write_speed(folder: Path) -> float:
    """Bytes a second at which files are written, summed and synced."""
    block = os.urandom(_WRITTEN)
    began = time.perf_counter()
    with (folder / "speed").open("wb") as file:
        file.write(block)
        file.flush()
        os.fsync(file.fileno())
    hashlib.sha256(block).hexdigest()
    return _WRITTEN / (time.perf_counter() - began)


def disk_needs(plan: Plan, stages: list[tuple[PlannedStage, Measured]]) -> list[Need]:
    """What a run has on its disk at once: all finished models, the checkpoints of one stage, the teacher's outputs."""
    folder = Path(str(plan.recipe.run.output_dir))
    features = plan.data.features if isinstance(plan.data, PlannedData) else 0
    rows = features if isinstance(features, int) else 0
    checkpoints = [
        (measured.checkpoint + int(moments_of(planned.args) * measured.trained))
        * checkpoints_at_once(planned.args, rows + planned.more_features)
        for planned, measured in stages
    ]
    kept = [planned.disk for planned, _ in stages if isinstance(planned.disk, int) and not planned.too_large]
    return [
        Need("finished models", folder, sum(measured.model for _, measured in stages)),
        Need("checkpoints", folder, max(checkpoints, default=0)),
        Need("hidden states", folder, max(kept, default=0)),
    ]


def disk_problems(needs: list[Need]) -> Iterator[str]:
    """Disks that are too small."""
    problems: list[str] = []
    with collect(problems):
        check_space(needs)
    yield from problems
