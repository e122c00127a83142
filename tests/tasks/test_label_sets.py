"""Names of labels: matched exactly or by case where that is certain, and completed by those of a model."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from ted_distill import InputError, Task, TaskArguments, load_task
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
