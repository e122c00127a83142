"""Scores on rows drawn with replacement are those that the task gives for these rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from ted_distill import TaskArguments, load_task
from ted_distill.tasks import Task
from ted_distill.tasks.resampling import Draws, sampled_scores, sampled_sums
from ted_distill.tasks.scores import SCORES
from ted_distill.tasks.squad.question_answering import SpanPredictions

DRAWS = Draws(40, 25)


def test_draws_are_the_same_each_time_they_are_looped_over() -> None:
    first, second = (np.stack(list(draws)) for draws in (DRAWS, DRAWS))
    assert (first == second).all()
    assert first.shape == (25, 40)
    assert not (np.stack(list(Draws(40, 25, seed=1))) == first).all()


@pytest.mark.parametrize("name", sorted(SCORES))
@pytest.mark.parametrize("classes", [2, 4])
def test_every_score_of_a_draw_is_that_of_its_rows(name: str, classes: int) -> None:
    rng = np.random.default_rng(0)
    if name in ("pearson", "spearmanr", "mse"):
        labels, predictions = np.round(rng.normal(size=(2, 40)), 1)
    elif name == "f1_micro":
        labels, predictions = rng.integers(2, size=(2, 40, 3))
    else:
        labels, predictions = rng.integers(2 if name == "f1" else classes, size=(2, 40))
    expected = [SCORES[name](labels[draw], predictions[draw]) for draw in DRAWS]
    assert sampled_scores(name, labels, predictions, DRAWS) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["f1_micro", "f1_macro", "exact_match"])
@pytest.mark.parametrize("found", [0.0, 0.1, 0.5])
def test_scores_of_several_labels_are_sums_over_rows(name: str, found: float) -> None:
    """Labels that no row of a draw has, or is said to have, among them."""
    rng = np.random.default_rng(1)
    labels, predictions = (rng.random((40, 5)) < 0.05).astype(int), (rng.random((40, 5)) < found).astype(int)
    expected = [SCORES[name](labels[draw], predictions[draw]) for draw in DRAWS]
    assert sampled_scores(name, labels, predictions, DRAWS) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["accuracy", "f1", "f1_macro", "matthews_correlation", "spearmanr", "pearson"])
def test_constant_predictions_have_the_score_that_the_task_gives_them(name: str) -> None:
    labels, predictions = np.arange(40) % 2, np.zeros(40, dtype=np.int64)
    expected = [SCORES[name](labels[draw], predictions[draw]) for draw in DRAWS]
    assert sampled_scores(name, labels, predictions, DRAWS) == pytest.approx(expected)


def test_sums_are_those_of_the_rows_drawn() -> None:
    parts = np.random.default_rng(0).normal(size=(40, 3))
    assert sampled_sums(parts, DRAWS) == pytest.approx(np.stack([parts[draw].sum(axis=0) for draw in DRAWS]))


def _token_rows(names: list[str], rng: np.random.Generator) -> tuple[Dataset, list[list[str]]]:
    tags = [rng.integers(len(names), size=length).tolist() for length in rng.integers(1, 9, size=40)]
    predictions = [[names[tag] if rng.random() < 0.6 else str(rng.choice(names)) for tag in row] for row in tags]
    return Dataset.from_dict({"tags": tags}), predictions


@pytest.mark.parametrize("names", [["O", "B-PER", "I-PER", "B-LOC", "I-LOC"], ["DET", "NOUN", "VERB"]])
def test_tags_drawn_have_the_f1_or_accuracy_of_their_rows(names: list[str]) -> None:
    task = load_task(TaskArguments("token_classification"))
    task._label_names = names
    rows, predictions = _token_rows(names, np.random.default_rng(0))
    _same(task, predictions, rows, lambda draw: [predictions[row] for row in draw])


def test_questions_drawn_have_the_mean_f1_of_theirs() -> None:
    task = load_task(TaskArguments("squad"))
    rng = np.random.default_rng(0)
    words = ["a blue house", "two birds", "the sea", "in 1815"]
    gold = [str(rng.choice(words)) for _ in range(40)]
    rows = Dataset.from_dict(
        {"id": [str(row) for row in range(40)], "answers": [{"text": [text], "answer_start": [0]} for text in gold]}
    )
    answers = {str(row): text if rng.random() < 0.5 else str(rng.choice(words)) for row, text in enumerate(gold)}
    found = task.sampled_score(SpanPredictions(answers), rows, DRAWS)
    of_one = [task.score(SpanPredictions(answers), rows.select([row]))["f1"] for row in range(40)]
    assert found == pytest.approx([np.mean(np.array(of_one)[draw]) for draw in DRAWS])


@pytest.mark.parametrize("name", ["causal_lm", "lambada"])
def test_features_of_text_drawn_have_the_score_of_theirs(name: str) -> None:
    task = load_task(TaskArguments(name))
    rng = np.random.default_rng(0)
    predictions = []
    for length in rng.integers(1, 9, size=40):
        likely = np.log(rng.uniform(0.1, 1, size=length))
        predictions.append(np.stack([likely, rng.random(length) < 0.7, rng.integers(9, size=length)], axis=1))
    rows = Dataset.from_dict({"text": ["some words"]})
    assert task.examples(predictions, rows) == 40
    found = task.sampled_score(predictions, rows, DRAWS)
    expected = [task.score([predictions[row] for row in draw], rows)[task.metric] for draw in DRAWS]
    assert found == pytest.approx(expected)


def test_a_task_of_ones_own_is_scored_draw_by_draw(tmp_path: Path) -> None:
    task = load_task(TaskArguments("regression"))
    labels = np.random.default_rng(0).normal(size=40)
    rows = Dataset.from_dict({"label": labels})
    predictions = labels + np.arange(40) % 3
    expected = Task.sampled_score(task, predictions, rows, DRAWS)
    assert task.sampled_score(predictions, rows, DRAWS) == pytest.approx(expected)


def _same(task: Task, predictions: Any, rows: Dataset, drawn: Any) -> None:
    expected = [task.score(drawn(draw), rows.select(draw))[task.metric] for draw in DRAWS]
    assert task.sampled_score(predictions, rows, DRAWS) == pytest.approx(expected)
