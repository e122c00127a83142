"""What goes to the Hub is the model, its tokenizer, its card and what was asked for; everything else stays here."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import HfApi, ModelCard
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from quick_stages import LABELS, quick_arguments, reviews_task
from ted_distill import (
    DistillArguments,
    InputError,
    LearnFiltersArguments,
    distill,
    export_onnx,
    finetune,
    learn_filters,
    push_to_hub,
)
from ted_distill.cli.main import main
from ted_distill.errors import TrainingError
from ted_distill.export.exporting import files_read_of, weights_of
from ted_distill.export.upload import PushArguments, files_to_push
from tiny import save_tiny

MODEL = {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
TOKEN = "hf_" + "a1B2" * 8


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a teacher, its filters, and a student with filters whose checkpoints were kept."""
    folder = tmp_path_factory.mktemp("upload")
    model = save_tiny(folder / "model", AutoModelForSequenceClassification, **LABELS)
    (model / "README.md").write_text("---\nlicense: mit\nbase_model: someone/tiny\n---\n# A model\n")
    task = reviews_task(folder)
    finetune(model, task, quick_arguments(folder / "teacher", max_steps=1))
    learn_filters(folder / "teacher", task, quick_arguments(folder / "filters", max_steps=1), LearnFiltersArguments())
    args = quick_arguments(folder / "ted", max_steps=1, keep_checkpoints=True)
    distill(folder / "filters", folder / "teacher", task, args, DistillArguments("ted"))
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the Hub was asked for, and whether it has the repository already."""
    seen: dict[str, Any] = {"public": False, "files": {}, "error": None}

    def create_repo(self: HfApi, repo_id: str, **options: Any) -> None:
        seen["created"] = {"repo_id": repo_id, **options}

    def model_info(self: HfApi, repo_id: str) -> SimpleNamespace:
        return SimpleNamespace(private=not seen["public"])

    def upload_folder(self: HfApi, *, folder_path: Path, **options: Any) -> SimpleNamespace:
        if seen["error"]:
            raise seen["error"]
        files = [file for file in Path(folder_path).rglob("*") if file.is_file()]
        seen["files"] = {file.relative_to(folder_path).as_posix(): file.read_bytes() for file in files}
        seen["uploaded"] = options
        return SimpleNamespace(commit_url=f"https://hub/{options['repo_id']}/commit/1")

    for function in (create_repo, model_info, upload_folder):
        monkeypatch.setattr(HfApi, function.__name__, function)
    return seen


def test_a_student_is_uploaded_with_its_card_and_nothing_else(made: Path, hub: dict[str, Any]) -> None:
    assert list((made / "ted").glob("checkpoint-*"))
    pushed = push_to_hub(made / "ted", "me/student")
    assert hub["files"].keys() == MODEL == pushed.files.keys()
    assert pushed.url == "https://hub/me/student/commit/1"
    assert hub["created"] == {"repo_id": "me/student", "private": None, "repo_type": "model", "exist_ok": True}
    former = hub["uploaded"].pop("delete_patterns")
    assert {"model.safetensors", "filters.safetensors", "onnx/model.onnx", "onnx/model_quantized.onnx"} <= {*former}
    of_others = {"trim.json", "chat_template.jinja", "generation_config.json", "added_tokens.json", "vocab.txt"}
    assert {*of_others, "special_tokens_map.json", "spiece.model", "tokenizer.model"} <= {*former}
    assert not [pattern for pattern in former if pattern.startswith("*")], "it would match files in folders too"
    assert hub["uploaded"] == {
        "repo_id": "me/student", "repo_type": "model", "commit_message": "Upload by ted-distill"
    }  # fmt: skip
    card = ModelCard(hub["files"]["README.md"].decode())
    assert (card.data.license, card.data.base_model) == ("mit", ["someone/tiny"])
    assert card.data.pipeline_tag == "text-classification"
    assert 'name = "me/student"' in card.text
    assert card.data.eval_results
    assert not any(str(made).encode() in content for content in hub["files"].values())


def test_what_was_uploaded_loads_as_a_model(made: Path, hub: dict[str, Any], tmp_path: Path) -> None:
    push_to_hub(made / "ted", "me/student")
    for name, content in hub["files"].items():
        (tmp_path / name).write_bytes(content)
    _, info = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert AutoTokenizer.from_pretrained(tmp_path)("the film")["input_ids"] == [1, 5, 7, 2]


def test_filters_go_with_it_if_they_are_wanted(made: Path, hub: dict[str, Any]) -> None:
    push_to_hub(made / "ted", "me/student", with_filters=True)
    assert hub["files"].keys() == MODEL | {"filters.safetensors", "filters.json"}
    push_to_hub(made / "filters", "me/teacher", with_filters=True)
    assert hub["files"].keys() == MODEL | {"filters.safetensors", "filters.json", "block_scores.json"}
    with pytest.raises(InputError, match=r"with_filters: expected filters.safetensors in .*teacher, got none"):
        push_to_hub(made / "teacher", "me/teacher", with_filters=True)


@pytest.mark.long
def test_onnx_files_of_this_checkpoint_go_where_browsers_look_for_them(
    made: Path, hub: dict[str, Any], tmp_path: Path
) -> None:
    export_onnx(made / "ted", tmp_path / "onnx", int8=True, max_changed=1)
    push_to_hub(made / "ted", "me/student", onnx=tmp_path / "onnx")
    assert hub["files"].keys() == MODEL | {"onnx/model.onnx", "onnx/model_quantized.onnx", "export.json"}
    assert {"onnx", "transformers.js"} <= {*ModelCard(hub["files"]["README.md"].decode()).data.tags}
    other = shutil.copytree(made / "ted", tmp_path / "other")
    (other / "stage.json").unlink()
    for name, key, value in (("config.json", "hidden_act", "relu"), ("tokenizer.json", "version", "2.0")):
        before = (other / name).read_text()
        (other / name).write_text(json.dumps({**json.loads(before), key: value}))
        with pytest.raises(InputError, match=rf"onnx: expected an export of .*other, got .*onnx, .* of another {name}"):
            push_to_hub(other, "me/student", onnx=tmp_path / "onnx")
        (other / name).write_text(before)
    push_to_hub(other, "me/student", onnx=tmp_path / "onnx")
    with pytest.raises(InputError, match=r"onnx: expected an export of .*teacher, got .*made of other weights"):
        push_to_hub(made / "teacher", "me/teacher", onnx=tmp_path / "onnx")


@pytest.mark.long
def test_an_export_of_a_checkpoint_of_other_versions_goes_with_it(
    made: Path, hub: dict[str, Any], tmp_path: Path
) -> None:
    """Whose config.json has fields that the versions of now write in another form, or not at all."""
    old = shutil.copytree(made / "ted", tmp_path / "old")
    (old / "stage.json").unlink()
    config = json.loads((old / "config.json").read_text())
    for key in ("use_cache", "is_decoder", "add_cross_attention"):
        config.pop(key, None)
    (old / "config.json").write_text(json.dumps({**config, "_name_or_path": "someone/model", "torch_dtype": "float32"}))
    export_onnx(old, tmp_path / "onnx")
    push_to_hub(old, "me/student", onnx=tmp_path / "onnx")
    assert "onnx/model.onnx" in hub["files"]


def test_an_export_is_known_by_the_weights_it_was_made_of(made: Path, tmp_path: Path) -> None:
    assert weights_of(made / "ted") == weights_of(shutil.copytree(made / "ted", tmp_path / "same"))
    assert weights_of(made / "ted") != weights_of(made / "teacher")
    (tmp_path / "same" / "filters.safetensors").unlink()
    assert weights_of(tmp_path / "same") == weights_of(made / "ted")


def test_an_export_of_another_config_does_not_go_with_the_checkpoint(
    made: Path, hub: dict[str, Any], tmp_path: Path
) -> None:
    """Which --config_overrides makes, whatever the checkpoint's files say."""
    about = {"files": {}, "weights": weights_of(made / "ted"), "read_from": files_read_of(made / "ted")}
    export = tmp_path / "export.json"
    export.write_text(json.dumps({**about, "config_overrides": "hidden_act=relu"}))
    with pytest.raises(InputError, match=r"onnx: expected an export of .*ted as it is, got .* hidden_act=relu; export"):
        push_to_hub(made / "ted", "me/student", onnx=tmp_path)
    export.write_text(json.dumps({**about, "config_overrides": None}))
    assert "export.json" in push_to_hub(made / "ted", "me/student", onnx=tmp_path).files


def test_weights_are_not_copied_to_be_uploaded_and_nothing_is_written_to_list_them(
    made: Path, hub: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk for temporary files may be smaller than they are, and is another one than theirs."""

    def another_disk(*_: Any, **__: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", another_disk)
    monkeypatch.setattr(shutil, "copyfile", another_disk)
    pushed = push_to_hub(made / "ted", "me/student")
    assert pushed.files == {name: len(content) for name, content in hub["files"].items()}
    monkeypatch.setattr(tempfile, "TemporaryDirectory", another_disk)
    assert push_to_hub(made / "ted", "me/student", dry_run=True).files == pushed.files


@pytest.mark.parametrize(
    ("config", "files"),
    [
        ({"tokenizer_class": "PhobertTokenizer"}, ["bpe.codes"]),
        ({"tokenizer_class": "MarianTokenizer"}, ["source.spm", "target.spm"]),
        ({"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}}, ["own.py"]),
    ],
)
def test_all_that_a_tokenizer_is_read_from_is_uploaded(
    made: Path, tmp_path: Path, config: dict[str, Any], files: list[str]
) -> None:
    folder = shutil.copytree(made / "model", tmp_path / "model")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    for name in [*files, "notes.txt"]:
        (folder / name).write_text("x")
    found = files_to_push(folder, PushArguments())
    assert {*files} <= found.keys()
    assert "notes.txt" not in found


def test_everything_that_is_wrong_is_said_at_once_and_nothing_is_uploaded(
    made: Path, hub: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "ted"
    shutil.copytree(made / "ted", folder)
    (folder / "stage.json").unlink()
    (folder / "model.safetensors").unlink()
    (folder / "tokenizer_config.json").unlink()
    monkeypatch.setenv("HOME", "/home/someone")
    card = ModelCard.load(folder / "README.md")
    card.data.pipeline_tag, card.data.base_model, card.data.license = "fill-mask", "/home/someone/model", "My licence"
    (folder / "README.md").write_text(f"{card}\nhub_token={TOKEN}\n")
    with pytest.raises(InputError) as error:
        push_to_hub(folder, "a/b/c")
    said = [problem.partition(", got")[0] for problem in error.value.problems]
    assert [text.removeprefix("card: expected ") for text in said] == [
        "repo_id: expected owner/name",
        "checkpoint: expected weights in model.safetensors",
        "checkpoint: expected a tokenizer beside the model",
        "pipeline_tag text-classification",
        "a licence's short name, such as apache-2.0",
        "base_model to be a name on the Hub",
        "README.md: expected nothing secret",
        "README.md: expected no path of this machine",
    ]
    assert TOKEN not in str(error.value)
    assert "created" not in hub


def test_a_config_with_a_path_of_this_machine_stays_here(
    made: Path, hub: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made / "ted", tmp_path / "ted")
    (tmp_path / "ted" / "stage.json").unlink()
    config = json.loads((tmp_path / "ted" / "config.json").read_text())
    (tmp_path / "ted" / "config.json").write_text(json.dumps({**config, "from": "/home/someone/model"}))
    monkeypatch.setenv("HOME", "/home/someone")
    with pytest.raises(InputError, match=r"config.json: expected no path of this machine, got one in /home/someone"):
        push_to_hub(tmp_path / "ted", "me/student")


def test_a_damaged_checkpoint_and_one_that_is_none_are_refused(made: Path, hub: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(made / "ted", tmp_path / "ted")
    with (tmp_path / "ted" / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match=r"expected .*ted as it was written, got model.safetensors \(changed\)"):
        push_to_hub(tmp_path / "ted", "me/student")
    with pytest.raises(InputError, match=r"checkpoint: expected a folder of this machine, got the name someone/tiny"):
        push_to_hub("someone/tiny", "me/student")
    model = save_tiny(tmp_path / "plain", AutoModelForSequenceClassification, **LABELS)
    with pytest.raises(InputError, match=r"card: expected a README.md in .*plain, got none; write one"):
        push_to_hub(model, "me/student")
    (model / "README.md").write_text("# A model of mine\n")
    with pytest.raises(InputError, match="card: expected pipeline_tag text-classification, got nothing"):
        push_to_hub(model, "me/student")
    assert "created" not in hub


def test_a_private_upload_does_not_go_into_a_public_repository(made: Path, hub: dict[str, Any]) -> None:
    push_to_hub(made / "ted", "me/student", private=True)
    assert hub["created"]["private"]
    hub |= {"public": True, "files": {}}
    with pytest.raises(InputError, match="private: expected a private repository, got me/student, which exists and is"):
        push_to_hub(made / "ted", "me/student", private=True)
    assert not hub["files"]


def test_a_hub_that_refuses_is_one_line_without_secrets(
    made: Path, hub: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    hub["error"] = ConnectionError(f"401 for\n{TOKEN}")
    with pytest.raises(TrainingError, match=r"got an error \(401 for \*\*\*\); log in with `hf auth login`"):
        push_to_hub(made / "ted", "me/student")
    assert main(["push", str(made / "ted"), "me/student"]) == 1
    assert capsys.readouterr().err.startswith("ted push: expected the Hub to take me/student")


def test_the_command_lists_what_it_would_upload(
    made: Path, hub: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(made / "ted"), "me/student", "--dry_run", "--with_filters"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in out[:-1]} == MODEL | {"filters.safetensors", "filters.json"}
    assert out[-1] == "nothing was uploaded to me/student"
    assert "created" not in hub
    assert main(["push", str(made / "ted"), "me/student", "--license", "apache-2.0"]) == 0
    assert ModelCard(hub["files"]["README.md"].decode()).data.license == "apache-2.0"
    assert main(["push", str(made / "ted")]) == 2
    assert "expected a checkpoint and a name on the Hub before the flags" in capsys.readouterr().err
