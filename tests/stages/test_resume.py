"""A stage that is cut off goes on from its last checkpoint and ends with the same weights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from small_runs import TASKS, Cut, cut_off_at, write_recipe
from ted_distill import StageArguments, TaskArguments, finetune, load_task, read_recipe, run
from ted_distill.tasks.text import block_stream
from ted_distill.training.trainer import StageTrainer
from tiny import save_tiny, write_text

STAGES = ["teacher", "student", "teacher_filters", "student_filters", "alone", "kd", "lwd", "ted"]


def weights(run_folder: Path) -> dict[str, torch.Tensor]:
    """All weights of all stages."""
    return {
        f"{stage}/{file.name}/{name}": tensor
        for stage in STAGES
        for file in sorted((run_folder / stage).glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different, different[:5]


@pytest.mark.parametrize(
    "task", [pytest.param(task, marks=() if task == "masked_lm" else pytest.mark.long) for task in TASKS]
)
def test_every_stage_cut_off_after_its_second_checkpoint_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    """All methods on one task; TED, which goes through the most stages, on the others."""
    strategy = "random" if task in ("sequence_classification", "masked_lm") else "group_by_length"
    recipe = write_recipe(tmp_path, task, train_sampling_strategy=strategy, gradient_accumulation_steps=2)
    methods = ["alone", "kd", "lwd", "ted"] if task == "sequence_classification" else ["alone", "ted"]
    stages = [stage for stage in STAGES if stage not in ("alone", "kd", "lwd", "ted") or stage in methods]
    own = f"methods=[{','.join(methods)}]"
    run(read_recipe(recipe, [f"output_dir={tmp_path / 'whole'}", own]))

    cut: set[str] = set()
    training_step = StageTrainer.training_step

    def cut_once(self: StageTrainer, *args: object, **kwargs: object) -> torch.Tensor:
        if self.state.global_step == 4 and self.args.output_dir not in cut:
            cut.add(self.args.output_dir)
            raise Cut
        return training_step(self, *args, **kwargs)

    monkeypatch.setattr(StageTrainer, "training_step", cut_once)
    for _ in stages:
        with pytest.raises(Cut):
            run(read_recipe(recipe, [f"output_dir={tmp_path / 'cut'}", own]))
    run(read_recipe(recipe, [f"output_dir={tmp_path / 'cut'}", own]))
    assert len(cut) == len(stages)
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("cut_at", [8, 14])
def test_a_stream_that_is_read_again_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut_at: int
) -> None:
    """Cut off within a later pass of the stream, and after the last step; nothing before is tokenised again."""
    monkeypatch.setattr(block_stream, "_ROWS", 4)
    text, model = write_text(tmp_path, 30, "text"), save_tiny(tmp_path / "model", AutoModelForCausalLM, "gpt2")
    files = {"train_file": str(text), "validation_file": str(text)}
    task = load_task(TaskArguments("causal_lm", **files, streaming=True, max_seq_length=8, shuffle_buffer=4))
    saved = {"save_steps": 3, "save_strategy": "steps", "eval_strategy": "no", "disable_tqdm": True, "use_cpu": True}

    def train(folder: Path) -> StageTrainer:
        args = StageArguments(
            str(folder), max_steps=14, per_device_train_batch_size=3, gradient_accumulation_steps=2, **saved
        )
        finetune(model, task, args)
        return trainers[-1]

    trainers: list[StageTrainer] = []
    fit, maybe_log = StageTrainer.fit, StageTrainer._maybe_log_save_evaluate

    def remember(self: StageTrainer) -> dict[str, object]:
        trainers.append(self)
        return fit(self)

    def cut_after(self: StageTrainer, *args: object, **kwargs: object) -> None:
        maybe_log(self, *args, **kwargs)
        if self.state.global_step == cut_at:
            raise Cut

    monkeypatch.setattr(StageTrainer, "fit", remember)
    whole = train(tmp_path / "whole")
    assert whole.state.epoch > 2
    with monkeypatch.context() as patch:
        patch.setattr(StageTrainer, "_maybe_log_save_evaluate", cut_after)
        with pytest.raises(Cut):
            train(tmp_path / "cut")
    made: list[str] = []
    original = block_stream._Tokens._made
    monkeypatch.setattr(block_stream._Tokens, "_made", lambda *args: (made.extend(args[1]), original(*args))[1])
    assert train(tmp_path / "cut").state.global_step == whole.state.global_step == 14
    lines = text.read_text().splitlines(keepends=True)
    assert lines.index(made[0]) > 0 if cut_at == 8 else not made
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.long
def test_a_run_killed_with_signal_9_goes_on_and_ends_with_the_same_weights(tmp_path: Path) -> None:
    recipe = write_recipe(
        tmp_path,
        task="sequence_classification",
        num_train_epochs=10,
        eval_steps=7,
        save_steps=7,
        bf16=False,
        frozen_dtype="float32",
    )
    command = [sys.executable, "-m", "ted_distill", "run", str(recipe), "methods=[ted]"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    run(read_recipe(recipe, [f"output_dir={tmp_path / 'whole'}", "methods=[ted]"]))

    process = subprocess.Popen([*command, f"output_dir={tmp_path / 'cut'}"], env=environment, stderr=subprocess.DEVNULL)
    folder = tmp_path / "cut" / "ted"
    deadline = time.monotonic() + 120
    while not list(folder.glob("checkpoint-*/trainer_state.json")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "stage.json").exists()

    finished = subprocess.run(
        [*command, f"output_dir={tmp_path / 'cut'}"], env=environment, capture_output=True, text=True, check=True
    )
    assert "resuming from checkpoint" in finished.stderr
    assert "teacher is finished, skipped" in finished.stderr
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")


def test_a_checkpoint_that_was_cut_off_while_it_was_written_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = write_recipe(tmp_path, task="sequence_classification")
    overrides = ["methods=[kd]", "training.num_train_epochs=1"]
    run(read_recipe(recipe, [f"output_dir={tmp_path / 'whole'}", *overrides]))
    read = read_recipe(recipe, [f"output_dir={tmp_path / 'cut'}", *overrides])
    with cut_off_at(6):
        run(read)
    state = tmp_path / "cut" / "teacher" / "checkpoint-6" / "trainer_state.json"
    state.write_text(state.read_text()[:40])
    with caplog.at_level("WARNING"):
        run(read_recipe(recipe, [f"output_dir={tmp_path / 'cut'}", *overrides]))
    assert "passing over checkpoint-6: trainer_state.json (changed)" in caplog.text
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")
