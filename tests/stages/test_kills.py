"""A run that is killed at any moment, again and again, ends with the bytes of one that was not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from small_runs import differing, made, write_recipe

KILLS = 50


@pytest.mark.long
def test_a_run_that_is_killed_fifty_times_ends_with_the_same_bytes(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, "sequence_classification", num_train_epochs=1, bf16=False, frozen_dtype="float32")
    content = yaml.safe_load(recipe.read_text()) | {"methods": ["ted"], "student_layers": [2, 4]}
    content.pop("student")
    recipe.write_text(yaml.safe_dump(content))
    script = Path(__file__).parents[1] / "killed_runs.py"
    done = subprocess.run(
        [sys.executable, str(script), str(recipe), str(tmp_path / "runs"), str(KILLS), "10"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert int(done.stdout.split()[-1]) == KILLS, done.stdout
    whole = made(tmp_path / "runs" / "whole")
    runs = [folder for folder in (tmp_path / "runs").iterdir() if folder.name.isdigit()]
    assert len(runs) >= KILLS // 10
    for run in (tmp_path / "runs" / "together", *runs):
        assert differing(run, whole) == {}, run.name
