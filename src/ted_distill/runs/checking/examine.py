"""A recipe looked at with its models loaded: what they know, what they cost, and what may be wrong.

Nothing is written but into a temporary folder, and every random state stays as it was. What a recipe is refused for
without any of this is not looked for again.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from torch import nn

from ...errors import QUOTED, InputError, NoRoomError, reason_of
from ...method.filters import FilterConfig
from ...method.shapes import width
from ...models.embeddings import embedding_parameters
from ...models.load import LoadedModel
from ...models.tokenizers import Tokenizers
from ...stages.rows.lost_text import unknown_warnings
from ...tasks import Task
from ...training.fitting_memory import RECOMPUTES, may_recompute
from ...training.stage_arguments import StageArguments
from ...wording import counted, duration, parameters, size
from ..planning import Plan, PlannedData, PlannedModel, PlannedStage, plan_stages
from ..planning.features import without_progress_bars
from ..planning.show import facts
from ..recipe import stage_arguments
from ..recipe_keys import FINETUNE, FROM_SCRATCH, SCORE_ON
from . import memory
from .costs import Costs, StageCost, disk_needs, disk_problems, table, write_speed
from .labels import contradictions, cut_rows, label_doubts, label_line
from .models import Models, models_of
from .rehearsal import Measured, Rehearsal
from .report import Report
from .sample import encode_sample, sample_task, with_fewer_scored
from .scores import described, score_doubts, score_sample
from .undisturbed import silent, undisturbed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Extent:
    """How much a check does."""

    rows: int
    """To score on, at the most."""
    operations: float
    """Of a model's scoring pass: fewer rows where a model is large."""
    batches: int
    """To time in each stage."""
    seconds: float
    """For the steps of a stage; one batch is timed in any case."""
    updates: int
    """Runs with fewer updates in each stage are not timed: it would add noticeably to their time."""
    whole: bool
    """Also checks what a run reports by itself anyway, and memory and disks."""


WHOLE = Extent(rows=200, operations=2e12, batches=3, seconds=10, updates=0, whole=True)
"""`ted check`."""
_TIMED_ROWS = 48
"""Rows on which scoring is timed."""
BRIEF = Extent(rows=64, operations=3e11, batches=1, seconds=2, updates=400, whole=False)
"""The start of `ted run`."""


def examine(plan: Plan, extent: Extent = WHOLE, heard: Iterable[str] = ()) -> Report:
    """Load the models of a plan, score them on a few rows, and make a few steps of each stage.

    Args:
        plan: of a recipe that is accepted, with its data looked at.
        heard: what was said while it was made, and not shown to anyone yet.

    Returns:
        Facts, doubts and problems; a table of what the stages cost, if that was measured.
    """
    report = Report()
    with undisturbed(), silent() as said, without_progress_bars(), tempfile.TemporaryDirectory() as folder:
        _look(_Examination(plan, extent, report, Path(folder)))
    # Sentences of this form are warnings about the input, which a run would give one by one.
    report.doubt(sentence for sentence in (*heard, *said) if re.search(r"expected .* got ", sentence))
    return report


def _look(examination: _Examination) -> None:
    """All of an examination. A run does not fail by a brief one, whatever goes wrong in it."""
    try:
        examination.look()
    except InputError as error:
        examination.report.problems += error.problems
    except Exception as error:
        if examination.extent.whole:
            raise
        logger.debug("check", exc_info=True)
        examination.report.doubt([f"check: expected it to finish, got {_reason(error)}; `ted check` may say more"])


class _Examination:
    def __init__(self, plan: Plan, extent: Extent, report: Report, folder: Path) -> None:
        self.plan = plan
        self.recipe = plan.recipe
        self.extent = extent
        self.report = report
        self.folder = folder
        self.stages = plan_stages(plan)
        self.args: StageArguments = stage_arguments(self.recipe, FINETUNE[0])[0]

    def look(self) -> None:
        """Everything, in an order in which each step needs only those before it."""
        task, report = self.plan.task, self.report
        report.facts |= dict(facts(self.plan))
        if self.extent.whole and isinstance(train := task.rows["train"], Dataset):
            report.facts["labels"] = task.describe_labels(train) or ""
        report.doubt(label_doubts(task))
        report.doubt(contradictions(task))
        if self.extent.whole:
            report.doubt(task.overlaps())
            report.doubt(task.row_doubts({name: rows for name, rows in task.rows.items() if isinstance(rows, Dataset)}))
        tuned = self.recipe.tunes("teacher")
        timed = self._is_timed
        # Before it is fine-tuned, the teacher has little to show: small runs do not load models for that.
        if not (self.extent.whole or timed or not tuned):
            return
        sample = sample_task(task, self._scored_rows())
        models = models_of(self.plan, sample, self.folder)
        if self.extent.whole or not tuned:
            self._look_at_models(models, tuned)
        if PartialState().num_processes > 1:
            report.facts["time"] = f"not measured, as {PartialState().num_processes} processes share the work"
        if timed:
            self._rehearse(replace(models, task=with_fewer_scored(sample, _TIMED_ROWS)))

    @property
    def _is_timed(self) -> bool:
        """Whether the stages are rehearsed: not where processes share the work, nor before a run of a few steps."""
        if PartialState().num_processes > 1:
            return False
        steps = sum(stage.steps for stage in self.stages if isinstance(stage.steps, int))
        return bool(steps) and steps >= self.extent.updates * len(self.stages)

    def _scored_rows(self) -> int:
        """Rows that a model scores quickly: two operations for each weight and token."""
        teacher, data = self.plan.models["teacher"], self.plan.data
        if torch.cuda.is_available() and not self.args.use_cpu:
            return self.extent.rows
        weights = _weights(teacher.model)[0] if isinstance(teacher, PlannedModel) else 0
        tokens = data.tokens if isinstance(data, PlannedData) else self.plan.task.max_seq_length
        operations = 2 * weights * tokens
        return max(16, min(self.extent.rows, int(self.extent.operations / max(1, operations))))

    # --- models -----------------------------------------------------------------------------------------------------

    def _look_at_models(self, models: Models, tuned: bool) -> None:
        teacher, student = models.load("teacher"), models.load("student")
        scored = {"teacher": teacher} | ({} if models.is_narrowed else {"student": student})
        scores = score_sample(scored, models.task, self.args)
        report = self.report
        fresh = bool(teacher.fresh or self.recipe.content.get(FROM_SCRATCH))
        report.facts["scores"] = described(scores, tuned, fresh)
        report.doubt(score_doubts(scores, teacher.name, tuned))
        if (labels := label_line(models.task, teacher, tuned)) is not None:
            of_data = report.facts.get("labels")
            report.facts["labels"] = f"{labels}; train: {of_data}" if of_data else labels
        report.facts["tokens"] = self._tokens(models.task, teacher, student)
        report.facts["sizes"] = _sizes({"teacher": teacher, "student": student})
        if isinstance(self.plan.pairs, list) and self.plan.pairs:
            report.facts["pairs"] = _pairs(self.plan, self.stages)

    def _tokens(self, sample: Task, teacher: LoadedModel, student: LoadedModel) -> str:
        tokenizers = self.plan.tokenizers
        shared = not isinstance(tokenizers, Tokenizers) or tokenizers.shared
        parts = ["one tokenizer for both models" if shared else "each model has its own tokenizer"]
        own, others = teacher.input_names, student.input_names
        parts += [f"only the teacher reads {name}" for name in own if name not in others]
        parts += [f"only the student reads {name}" for name in others if name not in own]
        features, looked_at = encode_sample(sample, student.tokenizer)
        line, doubts = cut_rows(sample, features, looked_at, sample.longest(student.tokenizer))
        self.report.doubt([*doubts, *unknown_warnings(features, student.tokenizer)])
        return "; ".join([*parts, *([line] if line else [])])

    # --- time, memory and disk --------------------------------------------------------------------------------------

    def _rehearse(self, models: Models) -> None:
        """Rehearse every stage in turn; a failure of one does not hide those of others."""
        rehearsal = Rehearsal(models, self.folder, self.extent.batches, self.extent.seconds)
        costs = Costs(self.plan, models.task, write_speed(self.folder))
        measured: list[tuple[PlannedStage, Measured]] = []
        found: list[StageCost] = []
        for stage in self.stages:
            if (reason := self._too_large(stage)) is not None:
                self.report.doubt([reason])
                continue
            try:
                measured.append((stage, rehearsal.stage(stage)))
            except torch.OutOfMemoryError:
                self.report.problems.append(_out_of_memory(stage))
                continue
            except NoRoomError as error:
                self.report.problems.append(f"stage {stage.name}: {error}")
                continue
            except InputError as error:
                self.report.problems += [f"stage {stage.name}: {problem}" for problem in error.problems]
                continue
            # Whatever it is, the same code would raise it hours later.
            except Exception as error:
                logger.debug("stage %s", stage.name, exc_info=True)
                found_to_fail = self.report.problems if self.extent.whole else self.report.doubts
                found_to_fail.append(_failed(stage, error))
                continue
            finally:
                memory.release()  # what a stage leaves would count in the next one's peak
            if (cost := costs.stage(*measured[-1])) is not None:
                found.append(cost)
        if measured:
            self._say_time(found, len(measured))
            if self.extent.whole:
                self._say_memory(measured)
                self._say_disk(measured)

    def _too_large(self, stage: PlannedStage) -> str | None:
        """Why a step is not tried on a CPU, where too little memory ends the whole process."""
        there = memory.there(stage.args.device)
        if stage.args.device.type != "cpu" or not isinstance(stage.memory, int):
            return None
        if stage.memory <= there:
            return None
        return (
            f"memory: expected about {size(stage.memory)} or more for stage {stage.name} (an estimate; no "
            f"step was tried), got {size(there)}; {_less_memory(stage)}"
        )

    def _say_time(self, costs: list[StageCost], measured: int) -> None:
        report = self.report
        if not costs:
            report.facts["time"] = "unknown, as the number of updates is"
            return
        report.seconds = sum(cost.seconds for cost in costs)
        part = "" if len(costs) == len(self.stages) else f", for {len(costs)} of {len(self.stages)} stages"
        longest = max(costs, key=lambda cost: cost.seconds)
        report.facts["time"] = (
            f"about {duration(report.seconds)} on {_machine(self.args)}{part}; the longest stage is {longest.name} "
            f"with {duration(longest.seconds)}"
        )
        report.stages = table(costs, memory=self.extent.whole)
        batches = self.extent.batches
        report.notes.append(
            f"Time: each stage made one step on the longest rows as a warm-up, then up to {2 * batches} on batches of "
            "usual lengths; an update from the cache has outputs of a frozen model read from the disk, as in every "
            "epoch but the first. Scoring was timed on a sample. Early stopping would make it less. Not counted: "
            "reading and tokenising the data" + (", making a narrower student" if self._narrows else "")
            + (f", scores on {SCORE_ON}" if self.recipe.content.get(SCORE_ON) else "") + "."
        )  # fmt: skip

    @property
    def _narrows(self) -> bool:
        return bool(self.recipe.run.student_hidden_size)

    def _say_memory(self, measured: list[tuple[PlannedStage, Measured]]) -> None:
        stage, most = max(measured, key=lambda pair: pair[1].peak)
        device = stage.args.device
        there, free = memory.there(device), memory.free(device)
        where = "of the GPU" if device.type == "cuda" else "of the process"
        self.report.facts["memory"] = (
            f"{size(most.peak)} {where} at the peak of {size(there)} there are, measured by a step of stage "
            f"{stage.name} with {stage.args.per_device_train_batch_size} rows of {most.longest} tokens"
        )
        if most.peak > there:
            self.report.problems.append(
                f"memory: expected at most {size(there)}, got {size(most.peak)} in a step of stage "
                f"{stage.name}; {_less_memory(stage)}"
            )
        elif most.peak > free:
            self.report.doubt([
                f"memory: expected {size(most.peak)} to be free for stage {stage.name}, got "
                f"{size(free)}, as other programs take the rest; end them, or {_less_memory(stage)}"
            ])  # fmt: skip

    def _say_disk(self, measured: list[tuple[PlannedStage, Measured]]) -> None:
        needs = [need for need in disk_needs(self.plan, measured) if need.size]
        parts = ", ".join(f"{need.what} {size(need.size)}" for need in needs)
        self.report.facts["disk"] = f"{size(sum(need.size for need in needs))} at the most: {parts}"
        self.report.problems += disk_problems(needs)


def _out_of_memory(stage: PlannedStage) -> str:
    there = memory.there(stage.args.device)
    return (
        f"memory: expected a step of stage {stage.name} to fit into {size(there)} of {stage.args.device}, got more; "
        f"{_less_memory(stage)}"
    )


def _less_memory(stage: PlannedStage) -> str:
    """What to set for less memory: to compute activations again only where that can be, and is not done yet."""
    batches = "lower per_device_train_batch_size and raise gradient_accumulation_steps"
    if not may_recompute(stage.args, stage.can_recompute):
        return f"{batches}, or lower max_seq_length"
    return f"{batches}, lower max_seq_length, or set {RECOMPUTES}: true"


def _failed(stage: PlannedStage, error: Exception) -> str:
    return (
        f"stage {stage.name}: expected its trainer to make a few steps, got {_reason(error)}; change what it names, or "
        "set check: false to try it all the same"
    )


def _reason(error: Exception) -> str:
    return f"{type(error).__name__} ({reason_of(error, 2 * QUOTED)})"


def _machine(args: StageArguments) -> str:
    if args.device.type == "cuda":
        return torch.cuda.get_device_name(args.device)
    threads = torch.get_num_threads()
    return f"this machine ({counted(threads, 'thread')})"


def _weights(model: Any) -> tuple[int, int]:
    """Weights of a model that are no embeddings, and those that are."""
    if not isinstance(model, nn.Module):
        return 0, 0
    of_tables = embedding_parameters(model)
    return sum(weight.numel() for weight in model.parameters()) - of_tables, of_tables


def _sizes(models: dict[str, LoadedModel]) -> str:
    weights = {owner: _weights(loaded.model) for owner, loaded in models.items()}
    parts = [
        f"{owner} {parameters(own)} weights and {parameters(tables)} of embeddings"
        for owner, (own, tables) in weights.items()
    ]
    (of_teacher, _), (of_student, _) = weights.values()
    return f"{'; '.join(parts)}; the student has {100 * of_student / max(1, of_teacher):.0f} % of the teacher's weights"


def _pairs(plan: Plan, stages: list[PlannedStage]) -> str:
    """Each pair with the widths of its states, and how each method bridges them."""
    assert isinstance(plan.pairs, list)
    widths = [width(model.config) for model in plan.models.values() if isinstance(model, PlannedModel)]
    pairs = ", ".join(f"teacher {first} ({widths[0]}) : student {second} ({widths[1]})" for first, second in plan.pairs)
    bridges = [
        f"{stage.name} by {_filter(stage.method.filters)}"
        for stage in stages
        if stage.method is not None and stage.method.pairs
    ]
    return f"{pairs}; matched through {', '.join(bridges)}" if bridges else pairs


def _filter(config: FilterConfig | None) -> str:
    if config is None:
        return "nothing, as they are"
    kind = "nonlinear" if config.filter_nonlinear else "linear"
    return f"{kind} filters of the student ({config.hidden_size} -> {config.filter_output_dim})"
