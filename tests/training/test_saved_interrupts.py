"""A training that is interrupted writes a checkpoint before it ends, and resumes there."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from quick_stages import LABELS, quick_arguments, reviews_task
from ted_distill import StageArguments, finetune
from ted_distill.output import last_checkpoint
from ted_distill.progress import Terminated, noting_interrupts
from ted_distill.training.saved_interrupts import postponing
from ted_distill.training.trainer import StageTrainer
from tiny import save_tiny

pytestmark = pytest.mark.usefixtures("float32", "as_at_a_keyboard")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "m", AutoModelForSequenceClassification, blocks=2, **LABELS)


def signals(monkeypatch: pytest.MonkeyPatch, step: int, number: int, count: int = 1) -> list[int]:
    """Sends signals in the middle of an update; returns the updates that were made."""
    made: list[int] = []
    usual = StageTrainer.training_step

    def interrupted(self: StageTrainer, *args: Any, **kwargs: Any) -> Tensor:
        made.append(self.state.global_step + 1)
        if made[-1] == step:
            for _ in range(count):
                signal.raise_signal(number)
        return usual(self, *args, **kwargs)

    monkeypatch.setattr(StageTrainer, "training_step", interrupted)
    return made


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
@pytest.mark.parametrize("step", [1, 3, 4, 6])
def test_it_resumes_after_the_update_in_which_it_was_interrupted_and_ends_the_same(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[BaseException], step: int
) -> None:
    """Three updates an epoch, at the end of which alone a checkpoint is written otherwise."""
    task = reviews_task(tmp_path)
    whole = finetune(model, task, quick_arguments(tmp_path / "whole"))
    with monkeypatch.context() as patch, noting_interrupts():
        signals(patch, step, number)
        with pytest.raises(error):
            finetune(model, task, quick_arguments(tmp_path / "cut"))
    checkpoint = last_checkpoint(tmp_path / "cut")
    assert checkpoint is not None
    assert checkpoint.name == f"checkpoint-{step}"
    made = signals(monkeypatch, 0, number)
    again = finetune(model, task, quick_arguments(tmp_path / "cut"))
    assert made == list(range(step + 1, 7))
    assert {**again, "seconds": 0} == {**whole, "seconds": 0}
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_second_interrupt_ends_it_at_once(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with noting_interrupts():
        signals(monkeypatch, 2, signal.SIGINT, count=2)
        with pytest.raises(KeyboardInterrupt):
            finetune(model, reviews_task(tmp_path), quick_arguments(tmp_path / "out"))
    assert last_checkpoint(tmp_path / "out") is None
    assert "a checkpoint is written first; interrupt once more to end at once" in capfd.readouterr().err


def test_where_nothing_is_saved_it_ends_at_once(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = quick_arguments(tmp_path / "out", save_strategy="no", eval_strategy="no", load_best_model_at_end=False)
    with noting_interrupts():
        made = signals(monkeypatch, 2, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            finetune(model, reviews_task(tmp_path), args)
    assert made == [1, 2]
    assert last_checkpoint(tmp_path / "out") is None


@pytest.mark.parametrize(
    "settings",
    [
        {"dataloader_num_workers": 1},
        {"ignore_data_skip": True},
        {"eval_on_start": True},
        {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 2},
    ],
)
def test_where_a_checkpoint_more_would_change_what_comes_out_it_ends_at_once(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    assert not is_postponed_with(quick_arguments(tmp_path / "out", **settings))
    assert is_postponed_with(quick_arguments(tmp_path / "out"))


def is_postponed_with(args: StageArguments) -> bool:
    """Whether what follows a signal is still reached."""
    reached = False
    with suppress(KeyboardInterrupt), noting_interrupts(), postponing(args, []):
        signal.raise_signal(signal.SIGINT)
        reached = True
    return reached
