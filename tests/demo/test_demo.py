"""The demo runs from nothing to its table; that it learns is seen by `ted demo` itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from transformers import AutoModelForQuestionAnswering

from ted_distill.cli.main import COMMANDS, main
from ted_distill.demo import run_demo as demo


def test_the_demo_makes_its_own_data_and_models_and_ends_with_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "NUM_TRAIN", 36)
    monkeypatch.setattr(demo, "NUM_VALIDATION", 12)
    words = [f"output_dir={tmp_path / 'run'}", "training.max_steps=1", "training.disable_tqdm=true"]
    assert main(["demo", *words]) == 0
    out = capsys.readouterr().out
    assert [line.split("|")[1].strip() for line in out.splitlines() if line.startswith("|")][2:] == [
        "teacher",
        "student, before training",
        "student alone",
        "KD",
        "LWD",
        "TED",
    ]
    assert f"{tmp_path / 'run' / 'report.html'}\n" in out
    commands = [line.split()[1] for line in out.partition("Next, ")[2].splitlines() if line.startswith("  ted ")]
    assert commands == ["init", "check", "run"]
    assert set(commands) <= set(COMMANDS)
    student = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "run" / "ted")
    teacher = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "run" / "teacher")
    assert student.num_parameters() < 0.6 * teacher.num_parameters()
    written = (tmp_path / "run" / "inputs" / "train.json").stat().st_mtime_ns
    assert main(["demo", *words, "report=false"]) == 0
    assert (tmp_path / "run" / "inputs" / "train.json").stat().st_mtime_ns == written


def test_the_demos_student_is_made_of_half_of_the_teachers_blocks() -> None:
    recipe = yaml.safe_load(demo.RECIPE.read_text(encoding="utf-8"))
    assert recipe["student_layers"] == [2, 4]
    assert recipe["methods"] == ["alone", "kd", "lwd", "ted"]
