"""Several processes give the weights that one gives, whether or not the last batch is full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import PartialState
from transformers import AutoModelForMaskedLM

from processes import in_processes
from shared_stages import CASES, NAMED, SHORT, apart, arguments, assert_like, fine_tuned, make, moved, scores
from small_runs import cut_off_at
from ted_distill import InputError, TaskArguments, finetune, load_task
from ted_distill.output import gathered
from ted_distill.training.trainer import StageTrainer
from ted_distill.training.updates import STREAM_NAME
from tiny import save_tiny

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked"),
    pytest.mark.usefixtures("float32"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def alone(made: Path) -> Callable[[str], Path]:
    """The folder of a case in one process, whose batches hold all rows of an update."""

    @cache
    def trained(name: str) -> Path:
        stage, _, changes = CASES[name]
        stage(made, arguments(made / "alone" / name, 8, **changes))
        return made / "alone" / name

    return trained


QUICK = ["by_length", "filters_accumulated", "distilled_accumulated", "streamed_accumulated"]


@pytest.mark.parametrize(
    ("processes", "names"),
    [
        (2, QUICK),
        pytest.param(2, [name for name in CASES if name not in QUICK], marks=pytest.mark.long),
        pytest.param(4, [name for name in CASES if CASES[name][1] == 1], marks=pytest.mark.long),
        pytest.param(8, ["by_length", "filters", "distilled", "streamed"], marks=pytest.mark.long),
    ],
)
def test_any_number_of_processes_gives_the_weights_and_scores_of_one(
    made: Path, alone: Callable[[str], Path], tmp_path: Path, processes: int, names: list[str]
) -> None:
    """46 rows in updates of 8: the last update of an epoch has rows for some of the processes only."""
    one = {name: alone(name) for name in names}

    def run() -> None:
        for name in names:
            stage, accumulated, changes = CASES[name]
            stage(made, arguments(tmp_path / name, 8 // processes // accumulated, accumulated, **changes))

    in_processes(processes, run, tmp_path)
    for name in names:
        far = 1.0 if name.startswith("filters") else moved(name, made, one[name])
        assert far > 1e-2, name
        # Weights are about 1, whose last digit in float32 is 1.2e-7; filters have larger gradients, of scaled states.
        assert apart(one[name], tmp_path / name) < (1e-6 if name.startswith("filters") else 4e-7), (name, far)
        assert_like(scores(tmp_path / name), scores(one[name]))


def test_processes_hide_the_tokens_that_one_hides_which_accumulates_their_batches(made: Path, tmp_path: Path) -> None:
    files = {"train_file": str(made / "text.txt"), "validation_file": str(made / "text.txt")}
    task = load_task(TaskArguments("masked_lm", **files, max_seq_length=16, mlm_probability=0.5))
    model = save_tiny(tmp_path / "model", AutoModelForMaskedLM, **NAMED)

    def train(name: str, accumulated: int) -> None:
        finetune(model, task, arguments(tmp_path / name, 2, accumulated, **SHORT))

    train("one", 2)
    in_processes(2, lambda: train("two", 1), tmp_path)
    assert apart(tmp_path / "model", tmp_path / "one") > 1e-2
    assert apart(tmp_path / "one", tmp_path / "two") < 4e-7


@pytest.mark.parametrize(
    ("name", "accumulated"),
    [("by_length", 2), ("streamed", 2), pytest.param("distilled", 1, marks=pytest.mark.long)],
)
def test_processes_that_are_cut_off_go_on_with_the_rows_they_would_have_seen(
    made: Path, tmp_path: Path, name: str, accumulated: int
) -> None:
    """Cut off in the second epoch, after a checkpoint in the first: its last update has rows for one process only."""
    stage = CASES[name][0]
    ends = {"max_steps": 10, "load_best_model_at_end": False, "save_total_limit": 2} if name == "streamed" else {}

    def train(folder: Path) -> None:
        saved = {"save_strategy": "steps", "save_steps": 4, "eval_strategy": "steps", "eval_steps": 4}
        stage(made, arguments(folder, 4 // accumulated, accumulated, **saved, **ends))

    def run() -> None:
        train(tmp_path / "whole")
        with cut_off_at(8):
            train(tmp_path / "cut")
        assert (tmp_path / "cut" / "checkpoint-4" / STREAM_NAME).is_file() == (name == "streamed")
        (tmp_path / "cut" / "checkpoint-8" / "trainer_state.json").unlink(missing_ok=True)
        PartialState().wait_for_everyone()
        train(tmp_path / "cut")

    in_processes(2, run, tmp_path)
    assert apart(tmp_path / "whole", tmp_path / "cut") == 0
    assert scores(tmp_path / "whole") == scores(tmp_path / "cut")


def test_processes_that_have_read_other_rows_are_refused_before_the_first_update(made: Path, tmp_path: Path) -> None:
    """As from an old copy of the file on one of two machines: nothing else would show it."""

    def run() -> None:
        args = arguments(tmp_path / "out", 4, **SHORT)
        files = {"train_file": str(made / ("train" if args.process_index == 0 else "validation")) + ".jsonl"}
        task = load_task(TaskArguments("sequence_classification", **files))
        with pytest.raises(InputError, match="of rank 1 than in the main one: rows train was 46, now 11; da"):
            finetune(made / "student", task, args)

    in_processes(2, run, tmp_path)
    assert not (tmp_path / "out").exists()


def test_each_process_draws_dropout_of_its_own(made: Path, tmp_path: Path) -> None:
    training_step = StageTrainer.training_step

    def step(self: StageTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        drawn = torch.rand(1).item()
        assert len(set(gathered(drawn))) == self.args.world_size
        return training_step(self, *args, **kwargs)

    def run() -> None:
        StageTrainer.training_step = step
        fine_tuned(made, arguments(tmp_path / "out", 4, **SHORT))

    in_processes(2, run, tmp_path)


@pytest.mark.long
def test_two_processes_of_torchrun_give_the_weights_of_one(
    made: Path, alone: Callable[[str], Path], tmp_path: Path
) -> None:
    """From the command line, as it is used."""
    flags = ["--task", "sequence_classification", "--model_name_or_path", str(made / "student")]
    flags += ["--train_file", str(made / "train.jsonl"), "--validation_file", str(made / "validation.jsonl")]
    flags += ["--optim", "sgd", "--learning_rate", "0.1", "--max_grad_norm", "0", "--num_train_epochs", "2"]
    flags += ["--per_device_train_batch_size", "4", "--use_cpu", "true", "--bf16", "false", "--disable_tqdm", "true"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    command = [*launcher, "-m", "ted_distill", "finetune", *flags, "--output_dir", str(tmp_path / "two")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    first = "training on 46 rows, global batch 8 = 4 per device x 1 accumulated x 2 processes, 12 updates in 2 epochs"
    assert done.stderr.count(first) == 1
    one = alone("by_length")
    assert apart(one, tmp_path / "two") < 4e-7
    assert_like(scores(tmp_path / "two"), scores(one))
    settings = json.loads((tmp_path / "two" / "settings.json").read_text())
    assert (settings["processes"], settings["global_batch"]) == (2, 8)

    # With another number of processes the same command would train other weights, unless its batches make up for it.
    with pytest.raises(InputError, match="processes was 2, now 1"):
        fine_tuned(made, arguments(tmp_path / "two", 4, logging_steps=50))
    fine_tuned(made, arguments(tmp_path / "two", 4, 2, logging_steps=50))
