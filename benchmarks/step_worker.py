"""One run that `steps.py` times: a process of its own that makes a step whenever it is told to.

    python benchmarks/step_worker.py JOB

JOB is the JSON of a `Job`. The process speaks JSON lines on stdout: first what it is (`ready`), then the seconds of
a step for each line `step` on stdin, and after `stop` its peak memory.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import os
import platform
import resource
import sys
import tempfile
import time
from functools import partial
from typing import Any, TextIO

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import DebertaV2Config, PreTrainedTokenizerFast, TrainerCallback, TrainerControl

from step_flops import CLASSES, KL_ALPHA, LEARNING_RATE, MSE_ALPHA, SHAPES, TEMPERATURE, Shape, Shapes
from ted_distill.arguments import StageArguments
from ted_distill.filters import FilterConfig, Filters, make_pairs
from ted_distill.models import LoadedModel
from ted_distill.stages.distill import DistillTrainer
from ted_distill.stages.learn_filters import FilterLearner, LearnFiltersTrainer
from ted_distill.tasks import Task, TaskArguments, load_task
from ted_distill.teacher import LiveTeacher
from ted_distill.trainer import StageTrainer

SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
TASKS = {"classification": "sst2", "qa": "squad_v2"}
DISTINCT_TOKENS = 20_000
"""Distinct tokens in the data where it has room for them: what freezing unseen embeddings saves depends on it."""
_PRODUCTS = [(3072, 768, 3072), (3072, 3072, 768), (4096, 4096, 4096)]
_REPEATS = 6


@dataclasses.dataclass
class Job:
    """What a worker does."""

    variant: str
    arguments: dict[str, Any]
    """Fields of `StageArguments`; those that this version does not have are left out."""
    device: str = "cpu"
    shapes: str = "base-xsmall"
    stage: int = 2
    task: str = "classification"
    length: int = 32
    batch_size: int = 8
    steps: int = 1
    epochs: int = 1
    """With more than one, `steps` are those of an epoch and the data are gone through so many times."""


# --- ours: all that touches the classes of the package --------------------------------------------------------


def make_trainer(
    stage: int,
    task: Task,
    teacher: LoadedModel,
    student: LoadedModel | None,
    features: Dataset,
    arguments: StageArguments,
) -> StageTrainer:
    """The trainer that `ted learn-filters` (stage 1, on the teacher) or `ted distill --method ted` would make."""
    teacher_filters = random_filters(teacher, teacher)
    if stage == 1:
        width = teacher.model.config.hidden_size
        heads = torch.nn.ModuleList(task.filter_head(width, teacher.model.config) for _ in teacher_filters.blocks)
        learner = FilterLearner(teacher.with_filters(teacher_filters, task), heads)
        return LearnFiltersTrainer(learner, arguments, task, teacher.tokenizer, features, {})
    assert student is not None
    student_filters = random_filters(student, teacher)
    return DistillTrainer(
        student.with_filters(student_filters, task), arguments, task, student.tokenizer, features, {},
        teacher=LiveTeacher(teacher.with_filters(teacher_filters, task)).to(arguments.device),
        pairs=make_pairs(teacher_filters.blocks, student_filters.blocks),
        kl_alpha=KL_ALPHA, mse_alpha=MSE_ALPHA, temperature=TEMPERATURE,
    )  # fmt: skip


def random_filters(owner: LoadedModel, teacher: LoadedModel) -> Filters:
    """Filters after every block, as wide as the teacher."""
    return Filters.random(FilterConfig.for_model(owner.model.config, 1, teacher.model.config.hidden_size))


def make_arguments(job: Job, folder: str) -> StageArguments:
    """Nothing but training: no scores, no checkpoints, no curves."""
    known = {field.name for field in dataclasses.fields(StageArguments)}
    length = {"num_train_epochs": job.epochs} if job.epochs > 1 else {"max_steps": job.steps}
    return StageArguments(
        output_dir=folder, per_device_train_batch_size=job.batch_size, learning_rate=LEARNING_RATE,
        eval_strategy="no", save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=job.device == "cpu",
        **length, **{name: value for name, value in job.arguments.items() if name in known},
    )  # fmt: skip


# --- models and data ------------------------------------------------------------------------------------------


def make_task(job: Job) -> Task:
    """A task whose labels are known without data, and whose rows are not padded."""
    return load_task(TaskArguments(task=TASKS[job.task], max_seq_length=job.length))


def make_model(name: str, shape: Shape, shapes: Shapes, task: Task) -> LoadedModel:
    """A random model with the task's head, the same in every process."""
    config = DebertaV2Config(
        vocab_size=shapes.vocabulary, num_hidden_layers=shape.blocks, hidden_size=shape.width,
        num_attention_heads=shape.heads, intermediate_size=shape.intermediate, num_labels=CLASSES,
        max_position_embeddings=shapes.max_positions, position_buckets=shapes.position_buckets,
        relative_attention=True, norm_rel_ebd="layer_norm", share_att_key=True, pos_att_type=["p2c", "c2p"],
        layer_norm_eps=1e-7, position_biased_input=False, type_vocab_size=0, max_relative_positions=-1,
    )  # fmt: skip
    torch.manual_seed(0)
    vocabulary = {token: number for number, token in enumerate(SPECIAL)}
    # Needed for its padding and for what a batch holds; nothing is tokenised.
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]")),
        pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]", mask_token="[MASK]",
        model_max_length=shapes.max_positions, model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip
    return LoadedModel(name, task.auto_model.from_config(config, dtype=torch.float32), tokenizer)


def make_features(job: Job) -> Dataset:
    """Rows of `length` random tokens with labels, the same in every process."""
    generator = torch.Generator().manual_seed(1)
    vocabulary = SHAPES[job.shapes].vocabulary - len(SPECIAL)
    used = len(SPECIAL) + torch.randperm(vocabulary, generator=generator)[: min(DISTINCT_TOKENS, vocabulary)]
    rows = job.steps * job.batch_size
    if job.epochs == 1:
        rows = max(rows, math.ceil(len(used) / job.length))
    tokens = used[torch.randint(len(used), (rows * job.length,), generator=generator)]
    each_once = used[: len(tokens)]
    tokens[: len(each_once)] = each_once
    ids = tokens.view(rows, job.length)
    ones = torch.ones_like(ids).tolist()
    labels = torch.randint(CLASSES, (rows,), generator=generator).tolist()
    names = ["labels"] if job.task == "classification" else ["start_positions", "end_positions"]
    return Dataset.from_dict(
        {
            "input_ids": ids.tolist(),
            "token_type_ids": torch.zeros_like(ids).tolist(),
            "attention_mask": ones,
            "length": [job.length] * rows,
            **dict.fromkeys(names, labels),
        }
    )


# --- one step at a time ---------------------------------------------------------------------------------------


class Pacer:
    """Waits for the parent before each step, and tells it the seconds after."""

    def __init__(self, device: str, answers: TextIO) -> None:
        self.on_cuda = device == "cuda"
        self.answers = answers
        self.said: dict[str, Any] | None = None
        self.created = time.perf_counter()
        self.started = 0.0

    def wait(self) -> bool:
        """Whether there is to be another step; its clock starts now."""
        if self.said is not None:
            self.say({**self.said, "start_seconds": time.perf_counter() - self.created})
            self.said = None
        if sys.stdin.readline().strip() != "step":
            return False
        self.synchronize()
        self.started = time.perf_counter()
        return True

    def done(self) -> None:
        """The step is made."""
        self.synchronize()
        self.say({"seconds": time.perf_counter() - self.started})

    def say(self, message: dict[str, Any]) -> None:
        """Send one line."""
        self.answers.write(json.dumps(message) + "\n")
        self.answers.flush()

    def synchronize(self) -> None:
        """A GPU works on after a call returned."""
        if self.on_cuda:
            torch.cuda.synchronize()


class PacedSteps(TrainerCallback):
    """Waits at the end of each step for the next, so that loading data, logging and epochs' ends are in the time."""

    def __init__(self, pacer: Pacer) -> None:
        self.pacer = pacer

    def on_train_begin(self, args: Any, state: Any, control: TrainerControl, **_: Any) -> None:
        """All is set up."""
        self.pacer.wait()

    def on_step_end(self, args: Any, state: Any, control: TrainerControl, **_: Any) -> TrainerControl:
        """A step is made; the last one ends the training."""
        self.pacer.done()
        control.should_training_stop = not self.pacer.wait()
        return control


def run(job: Job, pacer: Pacer) -> None:
    """Set up what the job says and train as long as the parent asks for steps."""
    task, shapes = make_task(job), SHAPES[job.shapes]
    teacher = make_model("teacher", shapes.teacher, shapes, task)
    student = make_model("student", shapes.student, shapes, task) if job.stage == 2 else None
    features = make_features(job)
    distinct = len({token for row in features["input_ids"] for token in row})
    pacer.said = {**about(job), "rows": len(features), "distinct_tokens": distinct}
    with tempfile.TemporaryDirectory() as folder:
        if job.variant == "textbrewer" and student is not None:
            from textbrewer_lwd import distill

            loader = DataLoader(features, job.batch_size, shuffle=True, drop_last=True,
                                collate_fn=partial(task.collate, tokenizer=student.tokenizer))  # fmt: skip
            distill(teacher.model, student.model, loader, job.steps * job.epochs, job.device, folder, pacer)
        else:
            trainer = make_trainer(job.stage, task, teacher, student, features, make_arguments(job, folder))
            trainer.add_callback(PacedSteps(pacer))
            trainer.train()
    pacer.say({"peak_bytes": peak_bytes(job.device)})


def measure_rate(job: Job, pacer: Pacer) -> None:
    """Answer each `step` with the operations a second of the fastest large bf16 product."""
    sizes = _PRODUCTS if job.shapes != "tiny" else [(256, 256, 256)]
    if job.device == "cuda":
        sizes = [*sizes, (16384, 8192, 8192)]
    pacer.said = about(job)
    while pacer.wait():
        pacer.say({"flops_per_second": max(product_rate(*size, pacer) for size in sizes)})


def product_rate(rows: int, inner: int, columns: int, pacer: Pacer) -> float:
    """Operations a second of one bf16 Linear, the best of several."""
    inputs = torch.randn(rows, inner).to("cuda" if pacer.on_cuda else "cpu", torch.bfloat16)
    weight = torch.randn(columns, inner).to(inputs)
    best = math.inf
    for _ in range(_REPEATS):
        pacer.synchronize()
        start = time.perf_counter()
        F.linear(inputs, weight)
        pacer.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * rows * inner * columns / best


def peak_bytes(device: str) -> int:
    """Most memory so far: of the process on a CPU, of tensors on a GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def about(job: Job) -> dict[str, Any]:
    """Versions, device, and the arguments that are in force."""
    known = {field.name for field in dataclasses.fields(StageArguments)}
    packages = ["torch", "transformers", "accelerate", "ted-distill"]
    packages += ["textbrewer"] if job.variant == "textbrewer" else []
    return {
        "versions": {"python": platform.python_version(), **{p: importlib.metadata.version(p) for p in packages}},
        "threads": torch.get_num_threads(),
        "device_name": torch.cuda.get_device_name() if job.device == "cuda" else None,
        "arguments": {name: value for name, value in job.arguments.items() if name in known},
    }


def main() -> None:
    """Run one job; whatever else is printed goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = Job(**json.loads(sys.argv[1]))
    pacer = Pacer(job.device, answers)
    if job.variant == "rate":
        measure_rate(job, pacer)
    else:
        run(job, pacer)


if __name__ == "__main__":
    main()
