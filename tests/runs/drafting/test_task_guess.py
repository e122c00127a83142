"""Which task a file and a teacher are for, by the labels and the teacher's head."""

from __future__ import annotations

from typing import Any

import pytest
from datasets import Dataset
from transformers import BertConfig, GPT2Config

from ted_distill import InputError, TaskArguments
from ted_distill.runs.drafting.columns import look_at_columns
from ted_distill.runs.drafting.source import looks_tagged
from ted_distill.runs.drafting.task_guess import Guess, guess_task
from ted_distill.runs.drafting.teacher_facts import TeacherFacts
from tiny import tiny_tokenizer

ROWS = range(100)


def teacher(architecture: str = "BertModel", **config: Any) -> TeacherFacts:
    kind = GPT2Config if architecture.startswith("GPT2") else BertConfig
    return TeacherFacts("big", kind(architectures=[architecture], **config), tiny_tokenizer())


def guess(
    label: Any, owner: TeacherFacts | None = None, name: str = "label", is_text: bool = False, **given: str
) -> Guess:
    columns: dict[str, Any] = {"text": [f"the film number {row} was good" for row in ROWS]}
    if label is not None:
        columns[name] = [label(row) for row in ROWS]
    data = Dataset.from_dict(columns)
    return guess_task(data, look_at_columns(data), TaskArguments(**given), owner or teacher(), is_text=is_text)


@pytest.mark.parametrize(
    ("label", "task"),
    [
        (lambda row: "ab"[row % 2], "sequence_classification"),
        (lambda row: row % 5, "sequence_classification"),
        (lambda row: bool(row % 2), "sequence_classification"),
        (lambda row: row / 7, "regression"),
        (lambda row: row * 7 % 60, "regression"),
        (lambda row: ["x", "y"][: row % 3], "multi_label_classification"),
        (lambda row: str(["x", "y"][: row % 3]), "multi_label_classification"),
        (lambda row: ["x", "y", "x|y"][row % 3], "multi_label_classification"),
        (lambda row: ["x", "y", "x, y", "y, z", "z", "x, z", "x, y, z"][row % 7], "multi_label_classification"),
        (lambda row: ["Health, Beauty", "Sports, Outdoors"][row % 2], "sequence_classification"),
    ],
)
def test_the_labels_say_which_task_it_is(label: Any, task: str) -> None:
    found = guess(label, name="mark" if task == "regression" else "label")
    assert found.task == task
    assert "as given" not in found.why


def test_whole_numbers_are_classes_or_scores_by_their_number_their_name_and_the_teacher() -> None:
    twenty = lambda row: row % 20  # noqa: E731
    with pytest.raises(
        InputError, match="20 different whole numbers in column 'mark'; give task=sequence_classification"
    ):
        guess(twenty, name="mark")
    assert guess(twenty, name="label").task == "sequence_classification"
    assert guess(twenty, name="score").task == "regression"
    classifier = teacher("BertForSequenceClassification", num_labels=20)
    assert guess(twenty, classifier, name="mark").task == "sequence_classification"
    regressor = teacher("BertForSequenceClassification", num_labels=1)
    assert guess(lambda row: row % 5, regressor).task == "regression"
    assert guess(twenty, name="mark", task="regression").why == "as given"


def test_text_alone_is_for_a_language_model() -> None:
    assert guess(None, teacher("GPT2LMHeadModel")).task == "causal_lm"
    assert guess(None, teacher("BertForMaskedLM")).task == "masked_lm"
    assert guess(None, teacher("BertModel"), is_text=True).task == "masked_lm"
    for owner in (teacher("BertModel"), teacher("BertForSequenceClassification")):
        with pytest.raises(InputError, match=r"not a language model .*give label_column=NAME, or for text alone"):
            guess(None, owner)
    with pytest.raises(InputError, match="expected a column with labels for task regression, got columns text"):
        guess(None, task="regression")


def test_a_label_column_with_one_class_is_left_to_the_reader_to_refuse() -> None:
    assert guess(lambda row: "a").task == "sequence_classification"


def test_lines_of_words_and_tags_are_known_by_their_form() -> None:
    assert looks_tagged(["Ada B-PER\n", "sang O\n", "\n", "# a comment\n", "Bo B-PER\n"])
    assert not looks_tagged(["the film was good\n", "It is O\n", "so it was\n"])
    assert not looks_tagged(["\n"])
