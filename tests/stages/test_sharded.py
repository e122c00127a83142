"""Weights that are split over processes by FSDP2 become what they become in one process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import PartialState
from torch.distributed.fsdp import FSDPModule

from processes import in_processes
from sharded import sharded_on_cpus
from shared_stages import ALL, SAVED, apart, arguments, assert_like, make, reviews, scores, trained_alone
from small_runs import cut_off_at
from ted_distill import DistillArguments, InputError, distill
from ted_distill.training.trainer import StageTrainer

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked"),
    pytest.mark.usefixtures("float32"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def alone(made: Path) -> Callable[[str], Path]:
    return trained_alone(made)


def in_shards(number: int, function: Callable[[], object], folder: Path) -> None:
    """Call a function in so many processes that split weights between them."""

    def run() -> None:
        with sharded_on_cpus():
            function()

    in_processes(number, run, folder, patience=900)


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


@pytest.mark.long
def test_filters_that_were_learnt_in_shards_fit_the_model_beside_them(made: Path, tmp_path: Path) -> None:
    """`filters.json` has the sum of the model's weights, which no process of several has by itself."""
    in_shards(2, lambda: train("filters", made, tmp_path / "learnt", 2), tmp_path)
    methods = DistillArguments("ted", mse_alpha=1.0)
    found = distill(tmp_path / "learnt", made / "student", reviews(made), arguments(tmp_path / "ted", 8), methods)
    assert found["steps"] == 12  # type: ignore[index]


@pytest.mark.long
@pytest.mark.parametrize("name", ["by_length_adam", "ted_adam_accumulated", "filters_adam"])
def test_shards_that_are_cut_off_go_on_in_as_many_processes_or_in_others(
    made: Path, alone: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    """Two processes, cut off in the second epoch, become two again, or four with half the rows in a batch each."""
    alone(name)
    stage, _, changes = ALL[name]
    stage(made, arguments(tmp_path / "whole", 8, **changes, **SAVED))
    others = 1 if "accumulated" in name else 4

    def begin() -> None:
        for folder in ("same", "others"):
            with cut_off_at(7):
                train(name, made, tmp_path / folder, 2, **SAVED)
            PartialState().wait_for_everyone()
        train(name, made, tmp_path / "same", 2, **SAVED)

    in_shards(2, begin, tmp_path)
    in_shards(others, lambda: train(name, made, tmp_path / "others", others, **SAVED), tmp_path)
    for folder in ("same", "others"):
        assert "resuming from checkpoint-4" in (tmp_path / folder / "run.log").read_text(encoding="utf-8")
        assert apart(tmp_path / "whole", tmp_path / folder) < 1e-5
        assert_like(scores(tmp_path / folder), scores(tmp_path / "whole"))


@pytest.mark.long
def test_a_run_of_which_one_process_is_killed_goes_on(made: Path, alone: Callable[[str], Path], tmp_path: Path) -> None:
    """The other one stops too: what it waits for never comes."""
    training_step = StageTrainer.training_step

    def step_or_die(self: StageTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.state.global_step == 8 and self.args.process_index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return training_step(self, *args, **kwargs)

    def killed() -> None:
        StageTrainer.training_step = step_or_die
        train("by_length_adam", made, tmp_path / "out", 2)

    with pytest.raises(AssertionError):
        in_shards(2, killed, tmp_path)
    assert (tmp_path / "out" / "checkpoint-6").is_dir()
    in_shards(2, lambda: train("by_length_adam", made, tmp_path / "out", 2), tmp_path)
    assert apart(alone("by_length_adam"), tmp_path / "out") < 1e-5
    assert_like(scores(tmp_path / "out"), scores(alone("by_length_adam")))


@pytest.mark.long
def test_blocks_of_student_and_teacher_are_sharded(made: Path, tmp_path: Path) -> None:
    """Nothing above would notice if everything stayed whole."""

    def run() -> None:
        seen: list[tuple[int, ...]] = []
        loss_terms = StageTrainer.compute_loss

        def look(self: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(tuple(sum(isinstance(part, FSDPModule) for part in model.modules())
                              for model in (self.model, self.teacher)))  # fmt: skip
            return loss_terms(self, *args, **kwargs)

        StageTrainer.compute_loss = look
        train("distilled", made, tmp_path / "out", 2)
        # Two blocks each, and what is left of the student.
        assert set(seen) == {(3, 2)}

    in_shards(2, run, tmp_path)


def test_cpu_processes_say_that_nothing_is_sharded(made: Path, tmp_path: Path) -> None:
    in_processes(2, lambda: train("in_order", made, tmp_path / "out", 2), tmp_path)
    log = (tmp_path / "out" / "run.log").read_text(encoding="utf-8")
    assert log.count("fsdp: expected GPUs to split weights over, got 2 processes on a CPU, where accelerate") == 1


def test_one_process_has_nothing_to_split(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fsdp: expected processes to split weights over, got one"):
        arguments(tmp_path, 8, fsdp=True)
