"""The words of `ted compare`: seeds, methods, a grid, and changes to the recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from ted_distill.cli.compare import read_compare
from ted_distill.errors import InputError

RECIPE = "task: stsb\nteacher: x\nstudent_layers: [2, 4]\noutput_dir: runs/x\n"


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    (tmp_path / "r.yaml").write_text(RECIPE, encoding="utf-8")
    return str(tmp_path / "r.yaml")


def test_methods_may_be_separated_by_commas_and_alone_be_called_finetune(recipe: str) -> None:
    read = read_compare([recipe, "--seeds", "3", "--methods", "finetune,kd,ted"])
    assert read[0].run.methods == ["alone", "kd", "ted"]
    assert read[1] == {"seeds": 3}


def test_several_keys_make_a_grid_and_changes_stay_changes(recipe: str) -> None:
    words = [recipe, "--grid", "mse_alpha=1,10", "learning_rate=1e-4,5e-4", "output_dir=runs/y", "--seeds=2"]
    read = read_compare(words)
    assert read[2] == {"mse_alpha": [1, 10], "learning_rate": ["1e-4", "5e-4"]}
    assert read[0].run.output_dir == "runs/y"
    assert read[1] == {"seeds": 2}


def test_a_grid_may_be_given_in_several_flags_and_a_section_is_no_part_of_it(recipe: str) -> None:
    words = [recipe, "--grid", "mse_alpha=1,10", "--grid=kl_alpha=[1, 5]", "distill.num_train_epochs=1"]
    read = read_compare(words)
    assert read[2] == {"mse_alpha": [1, 10], "kl_alpha": [1, 5]}
    assert read[0].sections["distill"] == {"num_train_epochs": 1}


def test_values_of_one_key_may_come_in_several_flags(recipe: str) -> None:
    read = read_compare([recipe, "--grid", "mse_alpha=1,10", "--grid", "mse_alpha=10,100"])
    assert read[2] == {"mse_alpha": [1, 10, 100]}


def test_all_that_is_wrong_is_said_at_once(recipe: str) -> None:
    with pytest.raises(InputError) as caught:
        read_compare([recipe, "--seeds", "many", "--methods", "kd,tad", "--grid", "mse_alpha", "--seed", "3"])
    text = str(caught.value)
    assert "--seeds: expected a whole number, got many" in text
    assert "--seed: expected --seeds" in text
    assert "got 'tad'" in text
    assert "--grid: expected KEY=V,V,V, got mse_alpha" in text


def test_seeds_after_a_grid_are_no_part_of_it(recipe: str) -> None:
    _, numbers, grid = read_compare([recipe, "--grid", "kl_alpha=1,2", "seeds=1", "resamples=300"])
    assert numbers == {"seeds": 1, "resamples": 300}
    assert grid == {"kl_alpha": [1, 2]}


@pytest.mark.parametrize("words", [["--grid"], ["--grid", "--seeds", "2"]])
def test_a_grid_of_nothing_is_refused(recipe: str, words: list[str]) -> None:
    with pytest.raises(InputError, match=r"--grid: expected KEY=V,V,V after it, got nothing"):
        read_compare([recipe, *words])
