"""Scores that cannot be learnt, or that say nothing about a model, are named before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForSequenceClassification

from ted_distill import StageArguments, Task, TaskArguments, check_recipe, load_task
from ted_distill.stages.lifecycle import prepare
from ted_distill.stages.uninformed import uninformed_model
from ted_distill.tasks import Split
from tiny import save_tiny


def rows_of(*scores: float) -> list[dict[str, Any]]:
    return [{"text": f"the film was good {number}", "label": score} for number, score in enumerate(scores)]


def task_of(train: list[float], validation: list[float]) -> Task:
    return load_task(TaskArguments("regression"), train=rows_of(*train), validation=rows_of(*validation))


@pytest.mark.parametrize(
    ("scores", "which"), [([3.0] * 12, "each of the 12 rows"), ([3.0], "the only row")], ids=["equal", "one"]
)
def test_equal_scores_to_choose_by_are_named_before_the_training_and_not_taken_for_a_model_that_learnt_nothing(
    scores: list[float], which: str, caplog: pytest.LogCaptureFixture
) -> None:
    task = task_of([1.0, 2.0, 3.0], scores)
    rows = task.rows["validation"]
    (doubt,) = task.row_doubts(task.rows)
    assert doubt.startswith(
        f"validation: expected scores that differ, got 3 in {which}: spearmanr is 0 there, whatever"
    )
    assert doubt in caplog.messages
    assert [*uninformed_model(task, {"spearmanr": 0.0}, {"validation": Split(rows, rows)})] == []


def test_equal_scores_are_no_doubt_where_another_score_decides(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def said(metric: str) -> list[str]:
        caplog.clear()
        task = task_of([1.0, 2.0, 3.0], [4.0] * 3)
        prepare(task, StageArguments(str(tmp_path), metric_for_best_model=metric, use_cpu=True))
        return [message for message in caplog.messages if "expected scores that differ" in message]

    assert said("mse") == []
    assert "pearson is 0 there" in said("pearson")[0]


def test_scores_that_differ_are_no_doubt_and_a_model_that_learnt_nothing_is_one() -> None:
    task = task_of([0.0, 100.0, 50.0], [1.0, 2.0])
    rows = task.rows["validation"]
    assert [*task.row_doubts(task.rows)] == []
    assert len([*uninformed_model(task, {"spearmanr": 0.0}, {"validation": Split(rows, rows)})]) == 1


def test_scores_that_are_far_apart_are_to_be_divided(caplog: pytest.LogCaptureFixture) -> None:
    task = task_of([1e6, 2e6, 3e6], [1e6, 2e6])
    (doubt,) = task.row_doubts(task.rows)
    assert doubt == (
        "train: expected scores with a standard deviation of about 1, got 8.16e+05: models learn numbers this far "
        "apart very slowly; divide all scores by 1e+06"
    )
    assert doubt in caplog.messages


@pytest.mark.parametrize(("training", "doubts"), [({"eval_strategy": "no"}, 1), ({"metric_for_best_model": "mse"}, 0)])
def test_a_check_doubts_them_and_not_the_teacher(training: dict[str, str], doubts: int, tmp_path: Path) -> None:
    save_tiny(tmp_path / "model", AutoModelForSequenceClassification, blocks=2, num_labels=1, problem_type="regression")
    report = check_recipe(
        {
            "task": "regression", "teacher": str(tmp_path / "model"), "student_layers": [1], "methods": ["kd"],
            "finetune_teacher": False, "training": {"use_cpu": True, "max_steps": 1, **training},
            "output_dir": str(tmp_path / "run"),
        },
        train=rows_of(*(1e6 * (number % 4) for number in range(24))), validation=rows_of(*[2.0] * 20),
    )  # fmt: skip
    assert sum(doubt.startswith("validation: expected scores that differ") for doubt in report.doubts) == doubts
    assert sum(doubt.startswith("train: expected scores with a standard deviation") for doubt in report.doubts) == 1
    assert not [doubt for doubt in report.doubts if doubt.startswith("teacher:")]
