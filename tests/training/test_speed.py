"""What the stages change inside a model: on by default, switched off one by one, and taken back at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from ted_distill import DistillArguments, StageArguments, TaskArguments, distill, finetune, load_task
from ted_distill.errors import InputError
from ted_distill.fast.disentangled_attention import FastDisentangledSelfAttention
from ted_distill.fast.dropout import FastDropout
from ted_distill.fast.embeddings import SeenEmbedding
from ted_distill.fast.precision import does_bfloat16_well, resolve_dtype
from ted_distill.method.filters import FilteredModel
from ted_distill.training.speed import freeze_unseen_rows
from ted_distill.training.trainer import StageTrainer
from tiny import CLASSES, save_tiny, write_reviews

FAST = {FastDisentangledSelfAttention, FastDropout, SeenEmbedding}
PLAIN = {"disentangled_attention": "plain", "fast_dropout": False, "freeze_unseen_embeddings": False}


def _arguments(folder: Path, **more: Any) -> StageArguments:
    values = {"max_steps": 3, "learning_rate": 1e-2, "disable_tqdm": True, "use_cpu": True, **more}
    return StageArguments(str(folder), **values)


def _task(folder: Path) -> TaskArguments:
    return TaskArguments(
        "sequence_classification",
        train_file=str(write_reviews(folder, 24, "train")),
        validation_file=str(write_reviews(folder, 8, "validation")),
    )


def _model(folder: Path, **changes: Any) -> Path:
    changes = {"vocab_size": 200, **CLASSES, **changes}
    return save_tiny(folder, AutoModelForSequenceClassification, "deberta-v2", **changes)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[StageTrainer]:
    """Trainers, and in `kinds` the classes of their models' modules while they train."""
    trainers: list[StageTrainer] = []
    fit = StageTrainer.fit

    def watched(self: StageTrainer) -> Any:
        trainers.append(self)
        self.kinds = {type(module) for module in self.model.modules()}
        return fit(self)

    monkeypatch.setattr(StageTrainer, "fit", watched)
    return trainers


def _kinds(model: nn.Module) -> set[type]:
    return {type(module) for module in model.modules()} & FAST


def test_all_is_on_by_default_and_the_model_that_comes_out_is_a_plain_one(
    tmp_path: Path, trained: list[StageTrainer]
) -> None:
    finetune(_model(tmp_path / "m"), load_task(_task(tmp_path)), _arguments(tmp_path / "out"))
    assert trained[0].kinds >= FAST
    model: PreTrainedModel = trained[0].model.model
    assert not _kinds(model)
    assert all(weight.requires_grad for weight in model.parameters())
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert saved.keys() == load_file(tmp_path / "m" / "model.safetensors").keys()
    assert saved["deberta.embeddings.word_embeddings.weight"].shape == (200, 16)


@pytest.mark.parametrize(
    ("switch", "off"),
    [
        ({"disentangled_attention": "plain"}, FastDisentangledSelfAttention),
        ({"fast_dropout": False}, FastDropout),
        ({"freeze_unseen_embeddings": False}, SeenEmbedding),
        ({"weight_decay": 0.1}, SeenEmbedding),
        ({"optim": "sgd"}, SeenEmbedding),
        ({"optim": "adafactor"}, SeenEmbedding),
    ],
)
def test_each_part_can_be_switched_off(
    tmp_path: Path, trained: list[StageTrainer], switch: dict[str, Any], off: type
) -> None:
    finetune(_model(tmp_path / "m"), load_task(_task(tmp_path)), _arguments(tmp_path / "out", **switch))
    assert trained[0].kinds & FAST == FAST - {off}


@pytest.mark.parametrize(("tokens", "rows"), [(20, 19), (21, 0)])
def test_a_vocabulary_that_mostly_occurs_is_trained_as_it_is(tmp_path: Path, tokens: int, rows: int) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(_model(tmp_path / "m", vocab_size=40))
    features = Dataset.from_dict({"input_ids": [list(range(tokens))]})
    freeze_unseen_rows(model, _arguments(tmp_path), load_task(_task(tmp_path)), features, pad_token_id=0)
    trained = [parameter for name, parameter in model.named_parameters() if name.endswith("word_embeddings.seen")]
    assert [len(parameter) for parameter in trained] == ([rows] if rows else [])  # the row of padding never is


def test_fast_and_plain_end_with_the_same_weights(tmp_path: Path, float32: None) -> None:
    task, no_dropout = _task(tmp_path), {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    teacher = _model(tmp_path / "teacher", initializer_range=0.3, **no_dropout)
    student = _model(tmp_path / "student", seed=1, **no_dropout)
    found = {}
    for name, switches in (("fast", {}), ("plain", PLAIN)):
        args = _arguments(tmp_path / name, seed=3, **switches)
        distill(teacher, student, load_task(task), args, DistillArguments("lwd"))
        found[name] = load_file(tmp_path / name / "model.safetensors")
    before = load_file(student / "model.safetensors")
    assert max(float((found["plain"][name] - before[name]).abs().max()) for name in before) > 1e-2
    for name, weight in found["plain"].items():
        torch.testing.assert_close(found["fast"][name], weight, rtol=0, atol=1e-4)


def test_kernels_for_a_gpu_are_refused_without_one(tmp_path: Path) -> None:
    args = _arguments(tmp_path / "out", disentangled_attention="flash")
    with pytest.raises(InputError, match="_attention: expected an NVIDIA GPU for flash, got cpu; use fast or auto"):
        finetune(_model(tmp_path / "m"), load_task(_task(tmp_path)), args)


# --- precision ------------------------------------------------------------------------------------------------


def test_a_type_is_chosen_where_none_is_named(float32: None) -> None:
    cpu = torch.device("cpu")
    assert resolve_dtype("auto", cpu) == torch.float32
    assert resolve_dtype("auto", cpu, fp16=True) == torch.float16
    assert resolve_dtype("bfloat16", cpu) == torch.bfloat16
    assert resolve_dtype("float32", cpu, fp16=True) == torch.float32


def test_bfloat16_is_the_default_where_the_machine_does_it_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert does_bfloat16_well(torch.device("meta")) is False
    for module in ("fast.precision", "training.stage_arguments"):
        monkeypatch.setattr(f"ted_distill.{module}.does_bfloat16_well", lambda device: True)
    assert StageArguments(str(tmp_path)).bf16 is True
    assert StageArguments(str(tmp_path), bf16=False).bf16 is False
    assert resolve_dtype("auto", torch.device("cpu")) == torch.bfloat16


def test_the_teacher_computes_in_its_own_type_and_the_student_in_that_of_autocast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[tuple[bool, torch.dtype, bool]] = set()
    run = FilteredModel.run

    def watched(self: FilteredModel, batch: dict[str, Tensor], need_logits: bool = True, **needs: bool) -> Any:
        weight = next(self.model.parameters())
        seen.add((self.frozen_model, weight.dtype, torch.is_autocast_enabled("cpu")))
        return run(self, batch, need_logits, **needs)

    monkeypatch.setattr(FilteredModel, "run", watched)
    args = _arguments(tmp_path / "out", bf16=True, frozen_dtype="bfloat16")
    teacher, student = _model(tmp_path / "teacher"), _model(tmp_path / "student", seed=1)
    results = distill(teacher, student, load_task(_task(tmp_path)), args, DistillArguments("lwd"))
    assert seen == {(True, torch.bfloat16, False), (False, torch.float32, True)}
    assert results["steps"] == 3
    assert load_file(tmp_path / "out" / "model.safetensors")["classifier.weight"].dtype == torch.float32


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"frozen_dtype": "bf16"}, "frozen_dtype: expected one of auto, float32, bfloat16, float16, got 'bf16'"),
        (
            {"disentangled_attention": "slow"},
            "_attention: expected one of auto, fast, plain, flash, got 'slow'",
        ),
        ({"cache_limit": -1.0}, "cache_limit: expected a number of at least 0, got -1.0"),
    ],
)
def test_wrong_values_are_refused(tmp_path: Path, values: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        _arguments(tmp_path, **values)
