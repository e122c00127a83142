"""Which task a file and a teacher are for, by the labels and the teacher's head."""

from __future__ import annotations

from typing import Any

import pytest
from datasets import Dataset
from transformers import BertConfig, GPT2Config

from ted_distill import InputError, TaskArguments
from ted_distill.runs.drafting.columns import look_at_columns
from ted_distill.runs.drafting.source import looks_tagged, looks_tagged_table
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


# --- tables that are not read past ----------------------------------------------------------------------------------

WORDS = "the film about a dog and that bird in this city was very good but long indeed".split()  # noqa: SIM905


def text(row: int, start: int = 0) -> str:
    return " ".join(WORDS[(row * 7 + start + place) % len(WORDS)] for place in range(8)) + f" {row}"


def guess_of(owner: TeacherFacts | None = None, rows: int = 400, **columns: Any) -> Guess:
    data = Dataset.from_dict({name: [value(row) for row in range(rows)] for name, value in columns.items()})
    return guess_task(data, look_at_columns(data), TaskArguments(), owner or teacher("BertForMaskedLM"))


PRODUCTS = [f"{kind} of a rather long name, such as people give to a product" for kind in ("card", "loan", "bank")]


@pytest.mark.parametrize(
    ("columns", "task", "label"),
    [
        ({"text": text, "label_id": lambda row: row % 5}, "sequence_classification", "label_id"),
        ({"text": text, "intent_id": lambda row: f"intent{row % 5}"}, "sequence_classification", "intent_id"),
        (
            {"text": text, "intent": lambda row: "ab"[row % 2], "intent_id": lambda row: row % 2},
            "sequence_classification",
            "intent",
        ),
        ({"text": text, "product": lambda row: PRODUCTS[row % 3]}, "sequence_classification", "product"),
        ({"text": text, "score": lambda row: f"{row % 97 / 20:.2f}"}, "regression", "score"),
        ({"text": text, "label": lambda row: "12"[row % 2]}, "sequence_classification", "label"),
        (
            {"text": text, "labels": lambda row: ["joy", "calm"], "label_ids": lambda row: [3, 7]},
            "multi_label_classification",
            "labels",
        ),
    ],
)
def test_labels_are_found_whatever_they_look_like(columns: dict[str, Any], task: str, label: str) -> None:
    found = guess_of(**columns)
    assert (found.task, found.found.columns["label_column"]) == (task, label)


def test_thousands_of_classes_are_classes_where_the_name_says_so() -> None:
    found = guess_of(rows=6000, text=text, category=lambda row: f"part {row % 1200}")
    assert (found.task, found.found.columns["label_column"]) == ("sequence_classification", "category")


@pytest.mark.parametrize("name", ["plot", "notes"])
def test_a_table_with_more_than_text_is_not_taken_for_text_alone(name: str) -> None:
    with pytest.raises(InputError, match=r"label_column: expected a column that is surely a label, .*task=masked_lm"):
        guess_of(text=text, **{name: lambda row: f"{text(row, 3)} {text(row, 5)} and {row * row}"})


@pytest.mark.parametrize("task", [None, "token_classification"])
@pytest.mark.parametrize("filled", [True, False])
@pytest.mark.parametrize("tags", ["B-per O O O O", "b-per o o o o", "PER-B 0 0 0 0"])
def test_a_word_a_row_with_its_tag_is_not_taken_for_texts_with_classes(
    task: str | None, filled: bool, tags: str
) -> None:
    words = "Ada wrote the book .".split()  # noqa: SIM905
    data = Dataset.from_dict({
        "Sentence #": [f"Sentence: {row // 5}" if filled or row % 5 == 0 else "" for row in range(400)],
        "Word": [f"{words[row % 5]}{row % 35 if row % 5 == 0 else ''}" for row in range(400)],
        "POS": ["NN" if row % 2 else "VB" for row in range(400)],
        "Tag": [tags.split()[row % 5] for row in range(400)],
    })  # fmt: skip
    with pytest.raises(InputError, match=r"got a word a row in column 'Word' and its tag in 'Tag'; .*\['Sentence #'\]"):
        guess_task(data, look_at_columns(data), TaskArguments(task), teacher())


def test_classes_that_look_a_little_like_tags_are_classes_of_texts() -> None:
    found = guess_of(text=text, code=lambda row: f"row{row}", label=lambda row: f"S-{row % 3}")
    assert (found.task, found.found.columns["text_column"]) == ("sequence_classification", "text")


@pytest.mark.parametrize("kind", [bool, str, lambda value: str(value).lower()])
def test_columns_of_truth_values_are_a_set_of_labels(kind: Any) -> None:
    found = guess_of(
        text=text,
        toxic=lambda row: kind(row % 2 == 0),
        rude=lambda row: kind(row % 3 == 0),
        threat=lambda row: kind(row % 5 == 0),
    )
    assert (found.task, found.found.columns["label_column"]) == ("multi_label_classification", "toxic,rude,threat")


def test_whole_numbers_with_blanks_between_them_are_several_labels() -> None:
    found = guess(lambda row: ["16", "0", "16 0", "7"][row % 4])
    assert found.task == "multi_label_classification"
    assert "several labels in one field, with blanks between them" in found.why


def test_dates_in_words_are_neither_labels_nor_texts() -> None:
    columns = look_at_columns(Dataset.from_dict({"when": [f"May {1 + row % 28}, 2020" for row in range(400)]}))
    assert columns["when"].kind == "other values"
    assert guess_of(text=text, when=lambda row: f"{1 + row % 28} March 2020").task == "masked_lm"


@pytest.mark.parametrize(
    "columns",
    [
        {
            "question": text,
            "title": lambda row: f"the title of {text(row, 2)}",
            "passage": lambda row: 9 * text(row, 4),
        },
        {"query": text, "product_title": lambda row: f"a {text(row, 2)}"},
    ],
)
def test_the_first_of_two_texts_is_not_read_without_the_other(columns: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="text_pair_column: expected the text that belongs to") as error:
        guess_of(**columns, label=lambda row: row % 2)
    assert f"text_column={next(iter(columns))} alone" in str(error.value)


def test_a_language_model_is_not_made_a_regressor_without_a_question() -> None:
    def score(row: int) -> float:
        return row % 97 / 97

    with pytest.raises(InputError, match="give task=causal_lm for the text alone, or label_column=language_score"):
        guess_of(teacher("GPT2LMHeadModel"), text=text, language_score=score)
    assert guess_of(teacher("GPT2LMHeadModel"), text=text, score=score).task == "regression"


def test_answers_are_found_beside_plausible_ones() -> None:
    def answers(row: int) -> dict[str, Any]:
        return {"text": [f"film {row}"], "answer_start": [0]}

    columns = {"question": text, "context": lambda row: 3 * text(row), "is_impossible": lambda row: bool(row % 2)}
    found = guess_of(**columns, answers=answers, plausible_answers=answers)
    assert found.task == "question_answering"


@pytest.mark.parametrize(
    ("lines", "tagged"),
    [
        (["Ann U-PER", "went O", "to O", "New B-LOC", "York L-LOC", ""] * 30, True),
        (["the DT", "dog NN", "ran VBD", ""] * 30, True),
        (["it was", "a dark", "and stormy", "night in", ""] * 30, False),
        ([f"a word{number}" for number in range(90)], False),
        ([text(row) for row in range(90)], False),
    ],
)
def test_words_with_tags_are_told_from_text(lines: list[str], tagged: bool) -> None:
    assert looks_tagged(lines) is tagged


@pytest.mark.parametrize(
    ("lines", "tagged"),
    [
        (["Ann\tU-PER", "went\tO", "to\tO", "New York\tB-LOC", ""] * 30, True),
        (["-DOCSTART-", "", "# a comment", *["the\tDT", "dog\tNN", "ran\tVBD", ""] * 30], True),
        (["Ann\tU-PER", "went\tO"] * 30, False),
        (["text\tlabel", *["the film was good\tgood", "a bad one\tbad"] * 30], False),
        (["text\tlabel", *["the film was good\tgood", "a bad one\tbad", ""] * 30], False),
        (["Ann U-PER", "went O", ""] * 30, False),
    ],
)
def test_words_with_tags_are_told_from_tables_with_tabs(lines: list[str], tagged: bool) -> None:
    assert looks_tagged_table(lines) is tagged
