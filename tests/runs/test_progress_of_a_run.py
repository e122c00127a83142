"""What a run shows and leaves: lines on its stages, one log for all of them, and when it can tell how long it takes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from quick_stages import quick_arguments
from small_runs import write_recipe
from ted_distill import read_recipe, run
from ted_distill.runs.planning import Unknown
from ted_distill.runs.schedule import run_schedule


def test_steps_that_a_plan_does_not_know_follow_from_the_features_of_a_finished_stage(tmp_path: Path) -> None:
    args = quick_arguments(tmp_path)  # two epochs in batches of 8
    names = ["finetune_teacher", "alone", "kd", "lwd", "ted"]
    stages = [SimpleNamespace(name=name, steps=Unknown("it was not tokenised"), args=args) for name in names]
    stages[-1].steps = 100
    schedule = run_schedule(stages)  # type: ignore[arg-type]
    assert schedule.place("kd") == (3, 5)
    assert schedule.place("of another run") == (0, 0)
    assert schedule.seconds_after("kd", 2.0) is None  # the steps of lwd are not known
    schedule.finished("finetune_teacher", {"seconds": 30.0, "steps": 10, "train_features": 41})
    assert schedule.seconds_after("finetune_teacher", 3.0) is None  # nothing like the others was measured
    schedule.finished("alone", {"seconds": 5.0, "steps": 12, "train_features": 41})
    assert schedule.seconds_after("alone", 0.5) is None  # methods with a teacher take longer
    assert schedule.seconds_after("kd", 2.0) == 2.0 * 12 + 2.0 * 100
    assert schedule.seconds_after("ted", 2.0) is None  # nothing comes after
    args.learning_rate = "auto"
    assert schedule.seconds_after("kd", 2.0) == 2.0 * (12 + 13) + 2.0 * (100 + 110), "trials are steps too"


def test_one_log_and_one_line_for_every_stage_and_a_second_start_is_appended(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path, "sequence_classification", num_train_epochs=1)
    changes = [f"output_dir={tmp_path / 'run'}", "methods=[alone,kd]", "finetune_student=false"]
    capfd.readouterr()
    results = run(read_recipe(recipe, changes))
    out, err = capfd.readouterr()
    assert out == ""
    ends = [line for line in err.splitlines() if ": done in " in line]
    teacher = f"(teacher {results['teacher']['accuracy']:.2f})"
    assert [line.partition(":")[0] for line in ends] == ["finetune teacher", "alone", "kd"]
    assert [teacher in line for line in ends] == [False, True, True]
    log = (tmp_path / "run" / "run.log").read_text(encoding="utf-8")
    assert all(line in log for line in ends)
    assert "== kd -> " in log
    assert " (stage 3 of 3)" in log
    assert [file.parent.name for file in (tmp_path / "run").rglob("run.log")] == ["run"]
    assert {file.parent.name for file in (tmp_path / "run").glob("*/history.jsonl")} >= {"teacher", "alone", "kd"}
    run(read_recipe(recipe, changes))
    again = (tmp_path / "run" / "run.log").read_text(encoding="utf-8")
    assert again.startswith(log)
    assert "== kd is finished, skipped" in again.removeprefix(log)
