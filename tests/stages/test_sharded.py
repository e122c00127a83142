"""Weights that are split over processes by FSDP2 become what they become in one process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import PartialState
from torch.distributed.fsdp import FSDPModule
from transformers import AutoModelForSequenceClassification

from processes import in_processes
from shared_stages import CASES, SHORT, apart, arguments, assert_like, distilled, make, reviews, scores, with_filters
from sharded import sharded_on_cpus
from ted_distill import DistillArguments, InputError, StageArguments, distill
from ted_distill.training.trainer import StageTrainer

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked"),
    pytest.mark.usefixtures("float32"),
]

ADAM: dict[str, Any] = {"optim": "adamw_torch", "learning_rate": 1e-3, "max_grad_norm": 0.1}
"""An optimizer with a state, and gradients that are cut to a length."""


def with_learnt_filters(folder: Path, args: StageArguments) -> object:
    """TED on the filters that `learnt` has left; the student's are fitted by least squares."""
    return distill(folder / "learnt", folder / "student", reviews(folder), args, DistillArguments("ted", mse_alpha=1.0))


def with_relations(folder: Path, args: StageArguments) -> object:
    return distill(folder / "teacher", folder / "student", reviews(folder), args, DistillArguments("attention"))


def balanced(folder: Path, args: StageArguments) -> object:
    own = DistillArguments("lwd", mse_alpha=1.0, layer_loss="normalized_mse", pair_weights=["balanced"])
    return distill(folder / "teacher", folder / "student", reviews(folder), args, own)


OWN: dict[str, tuple[Any, int, dict[str, Any]]] = {
    "ted": (with_learnt_filters, 1, {}),
    "ted_adam_accumulated": (with_learnt_filters, 2, ADAM),
    "by_length_adam": (CASES["by_length"][0], 1, ADAM),
    "filters_adam": (with_filters, 1, ADAM),
    "without_a_cache": (distilled, 1, {"cache_limit": 0}),
    "filters_without_a_cache": (with_filters, 1, {"cache_limit": 0, **SHORT}),
    "relations": (with_relations, 1, SHORT),
    "balanced": (balanced, 1, SHORT),
    "checkpointed_activations": (distilled, 1, {"activation_checkpointing": True, **SHORT}),
    "scored_first": (CASES["by_length"][0], 1, {"eval_on_start": True}),
}
ALL = CASES | OWN


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def alone(made: Path) -> Callable[[str], Path]:
    """The folder of a case in one process, whose batches hold all rows of an update."""

    @cache
    def trained(name: str) -> Path:
        stage, _, changes = ALL[name]
        if name.startswith("ted") and not (made / "learnt").exists():
            with_filters(made, arguments(made / "learnt", 8))
        stage(made, arguments(made / "alone" / name, 8, **changes))
        return made / "alone" / name

    return trained


def in_shards(number: int, function: Callable[[], object], folder: Path) -> None:
    """Call a function in so many processes that split weights between them."""

    def run() -> None:
        with sharded_on_cpus():
            function()

    in_processes(number, run, folder)


def train(name: str, made: Path, folder: Path, processes: int, **more: Any) -> None:
    stage, accumulated, changes = ALL[name]
    stage(made, arguments(folder, 8 // processes // accumulated, accumulated, fsdp=True, **changes, **more))


@pytest.mark.parametrize(
    ("processes", "names"),
    [
        (2, ["distilled_accumulated"]),
        pytest.param(2, [name for name in ALL if name != "distilled_accumulated"], marks=pytest.mark.long),
        pytest.param(4, ["by_length_adam", "filters_adam", "ted", "streamed"], marks=pytest.mark.long),
    ],
)
def test_shards_become_the_weights_and_scores_of_one_process(
    made: Path, alone: Callable[[str], Path], tmp_path: Path, processes: int, names: list[str]
) -> None:
    one = {name: alone(name) for name in names}
    in_shards(processes, lambda: [train(name, made, tmp_path / name, processes) for name in names], tmp_path)
    for name in names:
        assert apart(one[name], tmp_path / name) < 1e-5, name
        assert_like(scores(tmp_path / name), scores(one[name]))
        found = {file.name for file in (tmp_path / name).iterdir()}
        assert found == {file.name for file in one[name].iterdir()}
