"""An optimizer whose state DeepSpeed splits over processes (ZeRO-1 and ZeRO-2) makes the weights of one process."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate import PartialState
from safetensors.torch import load_file

from conftest import set_bfloat16
from processes import in_processes
from shared_stages import ALL, SAVED, SHORT, apart, arguments, assert_like, make, scores, trained_alone
from small_runs import cut_off_at, write_recipe
from ted_distill import read_recipe
from ted_distill.runs.run import run

pytest.importorskip("deepspeed")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked"),
    pytest.mark.usefixtures("float32"),
    # What DeepSpeed calls of torch, and how it builds its own extension.
    pytest.mark.filterwarnings("ignore"),
]
PATIENCE = 600


def config(stage: int = 2) -> dict[str, Any]:
    """The least that DeepSpeed needs."""
    return {
        "zero_optimization": {"stage": stage},
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def alone(made: Path) -> Callable[..., Path]:
    return trained_alone(made)


def train(name: str, made: Path, folder: Path, processes: int, zero: int = 2, **more: Any) -> None:
    stage, accumulated, changes = ALL[name]
    own = arguments(folder, 8 // processes // accumulated, accumulated, deepspeed=config(zero), **changes, **more)
    stage(made, own)
    assert PartialState().distributed_type == "DEEPSPEED", "nothing here would notice plain data parallelism"


@pytest.mark.parametrize(("zero", "names"), [(1, ["by_length_adam"]), (2, sorted(ALL))])
def test_split_optimizers_make_the_weights_and_scores_of_one_process(
    made: Path, alone: Callable[..., Path], tmp_path: Path, zero: int, names: list[str]
) -> None:
    one = {name: alone(name) for name in names}

    def run_all() -> None:
        for name in names:
            train(name, made, tmp_path / name, 2, zero)

    in_processes(2, run_all, tmp_path, PATIENCE)
    for name in names:
        assert apart(one[name], tmp_path / name) < 1e-5, name
        assert_like(scores(tmp_path / name), scores(one[name]))
        assert {file.name for file in (tmp_path / name).iterdir()} == {file.name for file in one[name].iterdir()}


def test_a_training_that_was_cut_off_resumes_in_as_many_processes_and_begins_anew_in_others(
    made: Path, tmp_path: Path
) -> None:
    stage, _, changes = ALL["by_length_adam"]
    stage(made, arguments(tmp_path / "whole", 8, **changes, **SAVED))

    def begin() -> None:
        for folder in ("same", "others"):
            with cut_off_at(7):
                train("by_length_adam", made, tmp_path / folder, 2, **SAVED)
            PartialState().wait_for_everyone()
        train("by_length_adam", made, tmp_path / "same", 2, **SAVED)

    in_processes(2, begin, tmp_path, PATIENCE)
    in_processes(4, lambda: train("by_length_adam", made, tmp_path / "others", 4, **SAVED), tmp_path, PATIENCE)
    for folder, said in (
        ("same", "resuming from checkpoint-4"),
        ("others", "passing over checkpoint-4: saved by 2 processes, which DeepSpeed reads in as many only, not in 4"),
    ):
        assert said in (tmp_path / folder / "run.log").read_text(encoding="utf-8")
        assert apart(tmp_path / "whole", tmp_path / folder) < 1e-5


def test_weights_stay_in_float32_where_products_are_in_bfloat16(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_bfloat16(monkeypatch, True)
    stage, _, _ = ALL["distilled"]
    stage(made, arguments(tmp_path / "one", 8, **SHORT))
    in_processes(
        2, lambda: stage(made, arguments(tmp_path / "two", 4, deepspeed=config(), **SHORT)), tmp_path, PATIENCE
    )
    found = load_file(tmp_path / "two" / "model.safetensors")
    assert {weight.dtype for weight in found.values()} == {torch.float32}
    # Another order of sums in bfloat16, not weights that were rounded to it, which are 4e-3 apart.
    assert apart(tmp_path / "one", tmp_path / "two") < 1e-3


def test_a_whole_run_goes_through_deepspeed(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, "sequence_classification", num_train_epochs=1, eval_steps=7, save_steps=7)
    content = yaml.safe_load(recipe.read_text()) | {"methods": ["ted"], "check": False, "report": False}
    content["training"] |= {"deepspeed": config(), "per_device_train_batch_size": 2}
    recipe.write_text(yaml.safe_dump(content))
    in_processes(2, lambda: run(read_recipe(recipe, output_dir=str(tmp_path / "run"))), tmp_path, PATIENCE)
    assert (tmp_path / "run" / "ted" / "stage.json").is_file()
    assert (tmp_path / "run" / "results.md").is_file()
