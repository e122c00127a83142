"""Scores on a large offset are exact to float32 in bf16 autocast, and so is what a frozen bf16 teacher says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from quick_stages import quick_arguments
from ted_distill import Task, TaskArguments, finetune, load_model, load_task
from ted_distill.fast.precision import cast_weights
from ted_distill.method.exact_linear import ExactLinear, make_exact
from tiny import save_tiny


@pytest.fixture
def task(tmp_path: Path) -> Task:
    rows = [{"text": f"the film was {'very ' * (row % 5)}good", "label": 992.0 + row % 16} for row in range(64)]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return load_task(TaskArguments("regression", train_file=str(file), validation_file=str(file)))


def scores(model: Any, task: Task, tokenizer: Any, autocast: bool) -> torch.Tensor:
    texts = tokenizer(
        [row["text"] for row in task.rows["validation"].select(range(5))], padding=True, return_tensors="pt"
    )
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        return model(**texts).logits.flatten()


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "deberta-v2", "gpt2"])
@pytest.mark.parametrize("frozen", [False, True])
def test_scores_near_1000_are_not_rounded_to_steps_of_4(family: str, frozen: bool, task: Task, tmp_path: Path) -> None:
    save_tiny(tmp_path / "model", AutoModelForSequenceClassification, family, num_labels=1, problem_type="regression")
    loaded = load_model(tmp_path / "model", task)
    model = loaded.model.eval()
    (last,) = (layer for layer in model.modules() if isinstance(layer, ExactLinear))
    with torch.no_grad():
        last.weight *= 50
        if last.bias is not None:
            last.bias += 997.3
    exact = scores(model, task, loaded.tokenizer, autocast=False)
    if frozen:
        cast_weights(model, torch.bfloat16)
        assert {last.weight.dtype, next(model.parameters()).dtype} == {torch.float32, torch.bfloat16}
    found = scores(model, task, loaded.tokenizer, autocast=not frozen)
    assert found.dtype == torch.float32
    assert len(found.unique()) > 1
    assert (found - exact).abs().max() < 0.05


def test_a_training_in_bf16_scores_as_in_float32(task: Task, tmp_path: Path) -> None:
    save_tiny(tmp_path / "model", AutoModelForSequenceClassification, num_labels=1, problem_type="regression")
    found = finetune(tmp_path / "model", task, quick_arguments(tmp_path / "out", bf16=True, max_steps=2))
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    labels = np.array(task.rows["validation"]["label"][:])
    tokenizer = load_model(tmp_path / "out", task).tokenizer
    texts = tokenizer([row["text"] for row in task.rows["validation"]], padding=True, return_tensors="pt")
    with torch.no_grad():
        predicted = saved(**texts).logits.flatten().numpy()
    assert found["mse"] == pytest.approx(float(np.mean((predicted - labels) ** 2)), rel=1e-3)


def test_an_exact_layer_is_an_ordinary_one_where_nothing_is_rounded() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(8, 1).double()
    inputs = torch.randn(3, 8, dtype=torch.float64)
    expected = layer(inputs)
    make_exact(layer, 1)
    assert torch.equal(layer(inputs), expected)
    assert list(layer.state_dict()) == ["weight", "bias"]
