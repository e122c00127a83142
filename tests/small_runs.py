"""A recipe of all stages on tiny models, for tests that interrupt, kill and damage runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ted_distill import load_task
from ted_distill.training.trainer import StageTrainer
from tiny import save_tiny, write_entities, write_questions, write_reviews, write_text

TASKS = {
    "sequence_classification": (write_reviews, "bert", 27, {}),
    "squad_v2": (write_questions, "bert", 27, {"max_seq_length": 64, "doc_stride": 8}),
    "token_classification": (write_entities, "bert", 27, {}),
    "causal_lm": (write_text, "gpt2", 60, {"max_seq_length": 16}),
    "masked_lm": (write_text, "bert", 60, {"max_seq_length": 16}),
}
"""Task -> what writes its rows, the models' family, rows to train on, and the task's own keys."""


class Cut(BaseException):
    """Stands for the end of the process: nothing in the project catches it."""


@contextmanager
def cut_off_at(step: int, stage: str | None = None) -> Iterator[None]:
    """What trains in here is cut off after `step` updates, or the test fails; of a run, the stage with this folder."""
    training_step = StageTrainer.training_step

    def step_or_cut(self: StageTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.state.global_step == step and stage in (None, Path(self.args.output_dir).name):
            raise Cut
        return training_step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageTrainer, "training_step", step_or_cut)
        with pytest.raises(Cut):
            yield


def write_recipe(folder: Path, task: str, **training: object) -> Path:
    """A recipe of all stages on tiny models with dropout, an odd number of rows, and checkpoints every three steps."""
    write, family, rows, own = TASKS[task]
    auto_class = load_task(task).auto_model
    recipe = {
        "task": task,
        "train_file": str(write(folder, rows, "train")),
        "validation_file": str(write(folder, 12, "validation")),
        **own,
        "teacher": str(save_tiny(folder / "big", auto_class, family, blocks=4)),
        "student": str(save_tiny(folder / "small", auto_class, family, blocks=2, width=8, seed=1)),
        "ted": {"student_filters": "learned", "mse_alpha": 1},
        "training": {
            "num_train_epochs": 2,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-3,
            "eval_strategy": "steps",
            "save_strategy": "steps",
            "eval_steps": 3,
            "save_steps": 3,
            "disable_tqdm": True,
            "use_cpu": True,
            **training,
        },
    }
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return file


def made(run_folder: Path) -> dict[str, bytes]:
    """The files of a finished run, without what differs from one to the next: times, commands, and their sums."""
    files = [file for file in sorted(run_folder.rglob("*")) if file.is_file() and file.name != "run.log"]
    found = {str(file.relative_to(run_folder)): file.read_bytes() for file in files}
    for name, content in found.items():
        if name.endswith("results.json"):
            found[name] = json.dumps(_timeless(json.loads(content))).encode()
        elif name.endswith("history.jsonl"):
            found[name] = json.dumps([_timeless(json.loads(line)) for line in content.splitlines()]).encode()
        elif Path(name).name in ("stage.json", "results.md", "recipe.yaml"):
            found[name] = b""
        elif name.endswith("README.md"):
            found[name] = _COMMAND.sub(b"", content)
    return found


def differing(found: Path | dict[str, bytes], wanted: Path | dict[str, bytes]) -> dict[str, str]:
    """What differs between two runs, by file: a folder of bytes is too long to read, or for a log to keep."""
    left, right = (made(run) if isinstance(run, Path) else run for run in (found, wanted))
    said = {name: f"only {'found' if name in left else 'wanted'}" for name in left.keys() ^ right.keys()}
    for name in left.keys() & right.keys():
        if left[name] != right[name]:
            place = next((i for i, (a, b) in enumerate(zip(left[name], right[name], strict=False)) if a != b), -1)
            around = slice(max(0, place - 60), place + 60)
            said[name] = f"at byte {place}: found {left[name][around]!r}, wanted {right[name][around]!r}"
    return said


_COMMAND = re.compile(rb"(?<=## How it was made\n\n```\n).*(?=\n```)")


def _timeless(results: dict) -> dict:
    inner = {name: _timeless(value) if isinstance(value, dict) else value for name, value in results.items()}
    return {name: value for name, value in inner.items() if "seconds" not in name}
