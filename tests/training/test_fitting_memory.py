"""Batches that do not fit: what is said, and smaller ones that make the same updates."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertPreTrainedModel

from quick_stages import LABELS, quick_arguments, reviews_task
from shared_stages import apart
from ted_distill import DistillArguments, Task, TrainingError, distill, finetune, learn_filters
from ted_distill.errors import NoRoomError
from ted_distill.training.fitting_memory import RECOMPUTES, divide_anew, largest, room_to_score, same_updates
from ted_distill.training.trainer import StageTrainer
from tiny import save_tiny

SGD: dict[str, Any] = {"optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0, "train_sampling_strategy": "random"}


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return reviews_task(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    from transformers import AutoModelForSequenceClassification

    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return save_tiny(tmp_path / "model", AutoModelForSequenceClassification, **LABELS, **still)


def room_for(rows: int, monkeypatch: pytest.MonkeyPatch, from_step: int = 0) -> None:
    """From an update on, a batch of more rows than these ends like one that does not fit into a GPU."""
    compute_loss = StageTrainer.compute_loss

    def compute(self: StageTrainer, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if len(inputs["input_ids"]) > rows and self.state.global_step >= from_step:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore words.")
        return compute_loss(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(StageTrainer, "compute_loss", compute)


@pytest.mark.parametrize(
    ("most", "expected"), [(24, (8, 3)), (8, (8, 3)), (7, (6, 4)), (5, (4, 6)), (1, (1, 24)), (0, (1, 24))]
)
def test_a_smaller_batch_is_accumulated_to_as_many_rows(tmp_path: Path, most: int, expected: tuple[int, int]) -> None:
    args = quick_arguments(tmp_path, per_device_train_batch_size=8, gradient_accumulation_steps=3)
    found = same_updates(args, min(most, 8))
    assert found == expected
    divide_anew(args, min(most, 8), 0)
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == expected


def test_what_fits_is_tried(tmp_path: Path) -> None:
    tried = []

    def runs(rows: int) -> None:
        tried.append(rows)
        if rows > 3:
            raise torch.OutOfMemoryError

    assert largest(quick_arguments(tmp_path), runs) == 2
    assert tried == [4, 2]


def test_a_batch_that_does_not_fit_is_answered_by_one_that_does(
    model: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room_for(3, monkeypatch)
    with pytest.raises(TrainingError) as stopped:
        finetune(model, task, quick_arguments(tmp_path / "out"))
    assert str(stopped.value).startswith(
        "memory: expected room for a batch of 8 rows, got none in update 1 (CUDA out of memory. Tried to allocate 2.00 "
        "GiB.); this fits: --per_device_train_batch_size 2 --gradient_accumulation_steps 4, which gives the same "
        "updates, or"
    )
    assert "\n" not in str(stopped.value)


def test_a_family_that_cannot_recompute_is_not_told_to(
    model: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room_for(3, monkeypatch)
    monkeypatch.setattr(BertPreTrainedModel, "supports_gradient_checkpointing", False)
    with pytest.raises(TrainingError, match="gives the same updates; the same command resumes"):
        finetune(model, task, quick_arguments(tmp_path / "out"))


def test_filters_of_a_frozen_model_are_not_told_to_recompute(
    model: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room_for(3, monkeypatch)
    with pytest.raises(TrainingError, match="gives the same updates; the same command resumes"):
        learn_filters(model, task, quick_arguments(tmp_path / "out"))


def test_not_even_a_row_may_fit(model: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room_for(0, monkeypatch)
    with pytest.raises(TrainingError, match="not even one row fits: shorten rows, take a smaller model"):
        finetune(model, task, quick_arguments(tmp_path / "out"))


def test_batches_that_shrink_by_themselves_make_the_same_updates(
    model: Path,
    task: Task,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    float32: None,
) -> None:
    finetune(model, task, quick_arguments(tmp_path / "whole", **SGD))
    room_for(3, monkeypatch)
    found = finetune(model, task, quick_arguments(tmp_path / "out", **SGD, auto_find_batch_size=True))
    assert found["steps"] == 6
    assert apart(tmp_path / "whole", tmp_path / "out") < 1e-6
    sizes = re.findall(r"going on with --per_device_train_batch_size (\d+)", caplog.text)
    assert sizes == ["4", "2"]
    assert caplog.text.count("training on") == 1 + 3, "no size is tried twice"


def test_where_not_even_one_row_fits_the_stage_ends_with_one_line(
    model: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room_for(0, monkeypatch)
    with pytest.raises(TrainingError, match="expected room for a batch of 1 row, got none; shorten rows"):
        finetune(model, task, quick_arguments(tmp_path / "out", auto_find_batch_size=True))


def test_memory_that_runs_out_later_on_stops_the_stage(
    model: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights are no longer those it started from."""
    room_for(3, monkeypatch, from_step=4)
    with pytest.raises(TrainingError, match="got none after 4; give --per_device_train_batch_size 4"):
        finetune(model, task, quick_arguments(tmp_path / "out", auto_find_batch_size=True))


@pytest.mark.parametrize("when", ["in training", "in training, with batches that shrink", "at the end", "test rows"])
def test_scoring_that_does_not_fit_is_answered_by_fewer_rows(
    when: str, model: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore words.")

    monkeypatch.setattr(StageTrainer, "scored_logits", no_room)
    options: dict[str, Any] = {"eval_strategy": "no", "save_strategy": "no"} if when == "at the end" else {}
    if when == "test rows":
        monkeypatch.setattr(StageTrainer, "score", lambda self: {"accuracy": 50.0})
        task = task.with_rows({**task.rows, "test": task.rows["validation"]})
    args = quick_arguments(tmp_path / "out", **options, auto_find_batch_size="shrink" in when)
    with pytest.raises(TrainingError) as stopped:
        finetune(model, task, args)
    assert str(stopped.value) == (
        "memory: expected room to score 8 rows at once, got none (CUDA out of memory. Tried to allocate 2.00 GiB.); "
        "give --per_device_eval_batch_size 4 (the same command resumes)"
    )


def test_scoring_a_single_row_may_not_fit() -> None:
    wanted = r"room to score 1 row at once, got none .* take a smaller model"
    with pytest.raises(NoRoomError, match=wanted), room_to_score(1):
        raise torch.OutOfMemoryError("CUDA out of memory.")


@pytest.mark.parametrize("recomputes", [True, False])
def test_what_is_measured_before_the_training_may_not_fit(
    recomputes: bool, model: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("ted_distill.stages.teachers.teacher_variances.states_variances", no_room)
    monkeypatch.setattr(BertPreTrainedModel, "supports_gradient_checkpointing", recomputes)
    wanted = (
        "got none before the first update .*; try --per_device_train_batch_size 4 --gradient_accumulation_steps 2, "
        f"which gives the same updates{', or' if recomputes else ';'}"
    )
    with pytest.raises(TrainingError, match=wanted):
        distill(model, model, task, quick_arguments(tmp_path / "out"), DistillArguments("lwd"))


def test_gradients_of_balanced_pairs_may_not_fit_and_no_batch_is_to_blame(
    model: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("ted_distill.stages.matching.pair_balance.layer_losses", no_room)
    wanted = "pair_weights: balanced measures, 4 rows at once, got none .*; give numbers as pair_weights"
    settings = DistillArguments("lwd", pair_weights=["balanced"])
    with pytest.raises(TrainingError, match=wanted):
        distill(model, model, task, quick_arguments(tmp_path / "out"), settings)


def test_activations_that_are_computed_again_make_the_same_stage(task: Task, tmp_path: Path) -> None:
    """With dropout: what is advised where memory ran out has to be taken by the stage that it is advised for."""
    from transformers import AutoModelForSequenceClassification

    model = save_tiny(tmp_path / "dropping", AutoModelForSequenceClassification, **LABELS)
    plain = finetune(model, task, quick_arguments(tmp_path / "out"))
    finetune(model, task, quick_arguments(tmp_path / "again", **{RECOMPUTES: True}))
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("out", "again")]
    assert weights[0] == weights[1]
    assert finetune(model, task, quick_arguments(tmp_path / "out", **{RECOMPUTES: True})) == plain, "it is finished"


def test_a_warm_up_as_long_as_the_training_is_said_at_its_start(
    model: Path, task: Task, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    finetune(model, task, quick_arguments(tmp_path / "out", warmup_steps=500))
    assert "out: warmup_steps: expected fewer than the 6 updates, got 500" in caplog.text
