"""Stage I beside its mathematics: what filters read, where they start, and heads that have learnt nothing."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from sklearn.dummy import DummyClassifier
from sklearn.metrics import accuracy_score, f1_score
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from quick_stages import LABELS, reviews_task
from quick_stages import quick_arguments as arguments
from ted_distill import LearnFiltersArguments, Task, TaskArguments, finetune, learn_filters, load_task
from ted_distill.errors import InputError
from ted_distill.method.filters import FilterConfig, mean_of_tokens
from ted_distill.stages.uninformed import uninformed_heads, uninformed_model
from ted_distill.tasks.base import Split
from ted_distill.tasks.squad.question_answering import SpanPredictions
from tiny import save_tiny, write_entities

pytestmark = pytest.mark.usefixtures("float32")


# --- what filters read ----------------------------------------------------------------------------------------


def test_the_mean_is_over_real_tokens_alone() -> None:
    states = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [9.0, float("nan")]], [[1.0, 1.0], [5.0, 5.0], [3.0, 3.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    torch.testing.assert_close(mean_of_tokens(states, mask), torch.tensor([[[2.0, 4.0]], [[3.0, 3.0]]]))


def test_heads_that_read_the_mean_learn_the_same_from_cached_states_and_other_filters_than_those_of_the_first_token(
    tmp_path: Path,
) -> None:
    model = save_tiny(tmp_path / "m", AutoModelForSequenceClassification, blocks=2, initializer_range=0.3, **LABELS)
    task = reviews_task(tmp_path)
    learnt = {}
    for name, token, limit in (("live", "mean", 0), ("cached", "mean", 1), ("first", "first", 1)):
        settings = LearnFiltersArguments(filter_token=token, filter_init="normal")
        learn_filters(model, task, arguments(tmp_path / name, cache_limit=limit), settings)
        learnt[name] = load_file(tmp_path / name / "filters.safetensors")
    for name, weight in learnt["live"].items():
        torch.testing.assert_close(learnt["cached"][name], weight, rtol=0, atol=1e-5)
    assert any(not torch.equal(learnt["first"][name], weight) for name, weight in learnt["cached"].items())


def test_a_choice_of_token_is_refused_where_every_token_is_read(tmp_path: Path) -> None:
    file = str(write_entities(tmp_path, 12))
    task = load_task(TaskArguments("token_classification", train_file=file, validation_file=file))
    labels = {"id2label": dict(enumerate(task.label_names or ()))}
    model = save_tiny(tmp_path / "m", AutoModelForTokenClassification, blocks=2, **labels)
    with pytest.raises(InputError, match="filter_token: expected none with task token_classification"):
        learn_filters(model, task, arguments(tmp_path / "out"), LearnFiltersArguments(filter_token="mean"))


# --- where they start -----------------------------------------------------------------------------------------


def test_filters_may_start_as_the_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save_tiny(tmp_path / "m", AutoModelForSequenceClassification, blocks=2, **LABELS)
    # So low a rate that the filters are still where they started.
    args = arguments(tmp_path / "out", learning_rate=1e-9)
    learn_filters(model, reviews_task(tmp_path), args, LearnFiltersArguments(filter_init="identity"))
    learnt = load_file(tmp_path / "out" / "filters.safetensors")
    weights = [weight for name, weight in learnt.items() if name.endswith("weight")]
    assert len(weights) == 2
    for weight in weights:
        torch.testing.assert_close(weight, torch.eye(16), rtol=0, atol=1e-6)
    assert all(weight.abs().max() < 1e-6 for name, weight in learnt.items() if name.endswith("bias"))


@pytest.mark.parametrize(
    ("width", "nonlinear", "start"),
    [(16, False, "scaled"), (8, False, "scaled"), (24, False, "normal"), (16, True, "normal")],
)
def test_filters_start_scaled_where_they_can(width: int, nonlinear: bool, start: str) -> None:
    config = FilterConfig([1], 16, width, nonlinear)
    assert LearnFiltersArguments().start(config) == start


@pytest.mark.parametrize(
    ("start", "width", "nonlinear"), [("identity", 8, False), ("identity", 16, True), ("scaled", 24, False)]
)
def test_a_start_that_filters_cannot_have_is_refused(start: str, width: int, nonlinear: bool) -> None:
    with pytest.raises(InputError, match=f"filter_init: expected linear filters of .*, 16, with {start}, got"):
        LearnFiltersArguments(filter_init=start).start(FilterConfig([1], 16, width, nonlinear))


# --- heads that have learnt nothing ---------------------------------------------------------------------------


def split_of(labels: list[Any], task: Task) -> Split:
    return Split(Dataset.from_dict({"label": labels}), Dataset.from_dict({}))


def test_the_score_without_input_is_that_of_the_most_frequent_class(tmp_path: Path) -> None:
    labels = np.array([0, 1, 1, 1, 0, 1, 1])
    task = reviews_task(tmp_path)
    dummy = DummyClassifier(strategy="most_frequent").fit(labels[:, None], labels).predict(labels[:, None])
    assert task.uninformed_score(split_of(labels.tolist(), task)) == pytest.approx(100 * accuracy_score(labels, dummy))


def test_of_a_rare_class_that_f1_is_about_it_is_that_of_always_this_class(tmp_path: Path) -> None:
    labels = np.array([0, 0, 1, 0, 0])
    task = reviews_task(tmp_path)
    task.metrics, task.metric = ("f1",), "f1"
    expected = 100 * f1_score(labels, np.ones_like(labels))
    assert task.uninformed_score(split_of(labels.tolist(), task)) == pytest.approx(expected)


def test_of_rare_labels_it_is_that_of_the_best_set_of_frequent_ones(tmp_path: Path) -> None:
    names = ["a", "b", "c", "d"]
    sets = [["a"], ["a", "b"], ["b"], ["c"], ["a", "c"], ["d"], ["b"]]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps({"text": "a film", "label": labels}) for labels in sets))
    task = load_task(TaskArguments("multi_label_classification", train_file=str(file), validation_file=str(file)))
    labels = np.array([[float(name in row) for name in names] for row in sets])
    every = [np.tile(np.array(constant), (len(sets), 1)) for constant in product([0, 1], repeat=4)]
    expected = max(100 * f1_score(labels, constant, average="micro", zero_division=0) for constant in every)
    assert task.uninformed_score(split_of(labels.tolist(), task)) == pytest.approx(expected)


def test_of_label_sets_it_is_that_of_the_labels_which_half_of_the_rows_have(tmp_path: Path) -> None:
    rows = [{"text": "a film", "label": ["bad"]}, {"text": "a book", "label": ["bad", "good"]}] * 3
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    task = load_task(TaskArguments("multi_label_classification", train_file=str(file), validation_file=str(file)))
    labels = np.array([[1, 0], [1, 0], [1, 1]])
    expected = 100 * f1_score(labels, np.array([[1, 0]] * 3), average="micro")
    assert task.uninformed_score(split_of(labels.astype(float).tolist(), task)) == pytest.approx(expected)


def test_of_questions_that_may_have_no_answer_it_is_the_share_of_these() -> None:
    rows = Dataset.from_dict({"id": list("abcd"), "answers": [{"text": text} for text in (["x"], [], [], [])]})
    task = load_task("squad_v2")
    none = SpanPredictions(dict.fromkeys("abcd", ""), dict.fromkeys("abcd", 0.0))
    assert task.uninformed_score(Split(rows, rows)) == task.score(none, rows)["f1"] == 75
    assert load_task("squad").uninformed_score(Split(rows, rows)) is None


def test_of_scores_and_of_names_it_is_0(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps({"text": "a film", "label": score}) for score in (0.5, 1.5)))
    regression = load_task(TaskArguments("regression", train_file=str(file)))
    assert regression.uninformed_score(split_of([0.5, 1.5], regression)) == 0
    tags = load_task(TaskArguments("token_classification", train_file=str(write_entities(tmp_path, 12))))
    _ = tags.rows
    assert tags.uninformed_score(split_of([], tags)) == 0


def test_blocks_whose_heads_score_no_better_are_named_and_others_are_not(tmp_path: Path) -> None:
    task = reviews_task(tmp_path)
    validation = {"validation": split_of([0, 1, 1, 1], task)}
    scores = {
        "2": {"accuracy": 75.0}, "4": {"accuracy": 75.9}, "6": {"accuracy": 90.0}, "model": {"accuracy": 75.0}
    }  # fmt: skip
    (warning,) = uninformed_heads(task, scores, validation)
    assert "filter heads of blocks 2, 4: expected a better accuracy than 75.00" in warning
    assert "got 75.00, 75.90" in warning
    assert list(uninformed_heads(task, {"6": {"accuracy": 90.0}}, validation)) == []
    assert list(uninformed_heads(task, scores, validation, decides="f1_macro")) == []
    assert list(uninformed_heads(task, scores, {})) == []


def test_a_model_that_scores_no_better_is_named_and_another_is_not(tmp_path: Path) -> None:
    task = reviews_task(tmp_path)
    validation = {"validation": split_of([0, 0, 0, 1], task)}
    (warning,) = uninformed_model(task, {"accuracy": 75.0}, validation)
    assert warning.startswith(
        "expected a better accuracy than 75.00, which needs no input at all, got 75.00: the model"
    )
    assert list(uninformed_model(task, {"accuracy": 90.0}, validation)) == []
    assert list(uninformed_model(task, {"accuracy": 75.0}, {})) == []


def test_where_another_score_decides_nobody_is_told_to_name_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = reviews_task(tmp_path)
    model = save_tiny(tmp_path / "m", AutoModelForSequenceClassification, blocks=2, **LABELS)
    for name, said in (("accuracy", 2), ("f1_macro", 0)):
        caplog.clear()
        changes = {"max_steps": 1, "learning_rate": 1e-9, "metric_for_best_model": name}
        finetune(model, task, arguments(tmp_path / name / "tuned", **changes))
        learn_filters(model, task, arguments(tmp_path / name / "filters", **changes))
        assert caplog.text.count("expected a better accuracy") == said


def test_blocks_beside_an_interval_are_refused() -> None:
    with pytest.raises(InputError, match="filter_blocks: expected no filter_interval with it, got 2"):
        LearnFiltersArguments(filter_interval=2, filter_blocks=[1])
