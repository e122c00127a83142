"""Every file of a run cut off, changed by one byte, or deleted: made again, refused in one line, or of no effect."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from conftest import set_bfloat16
from small_runs import cut_off_at, differing, made, write_recipe
from ted_distill import InputError, TrainingError, read_recipe, run
from ted_distill.models.load import load_model
from ted_distill.output import PARTIAL, check_inputs, published_damage, read_manifest
from ted_distill.output.locks import LOCK_NAME
from ted_distill.stages.lifecycle import KEEPS

PUBLISHED = ["student_init", "teacher", "student", "teacher_filters", "student_filters", "ted"]


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: max(0, file.stat().st_size * 2 // 3)])


def change_one_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def change_last_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "cut off": cut_off,
    "one byte changed": change_one_byte,
    "one of its last bytes changed": change_last_byte,
    "deleted": Path.unlink,
}


@pytest.fixture(scope="module", autouse=True)
def _same_numbers() -> Iterator[None]:
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        set_bfloat16(patch, False)
        yield


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("input")
    file = write_recipe(folder, "sequence_classification", num_train_epochs=1)
    content = yaml.safe_load(file.read_text()) | {
        "methods": ["ted"],
        "student_layers": [2, 4],
        "start_from": "finetuned",
    }
    content["score_on"] = {"more": {"task": content["task"], "validation_file": content["train_file"]}}
    content.pop("student")
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.fixture(scope="module")
def whole(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(read_recipe(recipe, [f"output_dir={folder}"]))
    return folder


def interrupt(recipe: Path, folder: Path, stage: str, step: int = 6) -> Path:
    """The run, interrupted in a stage after `step` steps, with checkpoints of steps 3 and 6."""
    with cut_off_at(step, stage):
        run(read_recipe(recipe, [f"output_dir={folder}", "training.save_total_limit=5"]))
    return folder


@pytest.fixture(scope="module")
def interrupted(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was cut off in its last stage; the cache and two checkpoints are still there."""
    folder = interrupt(recipe, tmp_path_factory.mktemp("interrupted") / "run", "ted")
    assert {file.name for file in (folder / "ted").glob("checkpoint-*")} == {"checkpoint-3", "checkpoint-6"}
    assert list((folder / "states-cache").rglob("block_*.bin"))
    return folder


def names(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def go_on(recipe: Path, folder: Path) -> list[str] | None:
    """Start the command again; what it refused, or None if it ran to its end."""
    try:
        run(read_recipe(recipe, [f"output_dir={folder}", "training.save_total_limit=5"]))
    except InputError as error:
        return error.problems
    except TrainingError as error:
        return [str(error)]
    return None


def assert_safe(recipe: Path, folder: Path, name: str, whole: Path, log: pytest.LogCaptureFixture) -> None:
    """The damage is refused in one line, made up for, or of no effect; a changed card is said."""
    problems = go_on(recipe, folder)
    if problems is not None:
        assert all("\n" not in problem and len(problem) < 400 for problem in problems), problems
        return
    found, wanted = made(folder), made(whole)
    if name.endswith("checkpoint.json"):  # without it a checkpoint is not known as ours, and so not deleted
        found = {file: content for file, content in found.items() if "checkpoint-" not in file}
    if name.endswith("README.md"):
        assert "README.md (" in log.text or found == wanted
        found.pop(name, None)
        wanted.pop(name)
    assert found.keys() == wanted.keys()
    assert [file for file in found if found[file] != wanted[file]] == []


# --- what a kill leaves --------------------------------------------------------------------------------------------


def test_nothing_that_a_kill_left_in_a_finished_folder_stays_there(recipe: Path, whole: Path, tmp_path: Path) -> None:
    """A kill after a folder is published and before its lock is gone, or in the middle of cleaning up."""
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    for name in (*PUBLISHED, "best"):
        (folder / name / ".ted-ready" / "empty").mkdir(parents=True)
        (folder / name / f"{PARTIAL}x").mkdir()
        (folder / name / f"{PARTIAL}x" / "half").write_text("")
    for name in ("", *PUBLISHED[1:]):
        (folder / name / LOCK_NAME).touch()
    assert go_on(recipe, folder) is None
    assert differing(folder, whole) == {}
    assert list(folder.rglob(".ted-*")) == []


# --- finished folders ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_file_of_a_published_folder_is_missed_when_it_is_damaged(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    for folder in (tmp_path / "run" / name for name in PUBLISHED):
        for name in names(folder):
            content = (folder / name).read_bytes()
            if name == "stage.json" and damage == "deleted":
                continue  # then it is an unfinished stage
            DAMAGES[damage](folder / name)
            if name == "README.md":
                check_inputs(folder)
                assert "README.md (" in caplog.text
            elif (folder / name).read_bytes() != content if (folder / name).exists() else True:
                with pytest.raises(InputError, match=name):
                    check_inputs(folder)
            (folder / name).write_bytes(content)
        assert published_damage(folder, read_manifest(folder)) is None


@pytest.mark.parametrize(
    ("name", "damage", "refused"),
    [
        ("ted/model.safetensors", "one byte changed", r"ted as it was written, got model.safetensors \(changed\)"),
        ("teacher/config.json", "deleted", r"teacher as it was written, got config.json \(missing\)"),
        ("student/stage.json", "deleted", "student as it was written, got results without a stage.json"),
        ("student/settings.json", "cut off", "student as it was written, got a damaged settings.json"),
        ("teacher_filters/stage.json", "one byte changed", "teacher_filters as it was written, got a damaged stage"),
        ("student_init/student.json", "one byte changed", r"student_init as it was made, got student.json \(changed\)"),
        ("scores/ted_more.json", "one byte changed", None),
        ("results.json", "cut off", None),
        ("ted/README.md", "one byte changed", None),
    ],
)
def test_a_damaged_file_of_a_finished_run_is_refused_by_name_or_made_again(
    recipe: Path,
    whole: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    damage: str,
    refused: str | None,
) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    DAMAGES[damage](folder / name)
    if refused:
        with pytest.raises(InputError, match=refused):
            run(read_recipe(recipe, [f"output_dir={folder}"]))
    else:
        assert_safe(recipe, folder, name, whole, caplog)
        if name.startswith("scores"):
            assert "scoring again" in caplog.text


def test_a_damaged_model_is_refused_as_input_of_a_stage_of_its_own(whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole / "teacher", tmp_path / "teacher"))
    change_one_byte(folder / "config.json")
    task = read_task(whole)
    with pytest.raises(InputError, match=r"model: expected .*teacher as it was written, got config.json \(changed\)"):
        load_model(folder, task)


def read_task(folder: Path) -> object:
    from ted_distill import load_task

    return load_task(read_recipe(folder / "recipe.yaml", [f"output_dir={folder}"]).task)


def test_no_file_that_may_be_published_names_a_folder_of_this_machine(whole: Path, recipe: Path) -> None:
    """The recipe does: it is the user's own."""
    texts = [file for file in whole.rglob("*") if file.suffix in (".json", ".md")]
    assert len(texts) > 30
    for file in texts:
        text = file.read_text()
        assert str(whole.parent) not in text, file
        assert str(recipe.parent) not in text, file
    assert '"model": "small"' not in (whole / "student" / "settings.json").read_text()
    assert '"model": "student_init"' in (whole / "student" / "settings.json").read_text()


@pytest.mark.long
def test_no_damaged_file_of_a_finished_run_is_used(
    recipe: Path, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each file is damaged in one of the ways, in turn: all are found by the same sums."""
    folder = tmp_path / "run"
    for name, damage in zip(names(whole), cycle(DAMAGES.values()), strict=False):
        caplog.clear()
        shutil.copytree(whole, folder)
        damage(folder / name)
        assert_safe(recipe, folder, name, whole, caplog)
        shutil.rmtree(folder)


# --- interrupted stages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damaged", "damage", "said"),
    [
        (["checkpoint-6/optimizer.pt"], "deleted", ["passing over checkpoint-6", "resuming from checkpoint-3"]),
        (["checkpoint-6/model.safetensors"], "one byte changed", ["checkpoint-6: model.safetensors (changed)"]),
        (["checkpoint-6/rng_state.pth", "checkpoint-3/scheduler.pt"], "cut off", ["starting from the beginning"]),
        (["checkpoint-3/checkpoint.json", "checkpoint-6/checkpoint.json"], "deleted", ["now called kept-checkpoint-3"]),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_with_a_word(
    recipe: Path,
    whole: Path,
    interrupted: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damaged: list[str],
    damage: str,
    said: list[str],
) -> None:
    folder = Path(shutil.copytree(interrupted, tmp_path / "run"))
    for name in damaged:
        DAMAGES[damage](folder / "ted" / name)
    assert go_on(recipe, folder) is None
    assert all(words in caplog.text for words in said), caplog.text
    ours, others = load_file(folder / "ted" / "model.safetensors"), load_file(whole / "ted" / "model.safetensors")
    assert all(torch.equal(ours[name], others[name]) for name in others)


def test_a_checkpoint_whose_best_predecessor_is_damaged_is_not_gone_on_from(
    recipe: Path, whole: Path, interrupted: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The stage would end with those weights."""
    folder = Path(shutil.copytree(interrupted, tmp_path / "run"))
    change_one_byte(folder / "ted" / "checkpoint-3" / "model.safetensors")
    assert go_on(recipe, folder) is None
    said = "passing over checkpoint-6: the best one so far, checkpoint-3, has model.safetensors (changed)"
    assert said in caplog.text
    assert differing(folder, whole) == {}


@pytest.mark.long
def test_no_damaged_file_of_an_interrupted_run_is_used(
    recipe: Path, whole: Path, interrupted: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    unfinished = [name for name in names(interrupted) if name.split("/")[0] in ("ted", "states-cache", "recipe.yaml")]
    for name, damage in zip(unfinished, cycle(DAMAGES.values()), strict=False):
        caplog.clear()
        shutil.copytree(interrupted, folder)
        damage(folder / name)
        assert_safe(recipe, folder, name, whole, caplog)
        shutil.rmtree(folder)


# --- what is left over --------------------------------------------------------------------------------------------


def test_what_a_kill_left_is_removed_at_the_next_start_and_nothing_else(
    recipe: Path, whole: Path, interrupted: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    for step in (3, 6):
        shutil.copytree(interrupted / "ted" / f"checkpoint-{step}", folder / "ted" / f"checkpoint-{step}")
    shutil.copytree(interrupted / "states-cache", folder / "states-cache")
    for place in (folder, folder / "ted", folder / "scores"):
        (place / ".ted-partial-abc").mkdir()
        (place / ".ted-partial-abc" / "model.safetensors").write_bytes(b"half")
    mine = [folder / "ted" / "checkpoint-9" / "mine.txt", folder / "ted" / "cache" / "mine.txt", folder / "notes.txt"]
    for file in mine:
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
    assert go_on(recipe, folder) is None
    assert {*names(folder)} == {*names(whole), *(file.relative_to(folder).as_posix() for file in mine)}
    assert all(file.read_text() == "mine" for file in mine)


def test_checkpoints_that_were_to_be_kept_stay(recipe: Path, tmp_path: Path) -> None:
    changes = [f"output_dir={tmp_path / 'run'}", "methods=[kd]"]
    run(read_recipe(recipe, [*changes, "training.keep_checkpoints=true", "finetune_student=false"]))
    kept = names(tmp_path / "run" / "teacher")
    assert any(name.startswith("checkpoint-") for name in kept)
    assert read_manifest(tmp_path / "run" / "teacher")[KEEPS]
    run(read_recipe(recipe, [*changes, "finetune_student=false"]))
    assert names(tmp_path / "run" / "teacher") == kept
