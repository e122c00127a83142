"""The code on the page docs/add-a-task.md runs as it is, and does what the page promises."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from ted_distill import load_task
from ted_distill.method.layer_losses import LAYER_LOSSES
from ted_distill.tasks import TASKS, TaskArguments
from tiny import save_tiny, tiny_tokenizer

PAGE = Path(__file__).parents[2] / "docs" / "add-a-task.md"


@pytest.fixture
def page(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The names that the page's code defines when run on tiny models; what it registers is removed again."""
    for name, rows in (("train", 30), ("validation", 15)):
        words = ["awful", "dull", "fine", "good", "great"]
        lines = [
            json.dumps({"text": f"the film was {words[row % 5]}", "label": f"{row % 5 + 1} stars"})
            for row in range(rows)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    names: dict[str, Any] = {
        "TRAIN_FILE": str(tmp_path / "train.jsonl"),
        "VALIDATION_FILE": str(tmp_path / "validation.jsonl"),
        "TEACHER": save_tiny(tmp_path / "big", AutoModelForSequenceClassification, blocks=2, initializer_range=0.2),
        "STUDENT": save_tiny(tmp_path / "small", AutoModelForSequenceClassification, blocks=2, seed=1),
        "RUNS": str(tmp_path / "runs"),
        "TRAINING": {
            "num_train_epochs": 8, "per_device_train_batch_size": 5, "learning_rate": 1e-2, "disable_tqdm": True
        },
    }  # fmt: skip
    tasks, layer_losses = dict(TASKS), dict(LAYER_LOSSES)
    try:
        for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
            exec(compile(block, str(PAGE), "exec"), names)
        yield names
    finally:
        for registered, before in ((TASKS, tasks), (LAYER_LOSSES, layer_losses)):
            registered.clear()
            registered.update(before)


@pytest.mark.long
def test_the_page_adds_a_task_and_a_layer_loss_that_all_stages_use(page: dict[str, Any]) -> None:
    runs = Path(page["RUNS"])
    stages = ("teacher", "student", "teacher_filters", "student_filters", "kd", "lwd", "ted")
    for name in (*stages, "huber", "normalized_huber"):
        results = json.loads((runs / name / "all_results.json").read_text())
        assert results["metric"] == "mean_error"
        assert results["mean_error"] >= 0
        model = AutoModelForSequenceClassification.from_pretrained(runs / name)
        assert model.config.num_labels == 4
    # Always three stars would be wrong by 1.2; the best checkpoint is that of the least error.
    assert json.loads((runs / "teacher" / "all_results.json").read_text())["mean_error"] < 1.0
    for name in ("huber", "normalized_huber"):
        identity = json.loads((runs / name / "settings.json").read_text())["identity"]
        assert identity["distill"]["layer_loss"] == name

    task = load_task(TaskArguments("ordinal_classification", train_file=page["TRAIN_FILE"]))
    features = task.encode(task.rows["train"], tiny_tokenizer())
    batch = task.collate([features[row] for row in range(8)], tiny_tokenizer())
    logits = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    # By hand: a row's label is above as many steps as its number.
    expected = sum(
        torch.nn.functional.softplus(-z if label > step else z)
        for row, label in zip(logits, batch["labels"].tolist(), strict=True)
        for step, z in enumerate(row)
    )
    assert torch.allclose(task.loss(logits, batch), expected / 32)
    # 1 x 8 and 2 x 4.
    count = task.counts(batch).labels
    halves = [slice(0, 4), slice(4, 8)]
    parts = [task.loss(logits[half], {name: t[half] for name, t in batch.items()}, count) for half in halves]
    assert torch.allclose(sum(parts), task.loss(logits, batch))

    states, others = (torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    found = page["huber_layer_loss"](states, others, mask)
    states[mask == 0] = torch.nan
    assert torch.allclose(page["huber_layer_loss"](states, others, mask), found)
    difference = (states - others)[mask != 0].abs()
    assert torch.allclose(found, torch.where(difference < 1, difference**2 / 2, difference - 0.5).mean())

    # Where all differences are small the loss is quadratic, and dividing by the variance takes any scale out of it.
    small, variance = 0.01 * states.nan_to_num(), torch.tensor(0.25)
    found = page["normalized_huber_layer_loss"](small, 0.01 * others, mask, teacher_variance=variance)
    assert torch.allclose(found, page["huber_layer_loss"](small, 0.01 * others, mask) / variance)


def test_the_task_of_the_page_is_about_forty_lines() -> None:
    first = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)[0]
    assert len([line for line in first.splitlines() if line.strip()]) <= 42
