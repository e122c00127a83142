"""What is published about where a result is from names no folder of the machine it was made on."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from ted_distill.output import command, program, short_name
from ted_distill.output.origins import is_of_windows, without_paths


@pytest.mark.parametrize(
    ("word", "published"),
    [
        ("/home/ada/data/train.jsonl", "train.jsonl"),
        ("--train_file=/home/ada/data/train.jsonl", "--train_file=train.jsonl"),
        ("output_dir=/home/ada/runs/one two", "output_dir=one two"),
        ("~/data/train.jsonl", "train.jsonl"),
        ("../ada/train.jsonl", "train.jsonl"),
        ("runs/../../ada/train.jsonl", "train.jsonl"),
        ("files=[/home/ada/a.json, /home/ada/b.json]", "files=[a.json, b.json]"),
        ("score_on={more: {validation_file: /home/ada/b.json}}", "score_on={more: {validation_file: b.json}}"),
        ('{"train_file": "/home/ada/b.json"}', '{"train_file": "b.json"}'),
        (r"C:\Users\ada\train.jsonl", "train.jsonl"),
        (r"output_dir=C:\Users\ada\run", "output_dir=run"),
        ("file:///home/ada/x.json", "x.json"),
        ("train.jsonl", "train.jsonl"),
        ("data/train.jsonl", "data/train.jsonl"),
        ("microsoft/deberta-v3-base", "microsoft/deberta-v3-base"),
        ("--learning_rate=1e-3", "--learning_rate=1e-3"),
        ("pairs=[4:1, 8:2]", "pairs=[4:1, 8:2]"),
        ("https://huggingface.co/org/model", "https://huggingface.co/org/model"),
        ("config_overrides=a=1,b=2", "config_overrides=a=1,b=2"),
        ("", ""),
    ],
)
def test_a_path_of_a_command_is_reduced_to_its_name(word: str, published: str) -> None:
    assert without_paths(word) == published


@pytest.mark.parametrize(
    ("word", "is_path"),
    [("C:\\\\data", True), ("d:/data", True), ("\\\\\\\\host\\\\x", True), ("4:1", False), ("a:b", False)],
)
def test_a_pair_of_blocks_is_no_drive_of_windows(word: str, is_path: bool) -> None:
    assert is_of_windows(word) == is_path


def test_a_path_below_the_current_folder_is_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["/usr/bin/ted", "finetune", "--output_dir", str(tmp_path / "runs" / "a b"), f"x={tmp_path}"]
    monkeypatch.setattr("sys.argv", words)
    assert shlex.split(command()) == ["ted", "finetune", "--output_dir", "runs/a b", "x=."]


def test_a_model_is_named_without_its_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "teacher").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert short_name("microsoft/deberta-v3-base") == "microsoft/deberta-v3-base"
    assert short_name("models/teacher") == "teacher"
    assert short_name(tmp_path / "models" / "teacher") == "teacher"
    assert short_name("~/models/teacher/") == "teacher"
    assert short_name(r"C:\Users\ada\teacher") == "teacher"
    assert short_name("my data/teacher") == "teacher"  # no folder here, and no name that the Hub takes


def test_how_many_work_side_by_side_is_no_part_of_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (["--workers", "2"], ["--workers=2"], ["workers=auto"]):
        monkeypatch.setattr("sys.argv", ["ted", "run", *words, "x.yaml"])
        assert command() == "ted run x.yaml"


def test_commands_for_the_reader_start_with_what_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bin = tmp_path / ".venv" / "bin"
    bin.mkdir(parents=True)
    for name in ("ted", "python"):
        (bin / name).write_text("")
        (bin / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("sys.executable", str(bin / "python"))
    module = str(tmp_path / "ted_distill" / "__main__.py")
    for started, said in ((".venv/bin/ted", ".venv/bin/ted"), (module, ".venv/bin/python -m ted_distill")):
        monkeypatch.setattr("sys.argv", [started])
        assert program() == said
    monkeypatch.setenv("PATH", str(bin))
    for started, said in ((str(bin / "ted"), "ted"), (module, "python -m ted_distill"), ("/usr/bin/pytest", "ted")):
        monkeypatch.setattr("sys.argv", [started])
        assert program() == said


def test_a_command_that_was_started_as_a_module_can_be_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/x/ted_distill/__main__.py", "run", "my.yaml"])
    assert command() == "python -m ted_distill run my.yaml"
