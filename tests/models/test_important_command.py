"""`ted student --narrow important` and a recipe's narrower student: what they need, say, and are the same by."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from ted_distill import TaskArguments, load_task
from ted_distill.cli.main import main
from ted_distill.models.as_saved import load_as_saved
from ted_distill.models.students import make_student
from ted_distill.stages.rows.task_rows import ROWS, TOKENS, task_rows
from tiny import CLASSES, save_tiny, write_entities, write_questions, write_reviews, write_text

TASK = ["--task", "sequence_classification"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "big", AutoModelForSequenceClassification, blocks=4, **CLASSES)


def command(source: Path, out: Path, train: Path, *more: str) -> list[str]:
    flags = ["--layers", "2,4", "--hidden_size", "8", *TASK, "--train_file", str(train), *more]
    return ["student", str(source), str(out), *flags]


def test_a_task_makes_the_student_of_what_matters_on_its_rows(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, out = write_reviews(tmp_path, 24, "train"), tmp_path / "out"
    assert main(command(source, out, train)) == 0
    said = capsys.readouterr().out
    assert "4 -> 2 blocks (2, 4), " in said
    assert "width 16 -> 8; weights: what matters on rows of the task, fitted to the teacher" in said
    description = json.loads((out / "student.json").read_text())
    assert (description["weights"], description["hidden_size"], description["layers"]) == ("important", 8, [2, 4])
    student = load_as_saved(str(out))
    assert (student.config.num_hidden_layers, student.config.hidden_size) == (2, 8)
    before = {file: file.stat().st_mtime_ns for file in out.iterdir()}
    assert main(command(source, out, train, "--narrow", "important")) == 0
    assert f"{out} holds this student already, skipped" in capsys.readouterr().out
    for other in (
        command(source, out, write_reviews(tmp_path, 22, "fewer")),
        command(source, out, train, "--seed", "1"),
    ):
        assert main(other) == 2
        assert "which holds something else; give another one" in capsys.readouterr().err
    assert {file: file.stat().st_mtime_ns for file in out.iterdir()} == before


def test_the_teachers_own_width_is_fitted_too(source: Path, tmp_path: Path) -> None:
    arguments = command(source, tmp_path / "out", write_reviews(tmp_path, 24, "train"))
    arguments[arguments.index("8")] = "16"
    assert main(arguments) == 0
    cut = ["student", str(source), str(tmp_path / "cut"), "--layers", "2,4"]
    assert main(cut) == 0
    fitted, copied = (load_as_saved(str(tmp_path / name)) for name in ("out", "cut"))
    name = "bert.encoder.layer.1.output.dense.weight"
    assert fitted.config.hidden_size == copied.config.hidden_size == 16
    assert not torch.equal(fitted.state_dict()[name], copied.state_dict()[name])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--hidden_size", "8", "--narrow", "important"], "narrow: expected a task with important, whose rows say"),
        (["--num_layers", "2", *TASK], "narrow: expected a hidden_size with important, got none"),
        (["--num_layers", "2", "--narrow", "random"], "narrow: expected a hidden_size with random, got none"),
        (["--hidden_size", "8", "--narrow", "random", *TASK], "task: expected none with narrow random"),
        (["--hidden_size", "8", *TASK], "data: expected files or a data set"),
        (["--hidden_size", "8", "--task", "sentences"], "task: expected one of"),
    ],
)
def test_what_does_not_go_together_is_refused(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert main(["student", str(source), str(tmp_path / "out"), *flags]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_teacher_without_a_head_for_the_task_is_told_by_its_states_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, train = save_tiny(tmp_path / "raw", AutoModel, blocks=4), write_reviews(tmp_path, 24, "train")
    with caplog.at_level(logging.WARNING, "ted_distill"):
        assert main(command(source, tmp_path / "out", train)) == 0
    said = [record.getMessage() for record in caplog.records if "fine-tuned" in record.getMessage()]
    assert len(said) == 1
    assert "narrow: expected a teacher fine-tuned on sequence_classification" in said[0]
    assert AutoModel.from_pretrained(tmp_path / "out").config.hidden_size == 8


@pytest.mark.parametrize(
    ("name", "auto_class", "family", "write"),
    [
        ("question_answering", AutoModelForQuestionAnswering, "bert", write_questions),
        ("token_classification", AutoModelForTokenClassification, "distilbert", write_entities),
        ("causal_lm", AutoModelForCausalLM, "gpt2", write_text),
        ("masked_lm", AutoModelForMaskedLM, "roberta", write_text),
    ],
)
def test_every_kind_of_task_can_say_what_is_important(
    name: str, auto_class: type, family: str, write: Callable[..., Path], tmp_path: Path
) -> None:
    labels = ["O", "B-person", "I-person", "B-thing"]
    classes = {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}
    source = save_tiny(
        tmp_path / "big", auto_class, family, blocks=3, **(classes if name == "token_classification" else {})
    )
    length = 16 if write is write_text else 32
    task = load_task(TaskArguments(name, train_file=str(write(tmp_path)), max_seq_length=length, doc_stride=4))
    rows = task_rows(source, task)
    assert rows.loss is not None
    make_student(source, [1, 3], tmp_path / "out", hidden_size=8, narrow="important", rows=rows)
    student = load_as_saved(str(tmp_path / "out"))
    assert isinstance(student, type(load_as_saved(str(source))))
    assert student.config.hidden_size == 8


def test_rows_are_drawn_by_the_seed_and_no_more_than_can_be_held(source: Path, tmp_path: Path) -> None:
    task = load_task(TaskArguments("sequence_classification", train_file=str(write_reviews(tmp_path, 900, "train"))))
    first, again, other = (task_rows(source, task, seed=seed) for seed in (1, 1, 2))
    assert sum(len(batch["input_ids"]) for batch in first.batches) == ROWS
    assert first.together["input_ids"].numel() <= TOKENS
    assert torch.equal(first.together["input_ids"], again.together["input_ids"])
    assert not torch.equal(first.batches[0]["input_ids"], other.batches[0]["input_ids"])
    assert first.identity == again.identity != other.identity


@pytest.mark.parametrize("narrow", [None, "truncated"])
def test_a_run_makes_its_narrower_student_of_what_matters_unless_told_otherwise(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], narrow: str | None
) -> None:
    recipe = {
        "task": "sequence_classification",
        "train_file": str(write_reviews(tmp_path, 24, "train")),
        "validation_file": str(write_reviews(tmp_path, 12, "validation")),
        "output_dir": str(tmp_path / "run"),
        "teacher": str(source),
        "student_num_layers": 2,
        "student_hidden_size": 8,
        "training": {"max_steps": 1, "per_device_train_batch_size": 4, "disable_tqdm": True},
        "methods": ["kd"],
        **({"student_narrow": narrow} if narrow else {}),
    }
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    assert main(["run", str(file), "report=false"]) == 0
    description = json.loads((tmp_path / "run" / "student_init" / "student.json").read_text())
    assert description["weights"] == (narrow or "important")
    assert main(["run", str(file), "report=false"]) == 0  # it is found to be the same
    capsys.readouterr()
    assert main(["run", str(file), f"student_narrow={'random' if narrow else 'truncated'}"]) == 2
    assert "narrow" in capsys.readouterr().err
