"""README's commands do what it says: its Python block and every `ted` line are run, on tiny models and rows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset, DatasetDict
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from ted_distill.cli.main import main
from ted_distill.demo import run_demo
from ted_distill.runs.recipe import read_recipe
from tiny import save_tiny, write_questions

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the Hub's names are local: two tiny DeBERTas, and data sets in the Hub's own form."""
    monkeypatch.chdir(tmp_path)
    for name, width, seed in (("base", 16, 0), ("xsmall", 8, 1)):
        folder = tmp_path / "microsoft" / f"deberta-v3-{name}"
        sizes = {"pooler_hidden_size": width, "max_position_embeddings": 512}
        save_tiny(folder, AutoModel, "deberta-v2", blocks=2, width=width, seed=seed, **sizes)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.model_max_length = 512
        tokenizer.save_pretrained(folder)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.setattr("datasets.load_dataset", _data_sets(tmp_path))
    return tmp_path


def _data_sets(folder: Path) -> Any:
    """What the Hub would give for SST-2 and SQuAD 2.0."""
    sentences = {"sentence": ["the film was good .", "the film was bad ."] * 12, "label": [1, 0] * 12}
    sst2 = Dataset.from_dict(sentences)
    from ted_distill.tasks.reading.files import read_file

    squad = read_file(write_questions(folder, 24), "--train_file")

    def load_dataset(name: str, config: str | None = None, **_: Any) -> DatasetDict:
        rows = {"nyu-mll/glue": sst2, "rajpurkar/squad_v2": squad}[name]
        return DatasetDict({"train": rows, "validation": rows.select(range(6))})

    return load_dataset


def test_the_python_block_runs_as_it_is(home: Path, each_precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In one process, where the stages and `evaluate` follow each other."""
    (block,) = blocks("python")
    exec(compile(block, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "'accuracy'" in printed
    assert "'agreement'" in printed
    _, info = AutoModelForSequenceClassification.from_pretrained(home / "runs" / "ted", output_loading_info=True)
    assert not any(info.values())


@pytest.mark.long
def test_every_ted_line_runs(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, float32: None
) -> None:
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("ted ")]
    assert len(lines) >= 3
    questions = write_questions(home, 24, "mine")
    own = {
        "task": "squad_v2", "train_file": str(questions), "validation_file": str(questions), "max_seq_length": 48,
        "doc_stride": 8, "teacher": "microsoft/deberta-v3-base", "student": "microsoft/deberta-v3-xsmall",
    }  # fmt: skip
    (home / "my.yaml").write_text(yaml.safe_dump(own))
    rows = [f"the film {row} was good,billing\nthe meal {row} was bad,returns\n" for row in range(12)]
    (home / "tickets.csv").write_text("ticket,category\n" + "".join(rows))
    save_tiny(home / "runs" / "teacher", AutoModelForSequenceClassification, "deberta-v2", blocks=6)
    quick = ["training.fp16=false", "training.max_steps=2", "training.disable_tqdm=true", "max_seq_length=48"]
    quick.append("doc_stride=8")
    more = {"check": quick, "run": quick, "compare": [*quick, "--seeds", "1"], "demo": ["training.max_steps=2"]}
    for name, rows_of_demo in {"NUM_TRAIN": 36, "NUM_VALIDATION": 12}.items():
        monkeypatch.setattr(run_demo, name, rows_of_demo)
    for line in lines:
        words = [word.replace("TEACHER", "microsoft/deberta-v3-base") for word in shlex.split(line, comments=True)[1:]]
        assert main([*words, *more.get(words[0], [])]) == 0, capsys.readouterr().err
    table = (home / "runs" / "x" / "results.md").read_text()
    assert all(name in table for name in ("teacher", "student, fine-tuned", "student alone", "KD", "LWD", "TED"))


def test_every_other_line_of_a_bash_block_installs_or_is_a_target_of_make() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lines = [line.split("#")[0].strip() for block in blocks("bash") for line in block.splitlines() if line.strip()]
    for line in lines:
        if line.startswith("make "):
            assert re.search(rf"^{line.split()[1]}:", makefile, flags=re.MULTILINE)
        elif extra := re.fullmatch(r"pip install -e '\.\[(\w+)\]'", line):
            assert re.search(rf"^{extra[1]} = \[", project, flags=re.MULTILINE)
        else:
            assert line.startswith(("ted ", "python -m venv "))


def test_every_page_and_script_that_is_named_is_there() -> None:
    for name in set(re.findall(r"\b(?:docs|benchmarks|recipes)/[\w./-]+\.(?:md|py|yaml)", README)) - {
        "recipes/offline/TASK.yaml"
    }:
        assert (ROOT / name).is_file(), name


def test_the_recipe_is_whole_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = blocks("yaml")
    Path("stsb.yaml").write_text(block)
    recipe = read_recipe("stsb.yaml")
    assert (recipe.run.output_dir, recipe.run.student_layers, recipe.task.task) == ("runs/stsb", [2, 4, 6], "stsb")
