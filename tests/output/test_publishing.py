"""A published folder is there whole or not at all, whenever it is cut off, and says when a file of it is damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from small_runs import Cut
from ted_distill.errors import InputError
from ted_distill.output import (
    atomic_files,
    check_inputs,
    finish_publication,
    publication,
    published_damage,
    read_manifest,
    read_sealed,
    remove_leftovers,
    write_sealed,
)
from ted_distill.output.manifests import DamagedFileError
from tiny import tiny_tokenizer


@pytest.fixture(autouse=True)
def _quick_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ted_distill.output.publishing.versions", dict)


def publish(folder: Path, text: str = "new") -> None:
    with publication(folder, {"stage": "test"}) as partial:
        for name in ("config.json", "model.safetensors", "templates/tool.jinja"):
            (partial / name).parent.mkdir(exist_ok=True)
            (partial / name).write_text(f"{text} {name}")


def visible(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): file.read_text()
        for file in folder.rglob("*")
        if file.is_file() and not any(part.startswith(".ted") for part in file.relative_to(folder).parts)
    }


def cut_at(patch: pytest.MonkeyPatch, number: int, after: bool) -> None:
    """Stop at the `number`-th change of files, before or after it."""
    seen = 0

    def counted(change: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == number and not after:
                raise Cut
            result = change(*args, **kwargs)
            if seen == number:
                raise Cut
            return result

        return wrapped

    for name in ("replace", "fsync"):
        patch.setattr(os, name, counted(getattr(os, name)))
    # A killed process does not clean up.
    patch.setattr("shutil.rmtree", lambda *args, **kwargs: None)


@pytest.mark.parametrize("after", [False, True])
def test_a_publication_cut_off_anywhere_is_finished_or_forgotten_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    publish(tmp_path / "whole")
    whole = visible(tmp_path / "whole")
    cuts = 0
    outcomes = set()
    for number in range(1, 60):
        folder = tmp_path / f"{number}"
        with monkeypatch.context() as patch:
            cut_at(patch, number, after)
            try:
                publish(folder)
            except Cut:
                cuts += 1
            else:
                break
        assert read_manifest(folder) is None or visible(folder).keys() == whole.keys()
        finish_publication(folder)
        remove_leftovers(folder)
        assert visible(folder) in ({}, whole)
        assert sorted(entry.name for entry in folder.iterdir() if entry.name.startswith(".ted")) == []
        outcomes.add(bool(visible(folder)))
        publish(folder)
        assert visible(folder) == whole
    assert cuts > 10
    assert outcomes == {False, True}


def test_files_reach_the_disk_before_their_names_and_the_manifest_is_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a power cut leaves an empty file under a final name."""
    events: list[tuple[str, str]] = []
    replace, fsync = os.replace, os.fsync

    def record_replace(source: Any, target: Any) -> None:
        events.append(("named", str(target)))
        replace(source, target)

    def record_fsync(descriptor: int) -> None:
        events.append(("synced", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        fsync(descriptor)

    monkeypatch.setattr(os, "replace", record_replace)
    monkeypatch.setattr(os, "fsync", record_fsync)
    folder = tmp_path / "out"
    publish(folder)
    ready = events.index(("named", str(folder / ".ted-ready")))
    synced = [Path(path).name for kind, path in events[:ready] if kind == "synced"]
    assert {"config.json", "model.safetensors", "tool.jinja", "stage.json", "templates"} <= {*synced}
    named = [Path(path).name for kind, path in events[ready:] if kind == "named"]
    assert named == [".ted-ready", "config.json", "model.safetensors", "tool.jinja", "stage.json"]
    manifest = events.index(("named", str(folder / "stage.json")))
    assert ("synced", str(folder)) in events[manifest - 3 : manifest]
    assert ("synced", str(folder)) in events[manifest:]


def test_a_file_in_the_way_that_is_not_ours_gets_another_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "config.json").write_text("mine")
    (tmp_path / "config.json.kept").write_text("mine too")
    publish(tmp_path)
    assert (tmp_path / "config.json").read_text() == "new config.json"
    assert (tmp_path / "config.json.kept").read_text() == "mine too"
    assert (tmp_path / "config.json.kept-2").read_text() == "mine"
    assert "config.json is not this stage's; it is now called config.json.kept-2" in caplog.text
    publish(tmp_path, "newer")
    assert visible(tmp_path)["config.json"] == "newer config.json"
    assert not (tmp_path / "config.json.kept-3").exists()


def test_an_error_while_files_are_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), publication(tmp_path / "out", {}) as partial:
        (partial / "missing" / "model.safetensors").write_text("half")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_tokenizer_with_several_chat_templates_is_saved_with_the_rights_of_any_file(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = {"default": "{{ messages }}", "tool_use": "{{ tools }}"}
    for _ in range(2):
        with atomic_files(tmp_path / "out") as partial:
            tokenizer.save_pretrained(partial)
    inner = tmp_path / "out" / "additional_chat_templates"
    assert [file.name for file in inner.iterdir()] == ["tool_use.jinja"]
    assert inner.stat().st_mode & 0o111
    (tmp_path / "plain").write_text("")
    assert (inner / "tool_use.jinja").stat().st_mode == (tmp_path / "plain").stat().st_mode
    again = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert again.chat_template == tokenizer.chat_template


# --- manifests ----------------------------------------------------------------------------------------------------


def test_every_changed_byte_of_a_sealed_file_is_noticed_or_of_no_effect(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    content = {"identity": {"stage": "finetune", "seed": 42, "names": ["ä", None]}, "rate": 1e-3}
    write_sealed(file, content)
    written = file.read_bytes()
    unnoticed = 0
    for position in range(len(written)):
        changed = bytearray(written)
        changed[position] ^= 1
        file.write_bytes(changed)
        try:
            assert read_sealed(file) == content
            unnoticed += 1
        except DamagedFileError:
            pass
        if position < len(written.rstrip()):
            file.write_bytes(written[:position])
            with pytest.raises(DamagedFileError, match=r"settings.json: expected it as it was written"):
                read_sealed(file)
    assert unnoticed < 0.1 * len(written)  # spaces and line breaks
    file.unlink()
    assert read_sealed(file) is None


def test_every_changed_byte_of_a_manifest_is_noticed_or_of_no_effect(tmp_path: Path) -> None:
    publish(tmp_path)
    file = tmp_path / "stage.json"
    written, known = file.read_bytes(), read_manifest(tmp_path)
    for position in range(0, len(written), 3):
        changed = bytearray(written)
        changed[position] ^= 1
        file.write_bytes(changed)
        try:
            assert read_manifest(tmp_path) == known
        except DamagedFileError:
            with pytest.raises(InputError, match=r"got a damaged stage.json; .* delete its stage.json to use it as it"):
                check_inputs(tmp_path)


@pytest.mark.parametrize("content", ['{"stage": "finetune", "ancestry": []}', "[]", '{"scene": 1}'])
def test_a_manifest_without_sums_is_of_an_older_version_or_another_program(tmp_path: Path, content: str) -> None:
    (tmp_path / "stage.json").write_text(content)
    check_inputs(tmp_path)
    assert read_manifest(tmp_path) is None


def test_hub_ids_and_names_of_any_length_pass_as_input() -> None:
    for name in ("org/model", "bert-base-uncased", "x" * 5000, "a/../b"):
        check_inputs(name)


def test_the_size_is_looked_at_first_and_all_damaged_files_are_named(tmp_path: Path) -> None:
    publish(tmp_path)
    (tmp_path / "config.json").write_text("longer than it was before")
    (tmp_path / "model.safetensors").unlink()
    damage = published_damage(tmp_path, read_manifest(tmp_path) or {})
    assert damage == "config.json (changed), model.safetensors (missing)"
    assert json.loads((tmp_path / "stage.json").read_text())["files"].keys() == {
        "config.json",
        "model.safetensors",
        "templates/tool.jinja",
    }


def test_what_an_earlier_publication_had_is_deleted_and_nothing_else(tmp_path: Path) -> None:
    for names in (["a", "inner/b", "other/c"], ["a"]):
        with publication(tmp_path, {"stage": "x"}) as partial:
            for name in names:
                (partial / name).parent.mkdir(exist_ok=True)
                (partial / name).write_text("ours")
        (tmp_path / "other").mkdir(exist_ok=True)
        (tmp_path / "other" / "mine").write_text("mine")
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*")) == [
        "a", "other", "other/mine", "stage.json",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["../mine.txt", "templates/../../mine.txt", "/absolute"])
def test_a_manifest_that_names_files_elsewhere_deletes_nothing_there(tmp_path: Path, name: str) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("not of this folder")
    publish(tmp_path / "out")
    named = str(mine) if name == "/absolute" else name
    manifest = read_manifest(tmp_path / "out")
    write_sealed(tmp_path / "out" / "stage.json", {**manifest, "files": {**manifest["files"], named: {"size": 1}}})
    publish(tmp_path / "out")
    assert mine.read_text() == "not of this folder"
