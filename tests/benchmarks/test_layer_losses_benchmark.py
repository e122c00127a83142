"""benchmarks/layer_losses.py: from the same models and filters, every loss and weight, one table of all tasks."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from transformers import AutoModelForSequenceClassification

import layer_losses
from tiny import save_tiny, write_reviews


def write_recipe(folder: Path, name: str) -> Path:
    recipe = {
        "task": "sequence_classification",
        "train_file": str(write_reviews(folder, 24, "train")),
        "validation_file": str(write_reviews(folder, 12, "validation")),
        "teacher": str(save_tiny(folder / "big", AutoModelForSequenceClassification, blocks=4)),
        "student_layers": [2, 4],
        "training": {"max_steps": 2, "learning_rate": 1e-2, "disable_tqdm": True, "use_cpu": True},
        "ted": {"mse_alpha": 7},
    }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return file


@pytest.mark.long
def test_every_loss_and_weight_has_a_row_and_every_recipe_a_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("one", "two"):
        words = [str(tmp_path / "runs"), str(write_recipe(tmp_path, name))]
        assert layer_losses.main([*words, "--weights", "mse=1", "normalized_mse=1,2"]) == 0
    table = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("| ")
    ]
    assert table[-9] == ["", "one (accuracy)", "two (accuracy)"]
    titles = [row[0] for row in table[-8:]]
    assert titles == [
        "teacher", "student, before training", "KD", "TED as in the recipe", "TED, mse, mse_alpha 1",
        "TED, normalized_mse, mse_alpha 1", "TED, normalized_mse, mse_alpha 2",
        "variance of each pair's teacher states",
    ]  # fmt: skip
    assert table[-5][1].endswith("(normalized_mse, 7)")
    assert all(cell for row in table[-8:] for cell in row)
    # Nothing is trained twice, and the table of what is there can be had alone.
    caplog.clear()
    written = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*.safetensors")}
    assert layer_losses.main([*words, "--weights", "mse=1", "normalized_mse=1,2"]) == 0
    assert layer_losses.main([str(tmp_path / "runs")]) == 0
    assert all(file.stat().st_mtime_ns == time for file, time in written.items())


def test_losses_and_recipes_that_are_none_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = str(write_recipe(tmp_path, "one"))
    assert layer_losses.main([str(tmp_path / "runs"), recipe, "--weights", "mae=1", "mse=x"]) == 2
    said = capsys.readouterr().err
    assert "expected one of mse, normalized_mse, cosine, got mae" in said
    assert "expected LOSS=NUMBER,NUMBER, got mse=x" in said
    assert layer_losses.main([str(tmp_path / "runs"), str(tmp_path / "none.yaml")]) == 2
    assert "expected a file or a recipe of the package" in capsys.readouterr().err
