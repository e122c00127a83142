"""A disk that is too small is named before a stage starts, and one that fills up in one line."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from ted_distill import InputError, StageArguments, Task, TaskArguments, TrainingError, evaluate, finetune, load_task
from ted_distill.cli.main import COMMANDS, _full_disk, main
from ted_distill.fast import states_cache
from ted_distill.output import Need, check_space, explain_full_disk, locked
from ted_distill.training.checkpointing import checkpoints_at_once
from tiny import save_tiny, write_reviews

PUBLISHED = Path(__file__).parents[1] / "data" / "published" / "native_stage1" / "cls3_student"
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model"), AutoModelForSequenceClassification)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    folder = tmp_path_factory.mktemp("data")
    files = [str(write_reviews(folder, 16, name)) for name in ("train", "validation")]
    return load_task(TaskArguments("sequence_classification", train_file=files[0], validation_file=files[1]))


def arguments(folder: Path, **changes: object) -> StageArguments:
    options = {"num_train_epochs": 2, "per_device_train_batch_size": 8, "disable_tqdm": True, "use_cpu": True}
    return StageArguments(output_dir=str(folder), **{**options, **changes})


@pytest.fixture(scope="module")
def whole(model: Path, task: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "out"
    finetune(model, task, arguments(folder))
    return folder


# --- before -------------------------------------------------------------------------------------------------------


def disk_of(free: int) -> Callable[[object], SimpleNamespace]:
    return lambda path: SimpleNamespace(total=10**12, used=0, free=free)


def test_a_stage_that_will_not_fit_is_refused_before_it_trains(
    model: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", disk_of(10**5))
    with pytest.raises(InputError) as refused:
        finetune(model, task, arguments(tmp_path / "out"))
    (problem,) = refused.value.problems
    assert problem.startswith("output_dir: expected ")
    assert "free on the disk at /" in problem
    assert "(checkpoints 139 kB, the finished model 24 kB)" in problem
    assert "got 100 kB; make room" in problem
    assert not list((tmp_path / "out").glob("checkpoint-*"))


def test_needs_are_added_up_disk_by_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", disk_of(5 * 10**9))
    check_space([Need("checkpoints", tmp_path, 3 * 10**9), Need("the model", tmp_path / "not" / "there", 10**9)])
    with pytest.raises(InputError, match=r"expected 6.0 GB free .*\(checkpoints 3.0 GB, hidden states 3.0 GB\), got 5"):
        check_space([Need("checkpoints", tmp_path, 3 * 10**9), Need("hidden states", tmp_path, 3 * 10**9)])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"num_train_epochs": 1}, 1),
        ({"num_train_epochs": 9}, 3),
        ({"num_train_epochs": 9, "save_total_limit": 4}, 5),
        ({"num_train_epochs": 9, "save_total_limit": None}, 9),
        ({"num_train_epochs": 9, "eval_strategy": "no"}, 2),
        ({"save_strategy": "no", "load_best_model_at_end": False}, 0),
        ({"max_steps": 40, "save_strategy": "steps", "eval_strategy": "steps", "save_steps": 10, "eval_steps": 10}, 3),
        ({"max_steps": 20, "save_strategy": "steps", "eval_strategy": "no", "save_steps": 0.5}, 2),
        ({"num_train_epochs": 10, "dataloader_drop_last": True, "save_total_limit": None}, 10),
    ],
)
def test_checkpoints_are_counted_as_they_will_be_kept(tmp_path: Path, changes: dict, expected: int) -> None:
    assert checkpoints_at_once(arguments(tmp_path, **changes), rows=16) == expected


# --- meanwhile ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("[enforce fail at inline_container.cc:659] . unexpected pos 125504 vs 125396"),
        RuntimeError("[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed writing file data/0"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_whatever_says_that_a_disk_is_full_becomes_one_line(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(TrainingError) as stopped, explain_full_disk([tmp_path], 3 * 10**9):
        raise ValueError("something went wrong on the way") from error
    text = str(stopped.value)
    assert text.startswith(f"{tmp_path}: the disk at /")
    assert "3.0 GB are needed" in text
    assert text.endswith("make room, and the same command resumes from the last checkpoint")
    assert "\n" not in text


def test_of_a_copy_the_disk_that_is_full_is_that_of_the_target(tmp_path: Path) -> None:
    """Python names the source first."""
    error = OSError(errno.ENOSPC, "No space left on device", "/proc/version", None, str(tmp_path / "copy"))
    said = str(_full_disk(error))
    assert said.startswith(f"{tmp_path / 'copy'}: the disk at /")
    assert "the disk at /proc" not in said


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), RuntimeError("shape mismatch"), KeyError(28)]
)
def test_other_errors_stay_what_they_are(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)), explain_full_disk([tmp_path]):
        raise error


def finetune_with_files_of_at_most(size: int, model: Path, task: Task, args: StageArguments) -> None:
    """No file of this process can grow beyond `size` bytes: real errors of the system, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        finetune(model, task, args)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [2_000, 15_000, 40_000])
def test_a_stage_on_a_full_disk_stops_in_one_line_and_goes_on_when_there_is_room(
    model: Path, task: Task, whole: Path, tmp_path: Path, size: int
) -> None:
    """The settings, the weights or the optimizer do not fit."""
    assert 15_000 < (whole / "model.safetensors").stat().st_size < 40_000
    folder = tmp_path / "out"
    with pytest.raises(TrainingError, match=r"is full: .* needed; make room, and the same command resumes"):
        finetune_with_files_of_at_most(size, model, task, arguments(folder))
    if size > 2_000:
        assert {entry.name for entry in folder.iterdir()} == {"settings.json", "run.log"}
    else:
        assert not folder.exists()
    finetune(model, task, arguments(folder))
    assert same_weights(folder, whole)


def same_weights(folder: Path, other: Path) -> bool:
    found, wanted = (load_file(place / "model.safetensors") for place in (folder, other))
    return all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_disk_that_fills_up_when_the_model_is_published_loses_nothing(
    model: Path,
    task: Task,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise FULL

    folder = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["ted_distill.stages.finetune"], "write_card", fail)
        with pytest.raises(TrainingError, match=r"[1-9]\d* kB are needed; make room"):
            finetune(model, task, arguments(folder))
    assert {entry.name for entry in folder.iterdir()} <= {"settings.json", "run.log", "checkpoint-2", "checkpoint-4"}
    finetune(model, task, arguments(folder))
    assert "resuming from checkpoint-4" in caplog.text
    assert same_weights(folder, whole)


def test_the_command_ends_with_exit_code_1_and_one_line(
    model: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:659] . unexpected pos 125504 vs 125396")

    monkeypatch.setattr(torch, "save", fail)
    rows = task.arguments.train_file
    flags = ["--task", "sequence_classification", "--train_file", str(rows), "--validation_file", str(rows)]
    flags += ["--max_steps", "1", "--disable_tqdm", "--use_cpu", "--output_dir", str(tmp_path / "out")]
    assert main(["finetune", "--model_name_or_path", str(model), *flags]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "full" in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"ted finetune: {tmp_path / 'out'}: the disk at /")
    assert "Traceback" not in lines[0]


# --- folders that cannot be written -------------------------------------------------------------------------------


def test_a_cache_dir_that_cannot_be_written_is_refused_by_its_name(model: Path, task: Task, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    args = arguments(tmp_path / "out", cache_dir=str(tmp_path / "file" / "cache"))
    with pytest.raises(InputError, match=r"cache_dir: .*file/cache cannot be written \(Not a directory\); choose"):
        finetune(model, task, args)


@pytest.mark.parametrize("already_read", [False, True])
def test_a_cache_of_datasets_that_cannot_be_written_is_not_blamed_on_the_data(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, already_read: bool
) -> None:
    rows = str(write_reviews(tmp_path, 8))
    (tmp_path / "file").write_text("")
    task = load_task(TaskArguments("sequence_classification", train_file=rows, validation_file=rows))
    if already_read:
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        assert task.rows

        def fail(*args: object, **kwargs: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(datasets.Dataset, "map", fail)
    else:
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "file" / "cache")
    with pytest.raises(InputError, match="HF_DATASETS_CACHE: expected a folder for prepared data") as refused:
        finetune(model, task, arguments(tmp_path / "out", max_steps=1))
    assert "reviews.jsonl" not in str(refused.value)


# --- systems without calls by position ------------------------------------------------------------------------------


def test_sizes_are_those_of_the_files_where_the_system_does_not_say_what_they_take() -> None:
    assert states_cache._allocated(SimpleNamespace(st_size=5)) == 5  # type: ignore[arg-type]
    assert states_cache._allocated(SimpleNamespace(st_size=5, st_blocks=8)) == 4096  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["evaluate", "student", "import-published"])
def test_every_command_says_that_the_disk_is_full_and_leaves_no_folder(
    name: str, model: Path, task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = str(task.arguments.validation_file), tmp_path / "new" / "out"
    words = {
        "evaluate": [
            "--task", "sequence_classification", "--model_name_or_path", str(model), "--validation_file", file,
            "--output_dir", str(out), "--use_cpu", "true",
        ],
        "student": [str(model), str(out), "--layers", "1"],
        "import-published": [str(PUBLISHED), str(out)],
    }  # fmt: skip
    evaluate(model, task, use_cpu=True)  # the rows are in the cache of tokenised rows then
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, hard))
    try:
        assert main([name, *words[name]]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ted ")]
    assert f"{out}: the disk at /" in line
    assert line.endswith("make room, and the same command does it again")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_was_there_stays_when_nothing_is_written_into_it(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the disk at"), locked(tmp_path / "new" / "out"):
        raise FULL
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(TrainingError, match="the disk at"), locked(tmp_path / "mine"):
        raise FULL
    assert (tmp_path / "mine").is_dir()


def test_a_file_that_does_not_fit_on_the_disk_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*given: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "recipe.yaml"))

    monkeypatch.setitem(COMMANDS, "env", replace(COMMANDS["env"], run=fail))
    assert main(["env"]) == 1
    assert f"ted env: {tmp_path / 'recipe.yaml'}: the disk at /" in capsys.readouterr().err
