"""From measured steps to the time of a run: which updates run the frozen model, and how often is scored and saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from transformers import TrainerControl, TrainerState
from transformers.trainer_callback import DefaultFlowCallback

from quick_stages import quick_arguments, reviews_task
from ted_distill.output import Need
from ted_distill.runs.checking import memory
from ted_distill.runs.checking.costs import Costs, disk_problems, table
from ted_distill.runs.checking.rehearsal import Measured
from ted_distill.runs.checking.report import Report
from ted_distill.runs.planning import Plan, PlannedData, PlannedStage, Unknown
from ted_distill.training.update_counts import evaluations, saves

MEASURED = Measured(
    step=1.0, step_kept=0.5, update=0.25, opening=3.0, starting=0.0, scoring=2.0, scoring_again=1.0, peak=5 * 10**9,
    longest=9, checkpoint=0, trained=0, model=0, outputs=frozenset(),
)  # fmt: skip


@pytest.fixture
def costs(tmp_path: Path) -> Costs:
    """Of 24 rows to train on and 12 to score on, of which 4 are in the sample."""
    task = reviews_task(tmp_path)
    some = {"train": task.rows["train"], "validation": task.rows["validation"].select(range(4))}
    nothing = Unknown("of no use here")
    data = PlannedData(task.row_counts, 24, True, 8.0, 9, 24)
    plan = Plan(None, task, {}, nothing, nothing, nothing, data)  # type: ignore[arg-type]
    return Costs(plan, task.with_rows(some), write_speed=1e6)


def stage(folder: Path, name: str = "kd", **changes: object) -> PlannedStage:
    """Three epochs of 24 rows in batches of 8: 9 updates."""
    args = quick_arguments(folder, **({"num_train_epochs": 3} | changes))
    return PlannedStage(name, args, 9, 0, None)


def test_a_frozen_model_runs_in_the_first_epoch_and_is_read_in_the_others(costs: Costs, tmp_path: Path) -> None:
    found = costs.stage(stage(tmp_path), replace(MEASURED, outputs=frozenset({"logits"})))
    assert found is not None
    assert (found.first, found.later) == (1.25, 0.75)
    assert found.training == 3 * 1.25 + 6 * 0.75
    # Three evaluations of 12 rows, of which 4 take a second.
    assert (found.scoring, found.other, found.seconds) == (9.0, 3.0, found.training + 12)


def test_what_a_stage_has_kept_is_there_for_the_next_one(costs: Costs, tmp_path: Path) -> None:
    trained = [
        costs.stage(stage(tmp_path), replace(MEASURED, outputs=frozenset(outputs)))
        for outputs in (["logits"], ["logits", "block 2"], ["logits", "block 2"], ["logits"])
    ]
    assert [found.training if found else None for found in trained] == [8.25, 8.25, 6.75, 6.75]


def test_outputs_that_the_start_of_filters_needs_are_kept_before_the_training(costs: Costs, tmp_path: Path) -> None:
    """The 192 tokens of 24 rows are all looked at there."""
    first_tokens = replace(MEASURED, outputs=frozenset({"logits, one a row"}), starting=0.01)
    stage_one = costs.stage(stage(tmp_path, "learn_filters_teacher"), first_tokens)
    stage_two = costs.stage(stage(tmp_path), replace(MEASURED, outputs=frozenset({"logits"})))
    assert stage_one is not None
    assert stage_two is not None
    assert (stage_one.training, stage_two.training) == (8.25, 6.75)
    assert stage_one.other == pytest.approx(3 + 192 * 0.01)


def test_rows_without_labels_make_epochs_longer_and_are_run_once(costs: Costs, tmp_path: Path) -> None:
    """Three epochs of 24 + 24 features: 18 updates, of which 3 an epoch are of the further ones."""
    with_more = replace(stage(tmp_path), steps=18, more_features=24)
    outputs = replace(MEASURED, outputs=frozenset({"logits"}))
    first, again = costs.stage(with_more, outputs), costs.stage(with_more, outputs)
    assert first is not None
    assert again is not None
    assert first.training == 6 * 1.25 + 12 * 0.75
    assert first.scoring == 9.0, "three evaluations, as without them"
    assert again.training == 18 * 0.75
    costs.kept_more = False
    after_stage_one = costs.stage(with_more, outputs)
    assert after_stage_one is not None
    assert after_stage_one.training == 3 * 1.25 + 15 * 0.75


def test_the_student_keeps_outputs_of_its_own(costs: Costs, tmp_path: Path) -> None:
    outputs = replace(MEASURED, outputs=frozenset({"block 1, one a row"}))
    of_teacher, of_student = (
        costs.stage(stage(tmp_path, f"learn_filters_{o}"), outputs) for o in ("teacher", "student")
    )
    assert of_teacher is not None
    assert of_student is not None
    assert of_teacher.training == of_student.training == 8.25


def test_without_a_cache_the_frozen_model_runs_in_every_update(costs: Costs, tmp_path: Path) -> None:
    found = costs.stage(stage(tmp_path), MEASURED)
    assert found is not None
    assert found.training == 9 * 1.25


def test_an_update_of_several_micro_batches_has_one_step_of_the_optimizer(costs: Costs, tmp_path: Path) -> None:
    found = costs.stage(stage(tmp_path, gradient_accumulation_steps=4), MEASURED)
    assert found is not None
    assert found.first == 4 * 1.0 + 0.25


def test_a_search_for_the_rate_takes_more_than_the_stage(costs: Costs, tmp_path: Path) -> None:
    plain, searched = (costs.stage(stage(tmp_path, learning_rate=rate), MEASURED) for rate in (1e-3, "auto"))
    assert plain is not None
    assert searched is not None
    assert searched.training == pytest.approx(2.1 * plain.training)


@pytest.mark.parametrize(
    ("arguments", "scored", "saved"),
    [
        ({}, 3, 3),
        ({"eval_strategy": "no", "save_strategy": "no"}, 1, 0),
        ({"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 2, "save_steps": 4}, 5, 3),
        ({"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 3, "save_steps": 9}, 3, 1),
        ({"eval_strategy": "steps", "save_strategy": "best", "eval_steps": 0.5}, 2, 2),
        ({"eval_on_start": True}, 4, 3),
    ],
)
def test_evaluations_and_checkpoints_are_counted(
    tmp_path: Path, arguments: dict[str, object], scored: int, saved: int
) -> None:
    args = quick_arguments(tmp_path, **arguments)
    assert (evaluations(args, 9, 3), saves(args, 9, 3)) == (scored, saved)


@pytest.mark.parametrize(("every", "updates"), [(2, 9), (3, 9), (4, 9), (9, 9), (20, 9), (0.5, 9), (0.3, 10)])
def test_evaluations_and_checkpoints_are_as_many_as_transformers_makes(
    tmp_path: Path, every: float, updates: int
) -> None:
    args = quick_arguments(tmp_path, eval_strategy="steps", save_strategy="steps", eval_steps=every, save_steps=every)
    state = TrainerState(max_steps=updates)
    state.compute_steps(args, updates)
    scored = saved = 0
    for state.global_step in range(1, updates + 1):
        asked = DefaultFlowCallback().on_step_end(args, state, TrainerControl())
        scored, saved = scored + asked.should_evaluate, saved + asked.should_save
    assert (evaluations(args, updates, 3), saves(args, updates, 3)) == (scored, saved)


def test_a_table_names_every_stage(costs: Costs, tmp_path: Path) -> None:
    found = costs.stage(stage(tmp_path), MEASURED)
    assert found is not None
    head, row = table([found], memory=True)
    assert dict(zip(head, row, strict=True)) == {
        "stage": "kd", "updates": "9", "an update": "1.2 s", "from the cache": "", "training": "11 s",
        "scoring": "9.0 s", "loading, files": "3.0 s", "in all": "23 s", "memory": "5.0 GB",
    }  # fmt: skip


def test_a_disk_that_is_too_small_is_a_problem(tmp_path: Path) -> None:
    (problem,) = disk_problems([Need("checkpoints", tmp_path, 10**18)])
    assert problem.startswith("output_dir: expected")
    assert not [*disk_problems([Need("checkpoints", tmp_path, 10)])]


def test_the_limits_of_a_container_and_of_groups_in_it_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(memory, "_OWN_CGROUP", tmp_path / "own")
    (tmp_path / "own").write_text("0::/jobs/one\n")
    (tmp_path / "memory.max").write_text("max\n")
    whole = memory.there(cpu)
    (tmp_path / "memory.max").write_text("1234567\n")
    assert memory.there(cpu) == 1234567
    (tmp_path / "jobs" / "one").mkdir(parents=True)
    (tmp_path / "jobs" / "memory.max").write_text("123456\n")
    assert memory.there(cpu) == 123456
    assert whole > 1234567


def test_what_is_free_and_how_many_cores_there_are_is_what_the_container_leaves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(memory, "_OWN_CGROUP", tmp_path / "own")
    assert memory.cores() is None
    process = psutil.Process()
    own = process.memory_info().rss
    (tmp_path / "memory.max").write_text(str(own + 3000))
    (tmp_path / "memory.current").write_text(str(own + 1000))
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    found = memory.free(cpu)
    assert abs(found - (process.memory_info().rss + 2000)) < 10**8
    assert memory.cores() == 2.5
    # Files that the kernel keeps in memory are given back.
    (tmp_path / "memory.current").write_text(str(own + 2500))
    (tmp_path / "memory.stat").write_text("anon 7\ninactive_file 1500\n")
    assert memory._used(tmp_path) == own + 1000
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert memory.cores() is None
    assert memory.free(cpu) > 10**8


def test_doubts_come_last_and_problems_are_raised() -> None:
    report = Report({"scores": "accuracy 90", "time": "1 min"}, doubts=["rows: expected more"], problems=["a: b"])
    report.doubt(["rows: expected more", "labels: expected other ones", "labels: expected other ones"])
    assert report.text().rstrip().endswith("2 doubts\n- rows: expected more\n- labels: expected other ones")
    assert report.summary().splitlines()[:2] == ["scores: accuracy 90", "time: 1 min"]
    with pytest.raises(ValueError, match="a: b"):
        report.raise_problems()
