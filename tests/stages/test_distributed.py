"""Two processes give the step that one gives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from tiny import save_tiny, write_reviews


def test_two_processes_of_four_rows_give_the_step_of_one_process_of_eight(tmp_path: Path) -> None:
    """Stage II with layer losses, so that rows, labels and real tokens are all counted over processes."""
    teacher = save_tiny(tmp_path / "teacher", AutoModelForSequenceClassification, blocks=2, **named())
    student = save_tiny(tmp_path / "student", AutoModelForSequenceClassification, blocks=2, width=8, **named())
    flags = [
        "distill",
        "--method",
        "lwd",
        "--teacher_name_or_path",
        str(teacher),
        "--student_name_or_path",
        str(student),
    ]
    flags += ["--task", "sequence_classification", "--optim", "sgd", "--learning_rate", "0.1", "--max_grad_norm", "0"]
    flags += ["--train_file", str(write_reviews(tmp_path, 24, "train")), "--max_steps", "2", "--disable_tqdm", "true"]
    flags += ["--validation_file", str(write_reviews(tmp_path, 11, "validation")), "--use_cpu", "true"]
    flags += ["--bf16", "false", "--frozen_dtype", "float32"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    for name, launcher, size in (
        ("one", [sys.executable], 8),
        ("two", [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"], 4),
    ):
        command = [*launcher, "-m", "ted_distill", *flags, "--per_device_train_batch_size", str(size)]
        done = subprocess.run(
            [*command, "--output_dir", str(tmp_path / name)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one, two, before = (
        load_file(folder / "model.safetensors") for folder in (tmp_path / "one", tmp_path / "two", student)
    )
    moved = max(float((one[name] - before[name]).abs().max()) for name in before)
    apart = max(float((one[name] - two[name]).abs().max()) for name in before)
    assert moved > 1e-3
    assert apart < 1e-4 * moved
    scores = [(tmp_path / name / "all_results.json").read_text().split('"metric"')[0] for name in ("one", "two")]
    assert scores[0] == scores[1]
    assert torch.isfinite(torch.stack([tensor.sum() for tensor in two.values()])).all()


def named() -> dict[str, object]:
    """No dropout, and the labels of the reviews."""
    labels = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
    return {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, **labels}
