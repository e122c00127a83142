"""docs/tutorial.md: every command of it, in the order of the page, on a tiny model."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from ted_distill.cli.main import main
from ted_distill.demo import tickets
from tiny import save_minilm

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")
QUICK = ["training.num_train_epochs=1", "finetune.num_train_epochs=1", "distill.num_train_epochs=1",
         "learn_filters.num_train_epochs=1", "training.use_cpu=true"]  # fmt: skip


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the Hub's name of the model is that of a tiny one with its six blocks."""
    monkeypatch.chdir(tmp_path)
    save_minilm(tmp_path)
    return tmp_path


@pytest.mark.long
def test_every_command_of_the_tutorial_does_what_it_says(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = [line for block in blocks("bash") for line in block.splitlines() if line.strip()]
    (generated, *of_ted) = [shlex.split(line, comments=True) for line in commands]
    assert generated[:3] == ["python", "-m", "ted_distill.demo.tickets"]
    tickets.main(generated[3:])
    assert len((home / "tickets" / "train.csv").read_text(encoding="utf-8").splitlines()) == 401
    assert [words[1] for words in of_ted] == ["init", "check", "run", "compare", "run"]
    for words in of_ted:
        ready = "--require" not in words
        words = [word.replace("0.97", "0") for word in words]
        quick = [] if words[1] == "init" else QUICK
        code = main([*words[1:], *quick])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        if ready and words[1] == "run":
            assert "TED" in printed.out
        if words[1] == "compare":
            assert "told apart" in printed.out
    run = home / "runs" / "tickets"
    assert (run / "report.html").is_file()
    assert (run / "compare" / "report.html").is_file()
    assert (run / "best" / "model.safetensors").is_file()
    (student,) = blocks("python")
    exec(compile(student, "tutorial.md", "exec"), {})
    assert "label" in capsys.readouterr().out


def test_the_tutorial_needs_four_commands() -> None:
    first = [block.split()[1] for block in blocks("bash") if block.startswith("ted ")][:4]
    assert first == ["init", "check", "run", "compare"]
