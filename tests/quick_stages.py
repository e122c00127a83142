"""Reviews of two classes, and arguments of a short stage on a CPU, for tests that run single stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ted_distill import StageArguments, Task, TaskArguments, load_task
from tiny import write_reviews

LABELS = {"id2label": {0: "bad", 1: "good"}}


def reviews_task(folder: Path, rows: int = 24) -> Task:
    """A task with this many reviews to train on and 12 to score on."""
    files = write_reviews(folder, rows, "train"), write_reviews(folder, 12, "validation")
    return load_task(TaskArguments("sequence_classification", train_file=str(files[0]), validation_file=str(files[1])))


def quick_arguments(folder: Path, **changes: Any) -> StageArguments:
    """Two epochs in batches of 8 at a rate of 1e-3."""
    defaults = {"per_device_train_batch_size": 8, "num_train_epochs": 2, "learning_rate": 1e-3, "disable_tqdm": True}
    return StageArguments(str(folder), **(defaults | {"use_cpu": True} | changes))
