"""Models that do not run in autocast are trained, rehearsed and scored in float32; all others are left in it."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, DebertaConfig

from quick_stages import LABELS, quick_arguments, reviews_task
from small_runs import write_recipe
from ted_distill import DistillArguments, Task, distill, evaluate, finetune, load_model, read_recipe, run
from ted_distill.runs.checking.examine import WHOLE, examine
from ted_distill.runs.planning import plan
from ted_distill.stages.autocast import fitting_autocast
from ted_distill.tasks import load_task
from tiny import save_tiny, tiny_tokenizer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return reviews_task(tmp_path_factory.mktemp("reviews"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    bert = save_tiny(root / "bert", AutoModelForSequenceClassification, **LABELS)
    return {"bert": bert, "deberta": save_deberta(root / "deberta")}


def save_deberta(folder: Path, blocks: int = 2) -> Path:
    """A DeBERTa of version 1: it fills in a number that bfloat16 does not hold."""
    config = DebertaConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=blocks, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=70, pos_att_type=["c2p", "p2c"], relative_attention=True, **LABELS,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def autocast_of(folder: Path) -> str:
    return json.loads((folder / "settings.json").read_text(encoding="utf-8"))["identity"]["arguments"]["bf16"]


@pytest.mark.parametrize(("family", "kept"), [("deberta", "False"), ("bert", "True")])
def test_stages_take_float32_only_for_a_model_that_does_not_run_otherwise(
    models: dict[str, Path], reviews: Task, tmp_path: Path, family: str, kept: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        finetune(models[family], reviews, quick_arguments(tmp_path / "tuned", bf16=True))
        teacher = tmp_path / "tuned"
        distill(teacher, models[family], reviews, quick_arguments(tmp_path / "kd", bf16=True), DistillArguments("kd"))
    assert (autocast_of(tmp_path / "tuned"), autocast_of(tmp_path / "kd")) == (kept, kept)
    said = [line for line in caplog.messages if "to run in bf16 autocast, got an error" in line]
    assert len(said) == (family == "deberta"), "once"


def test_a_model_that_does_not_run_in_bf16_has_the_scores_of_float32(models: dict[str, Path], reviews: Task) -> None:
    scores = [evaluate(models["deberta"], reviews, mixed_precision=kind) for kind in ("bf16", "no")]
    assert scores[0] == scores[1]


def test_trying_it_leaves_the_model_and_the_random_numbers_as_they_were(models: dict[str, Path], reviews: Task) -> None:
    for family, found in (("deberta", "no"), ("bert", "bf16")):
        loaded = load_model(models[family], reviews)
        before = {name: weight.clone() for name, weight in loaded.model.state_dict().items()}
        state = torch.get_rng_state()
        assert fitting_autocast(loaded, reviews, CPU, "bf16") == found
        assert fitting_autocast(loaded, reviews, CPU, "no") == "no"
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(weight, before[name]) for name, weight in loaded.model.state_dict().items())
        assert not loaded.model.training


def test_predictions_that_are_no_numbers_are_a_reason(models: dict[str, Path], reviews: Task) -> None:
    loaded = load_model(models["bert"], reviews)
    with torch.no_grad():
        loaded.model.classifier.bias.fill_(torch.nan)
    assert fitting_autocast(loaded, reviews, CPU, "bf16") == "no"


def test_a_run_of_such_a_model_is_rehearsed_and_goes_on_without_its_teacher(tmp_path: Path) -> None:
    file = write_recipe(tmp_path, "sequence_classification")
    given = [f"{owner}={save_deberta(tmp_path / owner, blocks)}" for owner, blocks in (("teacher", 4), ("student", 2))]
    own = [
        *given,
        f"output_dir={tmp_path / 'run'}",
        "methods=[kd]",
        "training.bf16=true",
        "training.num_train_epochs=1",
    ]
    recipe = read_recipe(file, own)
    report = examine(plan(recipe, load_task(recipe.task)), WHOLE)
    assert not report.problems
    first = run(recipe)
    shutil.rmtree(tmp_path / "run" / "teacher")
    again = run(read_recipe(file, own))
    assert again["kd"]["accuracy"] == first["kd"]["accuracy"]
