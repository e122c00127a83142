"""Checkpoints: training goes on exactly from the last whole one, wherever it lies, or says why it does not."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint.api import CheckpointException
from transformers import AutoModelForSequenceClassification

from conftest import set_bfloat16
from small_runs import cut_off_at
from ted_distill import StageArguments, Task, TaskArguments, TrainingError, finetune, load_task
from ted_distill.output import explain_full_disk
from ted_distill.output.checkpoints import _MANIFEST_NAME, SHARDED_OPTIMIZER, resumable_checkpoint, rotate_checkpoints
from ted_distill.output.files import files_below
from ted_distill.output.manifests import sums, write_sealed
from ted_distill.training.checkpointing import plain_errors, readable, room_needed
from ted_distill.training.saved_interrupts import SavedInterrupts
from tiny import save_tiny, write_reviews


@pytest.fixture(scope="module", autouse=True)
def _same_numbers() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        set_bfloat16(patch, False)
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model"), AutoModelForSequenceClassification)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    folder = tmp_path_factory.mktemp("data")
    files = [str(write_reviews(folder, 16, name)) for name in ("train", "validation")]
    return load_task(TaskArguments("sequence_classification", train_file=files[0], validation_file=files[1]))


def arguments(folder: Path, **changes: object) -> StageArguments:
    """Six steps with a checkpoint after every second one."""
    options: dict[str, object] = {"max_steps": 6, "per_device_train_batch_size": 8, "learning_rate": 1e-3}
    options |= {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 2, "save_steps": 2}
    return StageArguments(output_dir=str(folder), disable_tqdm=True, use_cpu=True, **{**options, **changes})


def cut_off(model: Path, task: Task, folder: Path, step: int = 5, **changes: object) -> Path:
    with cut_off_at(step):
        finetune(model, task, arguments(folder, **changes))
    return folder


@pytest.fixture(scope="module")
def whole(model: Path, task: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "out"
    finetune(model, task, arguments(folder))
    return folder


@pytest.fixture(scope="module")
def interrupted(model: Path, task: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cut_off(model, task, tmp_path_factory.mktemp("interrupted") / "out")


def same_results(folder: Path, other: Path) -> bool:
    found, wanted = (load_file(place / "model.safetensors") for place in (folder, other))
    scores = [json.loads((place / "all_results.json").read_text()) for place in (folder, other)]
    names = [[name for name in of_one if "seconds" not in name] for of_one in scores]
    same = names[0] == names[1] and all(scores[0][name] == scores[1][name] for name in names[0])
    return same and all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_an_interrupted_stage_that_was_moved_still_ends_with_its_best_weights(
    model: Path, task: Task, whole: Path, interrupted: Path, tmp_path: Path
) -> None:
    """The state of the trainer has the place of the best checkpoint, and that is where it was before."""
    folder = Path(shutil.move(shutil.copytree(interrupted, tmp_path / "before"), tmp_path / "after"))
    finetune(model, task, arguments(folder))
    assert json.loads((folder / "all_results.json").read_text())["best_step"] < 6
    assert same_results(folder, whole)


def test_a_checkpoint_names_no_folder_of_this_machine(interrupted: Path) -> None:
    files = [file for file in interrupted.rglob("*.json") if file.is_file()]
    assert any(file.name == "trainer_state.json" for file in files)
    for file in files:
        assert str(interrupted.parent) not in file.read_text(), file


class _Harm:
    """Makes a file when it is unpickled."""

    def __init__(self, file: str) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.file,)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
@pytest.mark.parametrize("as_torch_saves", [True, False])
def test_a_pickle_with_code_is_not_run_and_gives_one_line(
    model: Path, task: Task, interrupted: Path, tmp_path: Path, name: str, as_torch_saves: bool
) -> None:
    """Even where someone has made the manifest fit."""
    folder = Path(shutil.copytree(interrupted, tmp_path / "out"))
    for checkpoint in folder.glob("checkpoint-*"):
        harm = _Harm(str(tmp_path / "harm"))
        if as_torch_saves:
            torch.save(harm, checkpoint / name)
        else:
            (checkpoint / name).write_bytes(pickle.dumps(harm, protocol=2))
        (checkpoint / _MANIFEST_NAME).unlink()
        write_sealed(checkpoint / _MANIFEST_NAME, {"files": sums(checkpoint, files_below(checkpoint))})
    with pytest.raises(TrainingError, match="expected a checkpoint of this stage, got files that cannot be") as stopped:
        finetune(model, task, arguments(folder))
    assert "\n" not in str(stopped.value)
    assert len(str(stopped.value)) < 400
    assert not (tmp_path / "harm").exists()


def test_a_checkpoint_saved_without_its_optimizer_is_not_gone_on_from(
    model: Path, task: Task, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    only = {"save_only_model": True, "load_best_model_at_end": False}
    finetune(model, task, arguments(tmp_path / "whole", **only))
    folder = cut_off(model, task, tmp_path / "out", **only)
    finetune(model, task, arguments(folder, **only))
    assert "passing over checkpoint-4: saved without optimizer.pt, scheduler.pt, rng_state.pth" in caplog.text
    assert "starting from the beginning" in caplog.text
    assert same_results(folder, tmp_path / "whole")


def test_a_training_that_something_ended_early_is_not_published(
    model: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would count as finished, and never be resumed."""
    on_step_end = SavedInterrupts.on_step_end

    def stop(self: SavedInterrupts, args: Any, state: Any, control: Any, **more: Any) -> None:
        control.should_training_stop = state.global_step == 4
        on_step_end(self, args, state, control, **more)

    with monkeypatch.context() as patch:
        patch.setattr(SavedInterrupts, "on_step_end", stop)
        with pytest.raises(TrainingError, match="expected 6 updates, got 4, as something ended the training"):
            finetune(model, task, arguments(tmp_path / "out"))
    assert not (tmp_path / "out" / "stage.json").exists()
    assert finetune(model, task, arguments(tmp_path / "out"))["steps"] == 6


def test_all_files_of_checkpoints_that_are_there_count_as_room_that_is_taken(
    model: Path, task: Task, tmp_path: Path
) -> None:
    """Sharded optimizers are in a folder of the checkpoint."""
    args = arguments(tmp_path)
    free = room_needed(args, 100, [], 16, 0, [])[0].size
    (tmp_path / "checkpoint-2" / SHARDED_OPTIMIZER).mkdir(parents=True)
    (tmp_path / "checkpoint-2" / SHARDED_OPTIMIZER / "__0_0.distcp").write_bytes(bytes(30))
    (tmp_path / "checkpoint-2" / "scheduler.pt").write_bytes(bytes(20))
    assert room_needed(args, 100, [], 16, 0, [])[0].size == free - 50


def test_an_error_of_shards_is_raised_as_what_it_was(tmp_path: Path) -> None:
    """PyTorch's own is no `Exception`, and would go past all that explains or tidies up."""
    full = OSError(28, "No space left on device")
    with pytest.raises(TrainingError, match="is full"), explain_full_disk([tmp_path]), plain_errors():
        raise CheckpointException("", {0: wrapped(full)})
    with pytest.raises(TrainingError, match="got files that cannot be read"), readable("checkpoint-3"), plain_errors():
        raise CheckpointException("", {1: wrapped(EOFError())})


def wrapped(error: Exception) -> Any:
    return error, traceback.extract_stack()


def test_a_stage_scored_more_often_than_it_is_saved_ends_with_the_best_of_what_was_saved(
    model: Path, task: Task, tmp_path: Path
) -> None:
    results = finetune(model, task, arguments(tmp_path / "out", eval_steps=1, save_steps=3))
    assert results["best_step"] in (3, 6)


def test_the_optimizer_is_looked_for_where_sharded_weights_leave_it(
    interrupted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert resumable_checkpoint(interrupted) == interrupted / "checkpoint-4"
    assert resumable_checkpoint(interrupted, optimizer=f"{SHARDED_OPTIMIZER}/.metadata") is None
    assert resumable_checkpoint(interrupted, processes=2) is None
    assert "saved without optimizer_shards/.metadata" in caplog.text


def test_rotation_deletes_our_oldest_and_those_that_were_passed_over(tmp_path: Path) -> None:
    for step in (2, 4, 6, 9):
        (tmp_path / f"checkpoint-{step}").mkdir()
        write_sealed(tmp_path / f"checkpoint-{step}" / _MANIFEST_NAME, {"files": {}})
    mine = ["checkpoint-1", "checkpoint-best", "checkpoint-3-old"]
    for name in mine:
        (tmp_path / name).mkdir()
    rotate_checkpoints(tmp_path, None, {6, 2})
    rotate_checkpoints(tmp_path, 3, {6, 2})
    assert {folder.name for folder in tmp_path.iterdir()} == {"checkpoint-2", "checkpoint-4", "checkpoint-6", *mine}
    rotate_checkpoints(tmp_path, 1, {6, 2})
    assert {folder.name for folder in tmp_path.iterdir()} == {"checkpoint-2", "checkpoint-6", *mine}
