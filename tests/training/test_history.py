"""`history.jsonl`: the curves of a stage, the same for one that was cut off and went on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging as transformers_logging

from quick_stages import LABELS, quick_arguments, reviews_task
from small_runs import Cut
from ted_distill import DistillArguments, LearnFiltersArguments, distill, finetune, learn_filters
from ted_distill.cli.stages import print_results
from ted_distill.training.shown.history import HISTORY_NAME
from ted_distill.training.trainer import StageTrainer
from tiny import save_tiny


@pytest.fixture(autouse=True)
def _no_bars_of_models() -> Iterator[None]:
    """As on the command line."""
    transformers_logging.disable_progress_bar()
    yield
    transformers_logging.enable_progress_bar()


QUICK = {"num_train_epochs": 3, "logging_steps": 2, "learning_rate": 1e-3}


def history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / HISTORY_NAME).read_text(encoding="utf-8").splitlines()]


def timeless(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in point.items() if name != "seconds"} for point in points]


def test_it_has_losses_and_scores_and_goes_on_where_a_stage_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Cut off twice, between two points; checkpoints are written where no point would be."""
    task = reviews_task(tmp_path)
    teacher = save_tiny(tmp_path / "teacher", AutoModelForSequenceClassification, "bert", blocks=4, **LABELS)
    student = save_tiny(
        tmp_path / "student", AutoModelForSequenceClassification, "bert", blocks=2, width=8, seed=1, **LABELS
    )
    method = DistillArguments(method="lwd")

    def run(folder: Path) -> None:
        distill(teacher, student, task, quick_arguments(folder, **QUICK, disable_tqdm=False), method)

    run(tmp_path / "whole")
    step = StageTrainer.training_step
    cuts = [5, 8]

    def cut(self: StageTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        if cuts and self.state.global_step == cuts[0]:
            cuts.pop(0)
            raise Cut
        return step(self, *args, **kwargs)

    monkeypatch.setattr(StageTrainer, "training_step", cut)
    for _ in range(2):
        with pytest.raises(Cut):
            run(tmp_path / "cut")
    run(tmp_path / "cut")
    whole, resumed = history(tmp_path / "whole"), history(tmp_path / "cut")
    assert timeless(resumed) == timeless(whole)
    # A point every two steps and at each checkpoint, after whose first the stage is scored.
    assert [(point["step"], "loss" in point) for point in whole] == [
        (2, True), (3, True), (3, False), (4, True), (6, True), (6, False), (8, True), (9, True), (9, False),
    ]  # fmt: skip
    assert {
        "step", "epoch", "seconds", "loss", "pred_loss", "match_loss", "layer_loss", "learning_rate", "grad_norm",
        "layer_loss/teacher_2_student_1", "layer_loss/teacher_4_student_2",
    } == whole[0].keys()  # fmt: skip
    assert {"step", "epoch", "seconds", "eval_accuracy", "candidate"} <= whole[2].keys()
    assert [point["seconds"] for point in resumed] == sorted(point["seconds"] for point in resumed)
    assert HISTORY_NAME in json.loads((tmp_path / "cut" / "stage.json").read_text())["files"]

    out, err = capfd.readouterr()
    assert not {"\x1b", "\r", "{"} & {*out, *err}
    best = max(point.get("eval_accuracy", 0.0) for point in whole)
    assert f"lwd: step 9: accuracy {whole[-1]['eval_accuracy']:.2f} (best {best:.2f})" in err.splitlines()
    assert sum(line.startswith("lwd: done in 0:0") for line in err.splitlines()) == 2
    log = (tmp_path / "cut" / "run.log").read_text(encoding="utf-8")
    assert log.count(" started: ") == 3
    assert log.count(" stopped: Cut\n") == 2
    assert "resuming from checkpoint-3" in log
    assert "lwd: done in 0:0" in log


def test_stage_one_has_one_as_well_and_says_whose_its_scores_are(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    task = reviews_task(tmp_path)
    model = save_tiny(tmp_path / "model", AutoModelForSequenceClassification, "bert", blocks=2, **LABELS)
    folder = tmp_path / "filters"
    results = learn_filters(model, task, quick_arguments(folder, **QUICK), LearnFiltersArguments())
    assert {"loss/block_1", "loss/block_2"} < history(folder)[0].keys()
    assert results["scores_of"] == "mean over filter heads"
    mean, first = results["accuracy"], results["accuracy_block_1"]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"| accuracy (mean over filter heads) | {mean:.2f} |" in card
    assert f"| accuracy (filter head of block 1) | {first:.2f} |" in card
    assert "Chosen by `accuracy` (mean over filter heads) on validation" in card
    print_results(results, None)
    out, err = capfd.readouterr()
    printed = [line.rpartition(" ")[0].strip() for line in out.splitlines()]
    assert {"accuracy (mean over filter heads)", "accuracy (filter head of block 2)", "seconds", "steps"} < {*printed}
    lines = err.splitlines()
    assert any(line.startswith("learn filters: step 9: accuracy (mean over filter heads) ") for line in lines)
    assert any(f"accuracy (mean over filter heads) {mean:.2f}, best of 3 evaluations" in line for line in lines)
    assert not any("step" in line and "loss" in line for line in lines)  # disable_tqdm


def test_a_student_is_compared_with_a_teacher_that_was_scored_on_the_same_rows(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    task = reviews_task(tmp_path)
    model = save_tiny(tmp_path / "model", AutoModelForSequenceClassification, "bert", blocks=2, **LABELS)
    teacher = finetune(model, task, quick_arguments(tmp_path / "teacher", max_steps=1))
    kd = DistillArguments(method="kd")
    distill(tmp_path / "teacher", model, task, quick_arguments(tmp_path / "kd", max_steps=1), kd)
    assert f", teacher {teacher['accuracy']:.2f})" in capfd.readouterr().err
    other = reviews_task(tmp_path, rows=23)  # the rows to score on are the same
    distill(tmp_path / "teacher", model, other, quick_arguments(tmp_path / "other", max_steps=1), kd)
    assert f", teacher {teacher['accuracy']:.2f})" in capfd.readouterr().err
    distill(model, tmp_path / "teacher", task, quick_arguments(tmp_path / "unknown", max_steps=1), kd)
    assert "teacher" not in capfd.readouterr().err.partition("kd: step 1:")[2].partition("\n")[0]
