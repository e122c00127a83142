"""Every `ted` command that a page shows is one that `ted` understands; those of docs/start.md are run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import AutoModel, AutoTokenizer

from ted_distill.cli.main import COMMANDS, main
from ted_distill.cli.main import _read as read
from ted_distill.demo import tickets
from ted_distill.errors import InputError
from tiny import save_tiny

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
UNKNOWN = re.compile(r"unknown (?:flag|key|command|argument)")


def fenced(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def commands(page: Path) -> Iterator[list[str]]:
    """The words after `ted` of each command of a page, in blocks and in the text."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:bash|sh)?\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    # A command goes on over the end of a line of text.
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]
    for line in lines:
        if line.startswith("ted "):
            words = shlex.split(line, comments=True)[1:]
            end = next((place for place, word in enumerate(words) if word in ("&&", "|", ">")), None)
            yield [word for word in words[:end] if word != "..."]


SHOWN = [(page.stem, words) for page in PAGES for words in commands(page)]


def test_the_pages_show_commands_of_every_kind() -> None:
    assert {words[0] for _, words in SHOWN} >= {"init", "run", "compare", "distill", "export", "bench", "trim", "push"}


@pytest.mark.parametrize(("page", "words"), SHOWN, ids=[f"{page}: {' '.join(words)[:60]}" for page, words in SHOWN])
def test_a_command_of_a_page_has_a_name_and_flags_that_exist(
    page: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, *rest = words
    if name in ("--help", "--version"):
        return
    assert name in COMMANDS
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    for word in rest:  # keys are looked at in a recipe that is there
        if word.endswith(".yaml") and "/" not in word:
            Path(word).write_text("task: sequence_classification\nteacher: PATH\n")
    assert not UNKNOWN.search(refusal(name, rest))


def refusal(name: str, words: list[str]) -> str:
    """Why `ted` does not take the words of a command; empty if it does."""
    try:
        given = read(name, COMMANDS[name], words)
        if name == "init" and given is not None:  # which looks at its keys when it runs, and finds no model here
            COMMANDS[name].run(*given)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", ["run", "compare", "plan", "check", "init", "bench", "export", "finetune"])
def test_a_flag_that_does_not_exist_would_be_seen(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_text("task: sequence_classification\nteacher: PATH\n")
    words = [] if name == "finetune" else ["my.yaml"]
    assert UNKNOWN.search(refusal(name, [*words, "--no_such_flag", "1"]))


@pytest.mark.long
def test_every_command_of_the_start_page_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a tiny model and one step a stage; installing is what `make install` does."""
    monkeypatch.chdir(tmp_path)
    save_tiny(tmp_path / "TEACHER", AutoModel, "bert", blocks=4)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "TEACHER")
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(tmp_path / "TEACHER")
    tickets.write(tmp_path, 40)
    (tmp_path / "train.csv").rename(tmp_path / "tickets.csv")
    page = ROOT / "docs" / "start.md"
    shown = [words for words in commands(page) if len(words) > 1]
    assert [words[0] for words in shown] == ["init", "run", "compare", "check", "export"]
    quick = ["training.max_steps=1", "training.use_cpu=true", "training.disable_tqdm=true"]
    for words in shown:
        small = [word if word != "5" else "1" for word in words]
        more = [] if words[0] == "init" else ["--max_changed", "1"] if words[0] == "export" else quick
        assert main([*small, *more]) == 0, capsys.readouterr().err
        assert capsys.readouterr().out
    (block,) = fenced(page, "python")
    exec(compile(block, "start.md", "exec"), {})
    assert "score" in capsys.readouterr().out
