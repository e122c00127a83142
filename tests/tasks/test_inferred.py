"""Other data of a model are read as the rows were that it was trained on: what was inferred from these is kept."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification

from quick_stages import quick_arguments
from ted_distill import Task, TaskArguments, evaluate, finetune, load_task
from ted_distill.models.load import offer_to_task
from tiny import save_tiny

MIXED = ["a", "b", "a, b", "a|b", "a|a, b"]
"""Labels of rows; the name of one has a comma."""


def labels_file(folder: Path, name: str, labels: list[str]) -> str:
    rows = [json.dumps({"text": f"the book was {'very ' * place}good", "label": of}) for place, of in enumerate(labels)]
    (folder / name).write_text("\n".join(rows) + "\n", encoding="utf-8")
    return str(folder / name)


def questions_file(folder: Path, name: str, *answers: str) -> str:
    context = "Ada wrote the book."
    rows = [
        {
            "id": f"{name}{place}",
            "question": "who wrote the book?",
            "context": context,
            "answers": {"text": [answer], "answer_start": [context.index(answer)]}
            if answer
            else {"text": [], "answer_start": []},
        }
        for place, answer in enumerate(answers)
    ]
    (folder / name).write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return str(folder / name)


def text_file(folder: Path, name: str, rows: list[str]) -> str:
    (folder / name).write_text("\n".join(json.dumps({"text": row}) for row in rows) + "\n", encoding="utf-8")
    return str(folder / name)


def read(task: Task) -> Task:
    assert task.rows
    return task


def test_a_field_is_split_as_in_training_though_its_file_has_no_such_separator(tmp_path: Path) -> None:
    kind = "multi_label_classification"
    trained = read(load_task(TaskArguments(kind, train_file=labels_file(tmp_path, "train.jsonl", MIXED))))
    assert trained.inferred == {"label_separator": "|"}
    other = load_task(TaskArguments(kind, validation_file=labels_file(tmp_path, "one.jsonl", ["a, b", "a"])))
    other.offer_inferred(trained.inferred)
    other.offer_labels([trained.label_names or []])
    assert other.rows["validation"]["label"][:] == [[0, 1, 0], [1, 0, 0]]
    assert other.inferred == {"label_separator": "|"}


def test_a_model_that_a_stage_trained_says_how_its_rows_were_read(tmp_path: Path) -> None:
    kind = "multi_label_classification"
    given = save_tiny(tmp_path / "given", AutoModelForSequenceClassification, num_labels=3)
    files = {"train_file": labels_file(tmp_path, "train.jsonl", MIXED * 4)}
    files["validation_file"] = labels_file(tmp_path, "validation.jsonl", MIXED)
    finetune(str(given), load_task(TaskArguments(kind, **files)), quick_arguments(tmp_path / "out"))
    one = TaskArguments(kind, validation_file=labels_file(tmp_path, "one.jsonl", ["a, b", "a"]))
    task = load_task(one)
    offer_to_task(tmp_path / "out", task)
    assert task.rows["validation"]["label"][:] == [[0, 1, 0], [1, 0, 0]]


def test_a_task_that_was_used_with_one_model_is_read_anew_for_the_next(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model", AutoModelForSequenceClassification, num_labels=2)
    file = labels_file(tmp_path, "one.jsonl", ["a, b", "a"])
    task = load_task(TaskArguments("multi_label_classification", validation_file=file))
    with task.lent():
        task.offer_inferred({"label_separator": "|"})
        assert read(task).label_names == ["a", "a, b"]
    evaluate(str(model), task, use_cpu=True)
    assert (task.label_names, task.rows["validation"]["label"][:]) == (["a", "b"], [[1, 1], [1, 0]])


@pytest.mark.parametrize("negatives", [True, False])
def test_a_file_of_questions_is_scored_by_the_rule_of_the_training_rows(tmp_path: Path, negatives: bool) -> None:
    answers = ["Ada", "the book", "" if negatives else "Ada"]
    trained = read(
        load_task(TaskArguments("question_answering", train_file=questions_file(tmp_path, "t.jsonl", *answers)))
    )
    assert trained.inferred == {"version_2_with_negative": negatives}
    answered = TaskArguments("question_answering", validation_file=questions_file(tmp_path, "v.jsonl", "Ada", "Ada"))
    other = load_task(answered)
    other.offer_inferred(trained.inferred)
    assert read(other).version_2_with_negative is negatives
    assert not read(load_task(answered)).version_2_with_negative


def test_questions_without_an_answer_are_scored_though_the_training_rows_had_none(tmp_path: Path) -> None:
    task = load_task(
        TaskArguments("question_answering", validation_file=questions_file(tmp_path, "v.jsonl", "Ada", ""))
    )
    task.offer_inferred({"version_2_with_negative": False})
    assert read(task).version_2_with_negative


def test_arguments_and_names_of_tasks_win_over_what_was_inferred(tmp_path: Path) -> None:
    file = questions_file(tmp_path, "v.jsonl", "Ada", "Ada")
    for arguments in (
        TaskArguments("squad", validation_file=file),
        TaskArguments("question_answering", validation_file=file, version_2_with_negative=False),
    ):
        task = load_task(arguments)
        task.offer_inferred({"version_2_with_negative": True})
        assert not read(task).version_2_with_negative
    labels = TaskArguments(
        "multi_label_classification",
        validation_file=labels_file(tmp_path, "l.jsonl", ["a, b", "a"]),
        label_separator=", ",
    )
    several = load_task(labels)
    several.offer_inferred({"label_separator": "|"})
    assert several.rows["validation"]["label"][:] == [[1, 1], [1, 0]]
    assert several.inferred == {}


def test_rows_that_were_read_stay_as_they_were_read(tmp_path: Path) -> None:
    task = read(
        load_task(TaskArguments("question_answering", validation_file=questions_file(tmp_path, "v.jsonl", "Ada")))
    )
    task.offer_inferred({"version_2_with_negative": True})
    assert not task.version_2_with_negative


def test_a_text_too_short_to_tell_is_joined_as_the_training_text_was(tmp_path: Path) -> None:
    lines = read(load_task(TaskArguments("causal_lm", train_file=text_file(tmp_path, "t.jsonl", ["a line\n"] * 9))))
    documents = read(load_task(TaskArguments("causal_lm", train_file=text_file(tmp_path, "d.jsonl", ["a text"] * 9))))
    assert (lines.inferred, documents.inferred) == ({"row_separator": "none"}, {"row_separator": "eos"})
    short = TaskArguments("causal_lm", validation_file=text_file(tmp_path, "v.jsonl", ["one text", "another"]))
    for trained, joined in ((lines, True), (documents, False)):
        task = load_task(short)
        task.offer_inferred(trained.inferred)
        assert task.keeps_order(read(task).rows["validation"]) is joined


def test_a_text_that_is_plainly_of_the_other_form_is_read_in_its_own_and_a_message_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = load_task(TaskArguments("causal_lm", validation_file=text_file(tmp_path, "v.jsonl", ["a line\n"] * 9)))
    task.offer_inferred({"row_separator": "eos"})
    with caplog.at_level(logging.WARNING):
        assert task.keeps_order(read(task).rows["validation"])
    assert "validation: read as lines of one text" in caplog.text
    assert "set row_separator if they are to be read alike" in caplog.text
