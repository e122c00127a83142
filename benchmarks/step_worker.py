"""One run that `steps.py` times: a separate process that makes a step whenever it is told to.

    python benchmarks/step_worker.py JOB

JOB is the JSON of a `Job`. The process speaks JSON lines on stdout: first what it is, then the seconds of a step for
each line `step` on stdin, and after `stop` its peak memory.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainerControl

from step_flops import SHAPES
from step_trainers import Job, arguments_in_force, make_arguments, make_features, make_model, make_task, make_trainer
from steps import PACKAGES

_PRODUCTS = [(3072, 768, 3072), (3072, 3072, 768), (4096, 4096, 4096)]
"""Rows, inner and outer width of the matrices; of a feed-forward layer of the teacher, and larger."""
_REPEATS = 6
_ENOUGH = 5.0
"""Seconds after which no more products are timed."""


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
        """The step is finished."""
        self.synchronize()
        self.say({"seconds": time.perf_counter() - self.started})

    def say(self, message: dict[str, Any]) -> None:
        """Send one line."""
        self.answers.write(json.dumps(message) + "\n")
        self.answers.flush()

    def synchronize(self) -> None:
        """Wait for the device: a GPU continues to work after a call has returned."""
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
        """A step is finished; the last one ends the training."""
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

            collate = partial(task.collate, tokenizer=student.tokenizer)
            loader = DataLoader(features, job.batch_size, shuffle=True, drop_last=True, collate_fn=collate)
            distill(teacher.model, student.model, loader, job.steps * job.epochs, job.device, folder, pacer)
        elif job.variant == "silverspoon" and student is not None:
            import silverspoon_lwd

            collate = partial(task.collate, tokenizer=student.tokenizer)
            silverspoon_lwd.distill(
                teacher.model, student.model, features, collate, job.batch_size, job.steps * job.epochs, job.device,
                folder, PacedSteps(pacer),
            )  # fmt: skip
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
        began, best = time.perf_counter(), 0.0
        for size in sizes:
            # Without units for bf16, the largest takes half a minute each time, and is no faster.
            if best == 0 or time.perf_counter() - began < _ENOUGH:
                best = max(best, product_rate(*size, pacer))
        pacer.say({"flops_per_second": best})


def product_rate(rows: int, inner: int, columns: int, pacer: Pacer) -> float:
    """Operations a second of one bf16 Linear, the best of several."""
    inputs = torch.randn(rows, inner).to("cuda" if pacer.on_cuda else "cpu", torch.bfloat16)
    weight = torch.randn(columns, inner).to(inputs)
    best, began = math.inf, time.perf_counter()
    for _ in range(_REPEATS):
        if best < math.inf and time.perf_counter() - began > _ENOUGH:
            break
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
    # Not ru_maxrss: that begins with what the parent had when it started this process.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def about(job: Job) -> dict[str, Any]:
    """Versions, device, and the arguments that are in force."""
    packages = ["torch", "transformers", "accelerate", "ted-distill"]
    packages += [PACKAGES[job.variant]] if job.variant in PACKAGES else []
    return {
        "versions": {"python": platform.python_version(), **{p: importlib.metadata.version(p) for p in packages}},
        "threads": torch.get_num_threads(),
        "device_name": torch.cuda.get_device_name() if job.device == "cuda" else None,
        "arguments": arguments_in_force(job),
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
