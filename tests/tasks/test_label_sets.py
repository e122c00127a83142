"""Names of labels: matched exactly or by case where that is certain, and completed by those of a model."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from transformers import BertConfig

from ted_distill import InputError, Task, TaskArguments, load_task
from ted_distill.models.labels import label_order
from ted_distill.stages.rows.held_out import hold_out
from ted_distill.tasks import Split
from ted_distill.tasks.label_sets import completed, match_names


@pytest.mark.parametrize(
    ("wanted", "known", "places"),
    [
        (["bad", "good"], ["good", "bad"], [1, 0]),
        (["US", "us"], ["us", "US"], [1, 0]),
        (["Good", "bad"], ["good", "bad"], [0, 1]),
        (["Positive", "positive", "Negative"], ["negative", "Positive", "positive"], [1, 2, 0]),
        (["US"], ["us", "Us"], [None]),
        (["US", "us"], ["us"], [None, 0]),
        (["US", "Us"], ["us"], [None, None]),
        (["Straße"], ["STRASSE"], [0]),
        (["neutral"], ["good", "bad"], [None]),
        ([], ["good"], []),
    ],
)
def test_names_are_matched_exactly_or_by_case_where_only_one_can_be_meant(
    wanted: list[str], known: list[str], places: list[int | None]
) -> None:
    assert match_names(wanted, known) == places


def test_some_of_a_models_names_are_completed_in_the_spelling_of_the_data() -> None:
    assert completed(["GOOD"], ["bad", "good", "neutral"]) == ["bad", "GOOD", "neutral"]
    assert completed(["bad", "good"], ["good", "bad"]) is None
    assert completed(["bad", "other"], ["good", "bad", "neutral"]) is None


# --- in tasks -------------------------------------------------------------------------------------------------


def task_of(tmp_path: Path, task: str, labels: list[object], column: str = "label", **arguments: str) -> Task:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps({"text": f"text {row}", column: label}) for row, label in enumerate(labels)))
    return load_task(TaskArguments(task=task, validation_file=str(file), **arguments))


def words_of(tmp_path: Path, tags: list[list[str]]) -> Task:
    file = tmp_path / "words.jsonl"
    rows = [{"tokens": ["word"] * len(row), "ner_tags": row} for row in tags]
    file.write_text("\n".join(map(json.dumps, rows)))
    return load_task(TaskArguments(task="token_classification", validation_file=str(file)))


OFFERED = [["neutral", "good", "bad"]]


@pytest.mark.parametrize("read_first", [False, True])
def test_classes_of_the_model_that_the_data_lack_get_numbers_too(tmp_path: Path, read_first: bool) -> None:
    task = task_of(tmp_path, "sequence_classification", ["good", "bad", "good"])
    if read_first:
        assert task.label_names == ["bad", "good"]
    before = task.identity if read_first else None
    task.offer_labels(OFFERED)
    assert task.label_names == ["bad", "good", "neutral"]
    assert task.num_labels == 3
    assert task.rows["validation"]["label"][:] == [1, 0, 1]
    assert task.identity != before


def test_a_single_class_is_enough_if_the_model_knows_it(tmp_path: Path) -> None:
    task = task_of(tmp_path, "sequence_classification", ["good", "good"])
    task.offer_labels(OFFERED)
    assert task.label_names == ["bad", "good", "neutral"]
    assert task.rows["validation"]["label"][:] == [1, 1]


def test_a_single_class_that_the_model_does_not_know_is_refused_by_name(tmp_path: Path) -> None:
    task = task_of(tmp_path, "sequence_classification", ["awful", "awful"])
    task.offer_labels(OFFERED)
    with pytest.raises(InputError, match=r"expected the labels bad, good, neutral, got 'awful' in 2 rows"):
        _ = task.rows


def test_data_with_all_of_the_models_classes_keep_their_own_order_and_are_not_read_again(tmp_path: Path) -> None:
    task = task_of(tmp_path, "sequence_classification", ["good", "Bad"])
    rows, identity = task.rows, task.identity
    task.offer_labels([["good", "bad"]])
    assert task.rows is rows
    assert task.identity is identity
    assert task.label_names == ["Bad", "good"]


def test_another_model_is_offered_in_place_of_the_first(tmp_path: Path) -> None:
    task = task_of(tmp_path, "sequence_classification", ["good", "bad"])
    assert not task.has_offer
    task.offer_labels(OFFERED)
    assert task.label_names == ["bad", "good", "neutral"]
    task.offer_labels([["bad", "good", "other", "some"]])
    assert task.label_names == ["bad", "good", "other", "some"]
    task.offer_labels([["bad", "good"]])
    assert task.label_names == ["bad", "good"]
    assert task.has_offer


def test_data_with_other_classes_keep_theirs(tmp_path: Path) -> None:
    task = task_of(tmp_path, "sequence_classification", ["good", "awful"])
    task.offer_labels(OFFERED)
    assert task.label_names == ["awful", "good"]


def test_numbers_are_those_of_logits_without_names(tmp_path: Path) -> None:
    task = task_of(tmp_path, "sequence_classification", [0, 2, 2])
    task.offer_labels([["LABEL_0", "LABEL_1", "LABEL_2"], ["0", "1", "2"]])
    assert task.label_names == ["0", "1", "2"]
    assert task.rows["validation"]["label"][:] == [0, 2, 2]


def test_rows_held_out_stay_what_they_are_whatever_is_offered_to_them_later() -> None:
    rows = Dataset.from_list([{"text": f"text {row}", "label": ["neg", "pos"][row % 2]} for row in range(40)])
    task = load_task("sequence_classification", train=rows)
    task.offer_labels([["pos", "neu", "neg"]])
    split = hold_out(task, 42)
    before, names = split.rows, split.label_names
    assert {name: len(part) for name, part in before.items()} == {"train": 34, "validation": 6}
    split.offer_labels([["neg", "neu", "pos"]])
    split.offer_labels([["neg", "neu", "pos", "more"]])
    assert split.rows is before
    assert split.label_names == names == ["neg", "neu", "pos"]


def test_tags_that_the_data_lack_get_numbers_too(tmp_path: Path) -> None:
    task = words_of(tmp_path, [["O", "B-LOC"], ["O"]])
    task.offer_labels([["O", "B-PER", "I-PER", "B-LOC"]])
    assert task.label_names == ["O", "B-LOC", "B-PER", "I-PER"]
    assert task.rows["validation"]["tags"][:] == [[0, 1], [0]]


def test_a_single_tag_is_enough_if_the_model_knows_it(tmp_path: Path) -> None:
    task = words_of(tmp_path, [["O", "O"], ["O"]])
    task.offer_labels([["O", "B-PER"]])
    assert task.label_names == ["O", "B-PER"]
    assert task.has_entities


def test_labels_that_no_row_has_are_zeros_among_several(tmp_path: Path) -> None:
    task = task_of(tmp_path, "multi_label_classification", [["good"], ["bad", "good"], ["bad"]])
    task.offer_labels(OFFERED)
    assert task.label_names == ["bad", "good", "neutral"]
    assert task.rows["validation"]["label"][:] == [[0, 1, 0], [1, 1, 0], [1, 0, 0]]


def test_labels_without_a_column_of_their_own_are_zeros(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    with file.open("w", newline="") as written:
        csv.writer(written).writerows([["text", "good", "bad"], ["one", 1, 0], ["two", 1, 1]])
    task = load_task(
        TaskArguments(task="multi_label_classification", validation_file=str(file), label_column="good,bad")
    )
    task.offer_labels(OFFERED)
    assert task.label_names == ["bad", "good", "neutral"]
    assert task.rows["validation"]["label"][:] == [[0, 1, 0], [1, 1, 0]]


def test_official_classes_stay(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"sentence": "a", "label": 0}\n{"sentence": "b", "label": 1}')
    task = load_task(TaskArguments(task="sst2", validation_file=str(file)))
    task.offer_labels([["negative", "neutral", "positive"]])
    assert task.label_names == ["negative", "positive"]


def test_scores_have_no_classes(tmp_path: Path) -> None:
    task = task_of(tmp_path, "regression", [0.5, 2.0])
    task.offer_labels([["LABEL_0"], ["0"]])
    assert task.label_names is None
    assert task.rows["validation"]["label"][:] == [0.5, 2.0]


# --- blanks around names --------------------------------------------------------------------------------------

TEXT = {"text": Value("string")}
BLANK = ClassLabel(names=["joy", " calm", "fear "])
ONES = {"joy": 1, " calm": 0, "fear ": 1}
SHARES = {"p_joy": 0.5, "p_ calm": 0.5, "p_fear ": 0.0}
OF_TEXTS: dict[str, tuple[str, Any, dict[str, Any] | None, str | None]] = {
    "columns": ("multi_label_classification", ONES, None, "joy, calm,fear "),
    "columns without the blanks": ("multi_label_classification", ONES, None, "joy,calm, fear"),
    "blanks of the argument": ("multi_label_classification", {"joy": 1, "calm": 0, "fear": 1}, None, "joy, calm, fear"),
    "pattern": ("sequence_classification", SHARES, None, "p_*"),
    "declared": ("sequence_classification", {"label": 1}, {"label": BLANK}, None),
    "declared lists": ("multi_label_classification", {"label": [1]}, {"label": List(BLANK)}, None),
    "offered": ("sequence_classification", {"label": "calm"}, None, None),
}


def with_blanks(source: str) -> Task:
    """A task whose labels have blanks around their names in this source."""
    name, labels, features, column = OF_TEXTS[source]
    own = Features({**TEXT, **features}) if features else None
    task = load_task(
        TaskArguments(name, label_column=column), train=Dataset.from_list([{"text": "a", **labels}] * 2, features=own)
    )
    if source == "offered":
        task.offer_labels([["joy", " calm", "fear "]])
    return task


@pytest.mark.parametrize("source", OF_TEXTS)
def test_names_have_no_blanks_around_them_and_predictions_are_read_again(source: str, tmp_path: Path) -> None:
    task = with_blanks(source)
    assert sorted(task.label_names or ()) == ["calm", "fear", "joy"]
    predictions = np.eye(3, dtype=np.int64) if task.name.startswith("multi") else np.arange(3)
    rows = task.rows["train"]
    task.write_predictions(predictions, Split(rows, rows), tmp_path)
    assert task.read_predictions(tmp_path / "predictions.json").tolist() == predictions.tolist()


def test_tags_have_no_blanks_around_them_and_predictions_are_read_again(tmp_path: Path) -> None:
    features = Features({"tokens": List(Value("string")), "tags": List(ClassLabel(names=["O", " B-x"]))})
    task = load_task("token_classification", train=Dataset.from_list([{"tokens": ["a"], "tags": [1]}], features))
    assert task.label_names == ["O", "B-x"]
    rows = task.rows["train"]
    task.write_predictions([["B-x"]], Split(rows, rows), tmp_path)
    assert task.read_predictions(tmp_path / "predictions.json") == [["B-x"]]


@pytest.mark.parametrize(
    ("labels", "column", "name"),
    [({"a": 1, " a": 0}, "a, a", "multi_label_classification"), ({"p_a": 1, "p_a ": 0}, "p_*", None)],
)
def test_names_that_differ_only_by_blanks_are_refused(labels: dict[str, int], column: str, name: str | None) -> None:
    arguments = TaskArguments(name or "sequence_classification", label_column=column)
    with pytest.raises(InputError, match="expected different names of classes, got 'a' twice; rename or remove one"):
        _ = load_task(arguments, train=Dataset.from_list([{"text": "a", **labels}] * 2)).rows


def test_a_models_names_have_no_blanks_around_them() -> None:
    rows = Dataset.from_list([{"text": "a", "label": label} for label in ("calm", "joy")])
    task = load_task("sequence_classification", train=rows)
    config = BertConfig(id2label={0: "joy ", 1: " calm"}, label2id={"joy ": 0, " calm": 1})
    assert label_order(config, task, "the model") == [1, 0]


@pytest.mark.parametrize("labels", [[0, 1, 1], ["0", "1", "0"], ["011", "100", "000"]])
def test_zeros_and_ones_are_no_names_of_labels(labels: list[Any], tmp_path: Path) -> None:
    """A column that says whether a row has a label would be taken for two labels, `0` and `1`."""
    with pytest.raises(InputError, match=r"if these are zeros and ones, give each label its own column"):
        _ = task_of(tmp_path, "multi_label_classification", labels).rows
