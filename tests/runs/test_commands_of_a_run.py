"""`ted plan`: a run as commands, which together make what `ted run` makes."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from small_runs import differing, made, write_recipe
from ted_distill.cli.main import main
from ted_distill.runs.commands import plan_text
from ted_distill.runs.recipe import read_recipe

WORDS = ["methods=[kd]", "check=false", "report=false"]


def lines_of(text: str) -> list[list[str]]:
    """The commands, word by word."""
    return [shlex.split(line) for line in text.splitlines() if line.startswith("ted ")]


@pytest.mark.long
def test_the_commands_make_what_a_run_makes_and_each_does_nothing_the_second_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path, "sequence_classification", num_train_epochs=1, eval_steps=7, save_steps=7)
    words = [str(recipe), *WORDS, f"output_dir={tmp_path / 'run'}"]
    assert main(["plan", *words]) == 0
    commands = lines_of(capsys.readouterr().out)
    assert [command[-1] for command in commands] == ["finetune_teacher", "finetune_student", "alone", "kd", "workers=1"]
    for command in commands:
        assert main(command[1:]) == 0
    by_commands = made(tmp_path / "run")
    weights = (tmp_path / "run" / "kd" / "model.safetensors").stat().st_mtime_ns
    assert main(["run", *words, "--only=kd"]) == 0
    assert (tmp_path / "run" / "kd" / "model.safetensors").stat().st_mtime_ns == weights
    (tmp_path / "run").rename(tmp_path / "aside")
    assert main(["run", *words]) == 0
    at_once = made(tmp_path / "run")
    assert {name: at_once[name] for name in at_once if not name.endswith("run.log")} == by_commands


def test_a_step_says_what_it_waits_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(tmp_path, "sequence_classification")
    words = [str(recipe), *WORDS, f"output_dir={tmp_path / 'run'}"]
    assert main(["run", *words, "--only", "kd"]) == 2
    said = capsys.readouterr().err
    assert "only: expected finetune_teacher to be finished before kd, got no model of it; run it first" in said
    assert "only: expected finetune_student to be finished before kd" in said
    assert main(["run", *words, "only=kdd"]) == 2
    assert "only: expected one of finetune_teacher, finetune_student, alone, kd, got 'kdd'; did you mean kd?" in (
        capsys.readouterr().err
    )
    assert main(["run", *words, "--only"]) == 2
    assert "--only: expected a value, got nothing" in capsys.readouterr().err
    assert main(["plan", *words, "--format", "slurm"]) == 2
    assert "--format: expected one of sh, make, got 'slurm'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_both_formats_name_what_each_step_waits_for_and_what_it_comes_after(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, "sequence_classification")
    given = ["methods=[kd, ted]", f"output_dir={tmp_path / 'a $1run'}"]
    read = read_recipe(recipe, given)
    shell = plan_text(read, [str(recipe), *given], "sh")
    assert "# finetune_teacher waits for nothing" in shell
    assert "# ted waits for learn_filters_teacher, learn_filters_student, and comes after kd" in shell
    assert f"ted run {recipe} 'methods=[kd, ted]' 'output_dir={tmp_path}/a $1run' --only ted" in shell
    rules = plan_text(read, [str(recipe), *given], "make")
    assert "\nted: learn_filters_teacher learn_filters_student kd\n\tted run " in rules
    assert "a $$1run'" in rules
    assert ".DEFAULT_GOAL := table" in rules


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="a shell is needed")
@pytest.mark.parametrize("kind", ["sh", "make"])
def test_the_printed_file_runs_as_it_is(tmp_path: Path, kind: str) -> None:
    recipe = write_recipe(tmp_path, "sequence_classification", num_train_epochs=1, eval_steps=7, save_steps=7)
    words = [str(recipe), *WORDS, f"output_dir={tmp_path / 'run'}"]
    file = tmp_path / "plan"
    file.write_text(plan_text(read_recipe(recipe, words[1:]), words, kind), encoding="utf-8")
    command = tmp_path / "bin" / "ted"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m ted_distill "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    environment = {**os.environ, **threads, "PATH": f"{command.parent}:{os.environ['PATH']}"}
    subprocess.run([*({"sh": ["sh"], "make": ["make", "-j2", "-f"]}[kind]), str(file)], env=environment, check=True)
    by_file = made(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "aside")
    assert main(["run", *words]) == 0
    assert differing(tmp_path / "run", by_file) == {}
