"""What a teacher's predictions on a few rows say about it; they are given here, without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quick_stages import quick_arguments
from ted_distill import Task, TaskArguments, load_task
from ted_distill.runs.checking import scores
from ted_distill.runs.checking.scores import SampleScores, described, score_doubts, score_sample
from ted_distill.tasks.squad.question_answering import SpanPredictions
from tiny import tiny_tokenizer, write_entities, write_questions, write_reviews

RIGHT = np.array([row % 2 for row in range(40)])
"""The classes of the reviews: `bad`, `good`, `bad`, ..."""


class Model:
    """Stands for a loaded model."""

    tokenizer = tiny_tokenizer()


@pytest.fixture
def task(tmp_path: Path) -> Task:
    file = str(write_reviews(tmp_path, 40))
    return load_task(TaskArguments("sequence_classification", train_file=file, validation_file=file))


def scored(monkeypatch: pytest.MonkeyPatch, folder: Path, task: Task, teacher: Any, student: Any = None) -> Any:
    """Scores of predictions that are given for the teacher and, if there is one, for the student."""
    models = {"teacher": Model(), "student": Model()}
    given = {id(models["teacher"]): teacher, id(models["student"]): student}
    monkeypatch.setattr(scores, "_predicted", lambda loaded, *args: given[id(loaded)])
    wanted = models if student is not None else {"teacher": models["teacher"]}
    return score_sample(wanted, task, quick_arguments(folder))  # type: ignore[arg-type]


def test_a_teacher_at_the_majority_was_never_fine_tuned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, task: Task
) -> None:
    found = scored(monkeypatch, tmp_path, task, np.zeros(40, dtype=int))
    assert found.knows("teacher") is False
    (doubt,) = score_doubts(found, "models/bert", tuned=False)
    assert doubt.startswith("teacher: expected a model fine-tuned on this task, got models/bert, whose accuracy of 50")
    assert found.chance is not None
    assert f"is not clearly better than chance ({found.chance[0]:.2f}): it was never" in doubt
    assert "take finetune_teacher: false out of the recipe" in doubt


def test_nothing_is_said_against_a_teacher_that_will_be_fine_tuned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, task: Task
) -> None:
    found = scored(monkeypatch, tmp_path, task, np.zeros(40, dtype=int))
    assert not [*score_doubts(found, "models/bert", tuned=True)]
    assert described(found, tuned=True).endswith("the teacher is fine-tuned first")


def test_a_teacher_that_is_to_be_fine_tuned_although_it_knows_the_task_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, task: Task
) -> None:
    found = scored(monkeypatch, tmp_path, task, RIGHT)
    assert "finetune_teacher: false would take it as it is" in described(found, tuned=True)
    assert "finetune_teacher" not in described(found, tuned=True, fresh=True)


def test_a_teacher_that_knows_the_task_is_no_doubt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, task: Task) -> None:
    mostly = np.where(np.arange(40) < 36, RIGHT, 1 - RIGHT)
    found = scored(monkeypatch, tmp_path, task, mostly, student=np.zeros(40, dtype=int))
    assert not [*score_doubts(found, "models/bert", tuned=False)]
    assert found.chance is not None
    assert abs(found.chance[0] - 50) < 5


def test_labels_in_another_order_are_seen_by_what_the_teacher_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, task: Task
) -> None:
    found = scored(monkeypatch, tmp_path, task, 1 - RIGHT)
    (doubt,) = score_doubts(found, "models/bert", tuned=False)
    assert "good where the data say bad, bad where the data say good (40 of 40 rows would be right so, 0 are)" in doubt


def test_a_student_better_than_its_teacher_is_a_doubt(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, task: Task
) -> None:
    mostly = np.where(np.arange(40) < 36, RIGHT, 1 - RIGHT)
    found = scored(monkeypatch, tmp_path, task, mostly, student=RIGHT)
    (doubt,) = score_doubts(found, "models/bert", tuned=False)
    assert doubt.startswith("student: expected less than the teacher at the start, got accuracy 100.00")


def test_chance_of_tags_and_answers_is_that_of_other_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tags = load_task(TaskArguments("token_classification", validation_file=str(write_entities(tmp_path, 24))))
    names = tags.label_names or []
    gold = [[names[tag] for tag in row] for row in tags.rows["validation"]["tags"]]
    found = scored(monkeypatch, tmp_path, tags, gold)
    assert found.by_model["teacher"] == pytest.approx(100)
    assert found.chance is not None
    assert found.chance[0] < 60
    assert found.knows("teacher")
    questions = load_task(
        TaskArguments("squad_v2", validation_file=str(write_questions(tmp_path, 24)), max_seq_length=64, doc_stride=8)
    )
    texts = questions.rows["validation"]
    given = [(answer["text"] or [""])[0] for answer in texts["answers"]]
    answers = dict(zip(texts["id"], given, strict=True))
    found = scored(monkeypatch, tmp_path, questions, SpanPredictions(answers))
    assert found.chance is not None
    assert found.chance[0] < 60 < found.by_model["teacher"]


@pytest.mark.parametrize(("perplexity", "knows"), [(90.0, False), (20.0, True)])
def test_less_is_better_where_it_is(perplexity: float, knows: bool) -> None:
    found = SampleScores("perplexity", True, "validation", 50, 80.0, {"teacher": perplexity}, None)
    assert found.knows("teacher") is knows


def test_a_handful_of_rows_says_nothing() -> None:
    found = SampleScores("accuracy", False, "validation", 5, 60.0, {"teacher": 20.0}, (50.0, 10.0))
    assert found.knows("teacher") is None
    assert not found.below_chance


def test_a_teacher_that_finds_rare_rows_knows_the_task_though_one_answer_is_right_more_often(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """5 % of 200 rows are spam; the teacher finds eight of ten, and takes twelve others for spam."""
    labels = np.repeat([1, 0], [10, 190])
    said = np.concatenate([np.repeat([1, 0], [8, 2]), np.repeat([1, 0], [12, 178])])
    file = tmp_path / "mail.jsonl"
    rows = [{"text": f"the book {row}", "label": ("ham", "spam")[label]} for row, label in enumerate(labels)]
    file.write_text("\n".join(map(json.dumps, rows)))
    task = load_task(TaskArguments("sequence_classification", train_file=str(file), validation_file=str(file)))
    found = scored(monkeypatch, tmp_path, task, said)
    assert found.by_model["teacher"] == 93
    assert found.uninformed == 95
    assert found.knows("teacher")
    (doubt,) = score_doubts(found, "models/bert", tuned=False)
    assert doubt.startswith("teacher: expected more than one answer for all rows has (95.00), got accuracy 93.00")
    assert "never fine-tuned" not in doubt
