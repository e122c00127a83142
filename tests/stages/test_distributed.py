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
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSequenceClassification

from processes import in_processes
from ted_distill import (
    DistillArguments,
    InputError,
    LearnFiltersArguments,
    StageArguments,
    TaskArguments,
    distill,
    finetune,
    learn_filters,
    load_task,
)
from ted_distill.models.scratch import train_tokenizer
from ted_distill.training.trainer import StageTrainer
from tiny import WORDS, save_tiny, write_reviews, write_text

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked"),
    pytest.mark.usefixtures("float32"),
]

NAMED: dict[str, Any] = {
    "initializer_range": 0.2, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    "id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1},
}  # fmt: skip
"""No dropout, and the labels of the reviews."""
ROWS = 46
"""Batches of 8 leave 6: two processes of 4 have 4 and 2 of them, four of 2 have 2, 2, 2 and none."""

Stage = Callable[[Path, StageArguments], object]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows, a teacher and a student."""
    folder = tmp_path_factory.mktemp("made")
    write_reviews(folder, ROWS, "train")
    write_reviews(folder, 11, "validation")
    write_text(folder, ROWS, "text")
    for name, width in (("teacher", 16), ("student", 8)):
        save_tiny(folder / name, AutoModelForSequenceClassification, blocks=2, width=width, seed=width, **NAMED)
    tokenizer = train_tokenizer(iter([WORDS]), 280, 64, [], masked=True)
    save_tiny(folder / "other_words", AutoModelForSequenceClassification, vocab_size=len(tokenizer), **NAMED)
    tokenizer.save_pretrained(folder / "other_words")
    save_tiny(
        folder / "decoder",
        AutoModelForCausalLM,
        "gpt2",
        initializer_range=0.2,
        attn_pdrop=0.0,
        embd_pdrop=0.0,
        resid_pdrop=0.0,
    )
    return folder


def reviews(folder: Path) -> Any:
    files = {"train_file": str(folder / "train.jsonl"), "validation_file": str(folder / "validation.jsonl")}
    return load_task(TaskArguments("sequence_classification", **files))


def stream(folder: Path) -> Any:
    files = {"train_file": str(folder / "text.txt"), "validation_file": str(folder / "text.txt")}
    return load_task(TaskArguments("causal_lm", **files, streaming=True, max_seq_length=8, shuffle_buffer=4))


def fine_tuned(folder: Path, args: StageArguments) -> object:
    return finetune(folder / "student", reviews(folder), args)


def with_filters(folder: Path, args: StageArguments) -> object:
    return learn_filters(folder / "teacher", reviews(folder), args, LearnFiltersArguments(filter_output_dim=8))


def distilled(folder: Path, args: StageArguments) -> object:
    return distill(
        folder / "teacher", folder / "student", reviews(folder), args, DistillArguments("lwd", mse_alpha=1.0)
    )


def distilled_without_some_labels(folder: Path, args: StageArguments) -> object:
    task = reviews(folder)
    task.arguments.unlabelled_file = str(folder / "text.txt")
    return distill(folder / "teacher", folder / "student", task, args, DistillArguments("kd", unlabelled_share=0.5))


def distilled_to_other_words(folder: Path, args: StageArguments) -> object:
    return distill(folder / "teacher", folder / "other_words", reviews(folder), args, DistillArguments("kd"))


def streamed(folder: Path, args: StageArguments) -> object:
    return finetune(folder / "decoder", stream(folder), args)


def arguments(folder: Path, size: int, accumulated: int = 1, **changes: Any) -> StageArguments:
    """Plain gradient descent: Adam would hide that a loss is some times too large."""
    found = {
        "per_device_train_batch_size": size, "gradient_accumulation_steps": accumulated, "num_train_epochs": 2,
        "optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0, "disable_tqdm": True, "use_cpu": True,
        "logging_steps": 1, **changes,
    }  # fmt: skip
    return StageArguments(str(folder), **found)


SHORT: dict[str, Any] = {"max_steps": 7, "num_train_epochs": 1, "eval_strategy": "no", "save_strategy": "no"}
CASES: dict[str, tuple[Stage, int, dict[str, Any]]] = {
    "by_length": (fine_tuned, 1, {}),
    "random_accumulated": (fine_tuned, 2, {"train_sampling_strategy": "random"}),
    "in_order": (fine_tuned, 1, {"train_sampling_strategy": "sequential", **SHORT}),
    "dispatched": (fine_tuned, 1, {"accelerator_config": {"dispatch_batches": True}, **SHORT}),
    "dropping_the_last": (fine_tuned, 1, {"dataloader_drop_last": True, **SHORT}),
    "filters": (with_filters, 1, SHORT),
    "filters_accumulated": (with_filters, 2, {"train_sampling_strategy": "random", **SHORT}),
    "distilled": (distilled, 1, {}),
    "distilled_accumulated": (distilled, 2, SHORT),
    "some_labels_accumulated": (distilled_without_some_labels, 2, SHORT),
    "other_words_accumulated": (distilled_to_other_words, 2, SHORT),
    # The stream has 34 blocks: the fifth update has 2, which one process takes, and the sixth begins it anew.
    "streamed": (streamed, 1, SHORT),
    "streamed_accumulated": (streamed, 2, SHORT),
}  # fmt: skip
"""Name -> the stage, batches accumulated, and what else is set."""


def weights(folder: Path, files: str) -> dict[str, torch.Tensor]:
    return {
        f"{file.name}/{name}": tensor for file in sorted(folder.glob(files)) for name, tensor in load_file(file).items()
    }


def apart(one: Path, other: Path, files: str = "*.safetensors") -> float:
    """The largest difference of two stages' weights, relative to a tensor's largest one where that is above 1."""
    first, second = weights(one, files), weights(other, files)
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max() / first[name].abs().max().clamp(min=1)) for name in first)


def scores(folder: Path) -> dict[str, Any]:
    """All results but the time and the names of the data."""
    results = json.loads((folder / "all_results.json").read_text())
    return {name: value for name, value in results.items() if name not in ("seconds", "scored_on")}


def assert_like(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """The same results; floating-point numbers but for their last digits."""
    assert found == {
        name: pytest.approx(value, rel=1e-5) if isinstance(value, float) else value for name, value in expected.items()
    }


@pytest.fixture(scope="module")
def alone(made: Path) -> Callable[[str], Path]:
    """The folder of a case in one process, whose batches hold all rows of an update."""

    @cache
    def trained(name: str) -> Path:
        stage, _, changes = CASES[name]
        stage(made, arguments(made / "alone" / name, 8, **changes))
        return made / "alone" / name

    return trained


def moved(name: str, made: Path, alone: Path) -> float:
    """How far the weights of a case have moved."""
    begun = {"streamed": "decoder", "other": "other_words"}.get(name.partition("_")[0], "student")
    return apart(made / begun, alone, "model.safetensors")


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


class Cut(BaseException):
    """Stands for the end of the processes: nothing in the project catches it."""


@pytest.mark.parametrize(
    ("name", "accumulated"),
    [("by_length", 2), pytest.param("distilled", 1, marks=pytest.mark.long)],
)
def test_processes_that_are_cut_off_go_on_with_the_rows_they_would_have_seen(
    made: Path, tmp_path: Path, name: str, accumulated: int
) -> None:
    """Cut off in the second epoch, after a checkpoint in the first: its last update has rows for one process only."""
    stage, training_step = CASES[name][0], StageTrainer.training_step

    def step_or_cut(self: StageTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.state.global_step == 8:
            raise Cut
        return training_step(self, *args, **kwargs)

    def train(folder: Path) -> None:
        saved = {"save_strategy": "steps", "save_steps": 4, "eval_strategy": "steps", "eval_steps": 4}
        stage(made, arguments(folder, 4 // accumulated, accumulated, **saved))

    def run() -> None:
        train(tmp_path / "whole")
        StageTrainer.training_step = step_or_cut
        with pytest.raises(Cut):
            train(tmp_path / "cut")
        StageTrainer.training_step = training_step
        (tmp_path / "cut" / "checkpoint-8" / "trainer_state.json").unlink(missing_ok=True)
        PartialState().wait_for_everyone()
        train(tmp_path / "cut")

    in_processes(2, run, tmp_path)
    assert apart(tmp_path / "whole", tmp_path / "cut") == 0
    assert scores(tmp_path / "whole") == scores(tmp_path / "cut")


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

    # With another number of processes the same command would train other weights.
    args = arguments(tmp_path / "two", 4, logging_steps=50)
    with pytest.raises(InputError, match="processes was 2, now 1"):
        fine_tuned(made, args)
