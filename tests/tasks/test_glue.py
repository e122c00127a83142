"""The nine GLUE tasks: official labels in the official order, whatever a copy of the data holds; scores; names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from datasets import ClassLabel, Dataset, DatasetDict

from ted_distill.errors import InputError
from ted_distill.tasks import TASKS, Regression, SequenceClassification, TaskArguments, describe_task, load_task
from ted_distill.tasks.glue import GLUE

# Columns and label names as the data sets on the Hub have them, and what their papers score them by.
pytestmark = pytest.mark.usefixtures("own_cache")
OFFICIAL: dict[str, tuple[list[str], list[str] | None, str]] = {
    "cola": (["sentence"], ["unacceptable", "acceptable"], "matthews_correlation"),
    "sst2": (["sentence"], ["negative", "positive"], "accuracy"),
    "mrpc": (["sentence1", "sentence2"], ["not_equivalent", "equivalent"], "f1"),
    "qqp": (["question1", "question2"], ["not_duplicate", "duplicate"], "f1"),
    "stsb": (["sentence1", "sentence2"], None, "spearmanr"),
    "mnli": (["premise", "hypothesis"], ["entailment", "neutral", "contradiction"], "accuracy"),
    "qnli": (["question", "sentence"], ["entailment", "not_entailment"], "accuracy"),
    "rte": (["sentence1", "sentence2"], ["entailment", "not_entailment"], "accuracy"),
    "wnli": (["sentence1", "sentence2"], ["not_entailment", "entailment"], "accuracy"),
}


def records(name: str, labels: list[Any]) -> list[dict[str, Any]]:
    columns, _, _ = OFFICIAL[name]
    return [
        {column: f"{column} {number}" for column in columns} | {"label": label, "idx": number}
        for number, label in enumerate(labels)
    ]


def write(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("\n".join(map(json.dumps, rows)))
    return str(file)


@pytest.mark.parametrize("name", OFFICIAL)
def test_each_task_has_its_official_labels_and_score(name: str) -> None:
    _, label_names, metric = OFFICIAL[name]
    task = load_task(name)
    assert task.label_names == label_names
    assert task.num_labels == (len(label_names) if label_names else 1)
    assert task.metric == metric
    assert task.name == name
    assert task.hub_dataset() == ("nyu-mll/glue", name)
    assert isinstance(task, Regression) == (name == "stsb")


@pytest.mark.parametrize("name", [name for name in OFFICIAL if name != "stsb"])
@pytest.mark.parametrize("form", ["numbers", "names", "numbers as text"])
def test_copies_with_numbers_or_names_give_the_same_classes(name: str, form: str, tmp_path: Path) -> None:
    columns, names, _ = OFFICIAL[name]
    assert names is not None
    numbers = [1, 0, 1, *range(len(names))]
    labels = {"numbers": numbers, "names": [names[n] for n in numbers], "numbers as text": [str(n) for n in numbers]}
    task = load_task(TaskArguments(task=name, validation_file=write(tmp_path / "x.jsonl", records(name, labels[form]))))
    rows = task.rows["validation"]
    assert rows["label"][:] == numbers
    assert rows["text"][0] == f"{columns[0]} 0"
    assert ("text_pair" in rows.column_names) == (len(columns) == 2)


def test_classes_declared_in_another_order_are_put_in_the_official_one(tmp_path: Path) -> None:
    declared = ClassLabel(names=["positive", "negative"])
    rows = Dataset.from_list(records("sst2", [0, 1, 1])).cast_column("label", declared)
    rows.to_parquet(tmp_path / "x.parquet")
    task = load_task(TaskArguments(task="sst2", train_file=str(tmp_path / "x.parquet")))
    assert task.label_names == ["negative", "positive"]
    assert task.rows["train"]["label"][:] == [1, 0, 0]


def test_a_single_class_in_the_rows_is_no_problem_where_classes_are_known(tmp_path: Path) -> None:
    task = load_task(TaskArguments(task="cola", validation_file=write(tmp_path / "x.jsonl", records("cola", [1, 1]))))
    assert task.rows["validation"]["label"][:] == [1, 1]


@pytest.mark.parametrize("label", [2, "neutral"])
def test_labels_of_another_task_are_refused(label: Any, tmp_path: Path) -> None:
    file = write(tmp_path / "x.jsonl", records("rte", [label]))
    with pytest.raises(InputError, match=f"expected the labels entailment, not_entailment, got '{label}' in 1 row"):
        _ = load_task(TaskArguments(task="rte", validation_file=file)).rows


@pytest.mark.parametrize("name", ["sst2", "stsb"])
def test_the_hidden_labels_of_test_splits_are_refused(name: str, tmp_path: Path) -> None:
    file = write(tmp_path / "x.jsonl", records(name, [-1, -1]))
    with pytest.raises(InputError, match=r"got -1, which marks hidden labels .* in 2 rows"):
        _ = load_task(TaskArguments(task=name, validation_file=file)).rows


def test_columns_of_a_copy_may_have_other_names(tmp_path: Path) -> None:
    file = write(tmp_path / "x.jsonl", [{"review": "good", "gold": 1}])
    with pytest.raises(InputError, match=r"expected a column 'sentence', got columns review, gold"):
        _ = load_task(TaskArguments(task="sst2", validation_file=file)).rows
    task = load_task(TaskArguments(task="sst2", validation_file=file, text_column="review", label_column="gold"))
    assert task.rows["validation"][0]["text"] == "good"


def test_mnli_has_two_validation_splits_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(name: str, config: str) -> DatasetDict:
        assert (name, config) == ("nyu-mll/glue", "mnli")
        splits = {"train": 3, "validation_matched": 2, "validation_mismatched": 1, "test_matched": 5}
        return DatasetDict({name: Dataset.from_list(records("mnli", [2] * rows)) for name, rows in splits.items()})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    rows = load_task("mnli").rows
    assert {name: len(split) for name, split in rows.items()} == {
        "train": 3,
        "validation": 2,
        "validation_mismatched": 1,
    }


def test_mnli_takes_one_or_two_files_to_score_on(tmp_path: Path) -> None:
    matched, mismatched = (write(tmp_path / f"{n}.jsonl", records("mnli", [0] * n)) for n in (2, 3))
    arguments = TaskArguments(task="mnli", validation_file=matched)
    assert {name: len(rows) for name, rows in load_task(arguments).rows.items()} == {"validation": 2}
    arguments.validation_mismatched_file = mismatched
    assert {name: len(rows) for name, rows in load_task(arguments).rows.items()} == {
        "validation": 2,
        "validation_mismatched": 3,
    }


# --- scores ---------------------------------------------------------------------------------------------------

LABELS = np.array([0, 1, 1, 0, 1, 1, 0, 1])
PREDICTIONS = np.array([0, 1, 0, 1, 1, 1, 0, 1])


def score(name: str, predictions: Any, labels: Any) -> dict[str, float]:
    return load_task(name).score(np.array(predictions), Dataset.from_dict({"label": list(labels)}))


@pytest.mark.parametrize("name", ["mrpc", "qqp"])
def test_paraphrases_are_scored_by_the_f1_of_the_positive_class(name: str) -> None:
    assert score(name, PREDICTIONS, LABELS) == {
        "f1": pytest.approx(100 * sklearn.metrics.f1_score(LABELS, PREDICTIONS)),
        "accuracy": 75.0,
    }
    assert score(name, 0 * PREDICTIONS, LABELS) == {"f1": 0.0, "accuracy": 37.5}


def test_cola_is_scored_by_the_matthews_correlation() -> None:
    found = score("cola", PREDICTIONS, LABELS)
    expected = 100 * sklearn.metrics.matthews_corrcoef(LABELS, PREDICTIONS)
    assert found["matthews_correlation"] == pytest.approx(expected)
    assert score("cola", 0 * PREDICTIONS + 1, LABELS)["matthews_correlation"] == 0.0
    assert score("cola", 0 * PREDICTIONS, 0 * LABELS)["matthews_correlation"] == 0.0


@pytest.mark.parametrize("name", ["sst2", "mnli", "qnli", "rte", "wnli"])
def test_the_others_are_scored_by_accuracy(name: str) -> None:
    assert score(name, PREDICTIONS, LABELS) == {"accuracy": 75.0}


def test_stsb_is_scored_by_both_correlations() -> None:
    generator = np.random.default_rng(0)
    labels, predictions = generator.uniform(0, 5, 40), generator.uniform(0, 5, 40)
    assert score("stsb", predictions, labels) == {
        "spearmanr": pytest.approx(100 * scipy.stats.spearmanr(labels, predictions).statistic),
        "pearson": pytest.approx(100 * scipy.stats.pearsonr(labels, predictions).statistic),
    }
    assert score("stsb", 0 * predictions + 2.5, labels) == {"spearmanr": 0.0, "pearson": 0.0}


def test_predictions_of_glue_are_written_as_names_and_read_as_names_or_numbers(tmp_path: Path) -> None:
    task = load_task("mnli")
    file = tmp_path / "predictions.json"
    task.write_predictions(np.array([2, 0]), None, tmp_path)  # type: ignore[arg-type]
    assert json.loads(file.read_text()) == ["contradiction", "entailment"]
    assert task.read_predictions(file).tolist() == [2, 0]
    file.write_text("[2, 0]")
    assert task.read_predictions(file).tolist() == [2, 0]


# --- names ----------------------------------------------------------------------------------------------------


def test_every_task_can_be_made_and_has_one_line_about_it() -> None:
    assert set(TASKS) >= {*OFFICIAL, "sequence_classification", "multi_label_classification", "regression"}
    assert set(TASKS) >= {"question_answering", "squad", "squad_v2"}
    assert set(GLUE) == set(OFFICIAL)
    for name in TASKS:
        assert load_task(name).name == name
        line = describe_task(name)
        assert len(line) > 20
        assert "\n" not in line


def test_a_task_is_made_of_its_arguments() -> None:
    task = load_task(TaskArguments(task="sequence_classification", max_seq_length=33))
    assert type(task) is SequenceClassification
    assert task.max_seq_length == 33


@pytest.mark.parametrize(("name", "nearest"), [("sst-2", "sst2"), ("MNLI", "mnli"), ("squad2", "squad")])
def test_an_unknown_task_names_the_nearest_and_all_others(name: str, nearest: str) -> None:
    with pytest.raises(InputError, match=f"task: expected one of .*cola, .*wnli, got '{name}'; did you mean {nearest}"):
        load_task(name)


def test_no_task_at_all_names_the_flag_and_the_tasks() -> None:
    with pytest.raises(
        InputError, match=r"task: expected one of sequence_classification, .*wnli, got nothing; set --task"
    ):
        load_task(TaskArguments())
