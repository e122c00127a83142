"""What a column holds, and which column is the text, the second text and the label; what is unclear is asked."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from ted_distill import InputError, TaskArguments
from ted_distill.runs.drafting.columns import (
    ANSWERS,
    CLASSES,
    LISTS,
    NUMBERS,
    OTHER,
    TEXT,
    WHOLE,
    look_at_columns,
)
from ted_distill.runs.drafting.roles import answer_columns, label_columns, tag_columns, text_columns

ROWS = range(60)
WORDS = ["the", "film", "was", "not", "good", "but", "the", "meal", "was", "fine", "and", "the", "song", "was", "dull"]


def text(row: int, words: int = 8) -> str:
    draw = random.Random(row)
    return " ".join(draw.choice(WORDS) for _ in range(words)) + f" {row}"


def rows(**columns: Any) -> Dataset:
    """A column for each name: a list, or a function of the row's number."""
    return Dataset.from_dict({name: [of(row) for row in ROWS] if callable(of) else of for name, of in columns.items()})


def few(*names: str) -> Any:
    return lambda row: names[row * 7 % len(names)]


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (text, TEXT),
        (few("billing", "account", "returns"), CLASSES),
        (lambda row: f"class {row % 5}", CLASSES),
        (lambda row: row % 5, WHOLE),
        (lambda row: float(row % 5), WHOLE),
        (lambda row: row / 7, NUMBERS),
        (lambda row: bool(row % 2), CLASSES),
        (lambda row: ["a", "b"][: row % 3], LISTS),
        (lambda row: str(["a", "b"][: row % 3]), LISTS),
        (few("(1, 2)", "{3}", "(2,)"), LISTS),
        (few("(joy)", "(anger)"), CLASSES),
        (lambda row: Decimal(row % 5), WHOLE),
        (lambda row: Decimal(row) / 8, NUMBERS),
        (lambda row: {"text": ["a"], "answer_start": [row]}, ANSWERS),
        (lambda row: f'{{"text": ["a"], "answer_start": [{row}]}}', ANSWERS),
        (lambda row: row, OTHER),
        (lambda row: f"2024-01-{row % 28 + 1:02d}T10:00", OTHER),
        (lambda row: f"https://example.org/{row}", OTHER),
        (lambda row: f"TCK-{row:05d}", OTHER),
        (lambda row: f"user{row}@example.org", OTHER),
        (lambda row: [{"a": 1}], OTHER),
        (lambda row: None, OTHER),
    ],
)
def test_what_a_column_holds(column: Any, kind: str) -> None:
    assert look_at_columns(rows(thing=column))["thing"].kind == kind


def test_a_column_named_as_an_identifier_is_no_label_and_a_declared_class_label_is_one() -> None:
    assert look_at_columns(rows(user_id=lambda row: row % 7))["user_id"].kind == OTHER
    features = Features({"kind": ClassLabel(names=["x", "y"]), "text": Value("string")})
    data = Dataset.from_dict({"kind": [0] * 5, "text": ["a b"] * 5}, features=features)
    assert (look_at_columns(data)["kind"].kind, look_at_columns(data)["kind"].distinct) == (CLASSES, 2)


def test_three_rows_are_enough_to_tell_texts_from_classes() -> None:
    data = Dataset.from_dict({"ticket": ["my lamp is broken", "I was charged twice", "where is it now"],
                              "category": ["tech", "billing", "tech"]})  # fmt: skip
    assert [column.kind for column in look_at_columns(data).values()] == [TEXT, CLASSES]


# --- texts and labels -----------------------------------------------------------------------------------------------


def sequence(data: Dataset, **given: str) -> dict[str, str]:
    """The columns of a text and its label, as a draft looks for them."""
    columns, arguments = look_at_columns(data), TaskArguments(**given)
    labels = label_columns(columns, arguments)
    assert labels is not None
    return {**text_columns(columns, arguments, labels.columns["label_column"]).columns, **labels.columns}


LABEL = few("a", "b")


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"ticket": text, "category": LABEL}, ("ticket", None, "category")),
        ({"ticket": text, "zzz": LABEL}, ("ticket", None, "zzz")),
        ({"id": lambda row: row, "xyz": text, "mood": LABEL}, ("xyz", None, "mood")),
        ({"Text": text, "Label": LABEL}, ("Text", None, "Label")),
        ({"text": text, "label": LABEL, "source": few("web", "mail")}, ("text", None, "label")),
        ({"ticket": text, "category": LABEL, "agent": few("Ada", "Bo")}, ("ticket", None, "category")),
        ({"sentence1": text, "sentence2": lambda row: text(row, 5), "score": lambda row: row / 9},
         ("sentence1", "sentence2", "score")),
        ({"title": lambda row: text(row, 3), "review": text, "stars": lambda row: row % 5}, ("review", None, "stars")),
        ({"comment": text, **{name: lambda row: row % 2 for name in ("rude", "loud", "long")}},
         ("comment", None, "rude,loud,long")),
        ({"text": text, "score": lambda row: row / 9, "source": few("web", "mail")}, ("text", None, "score")),
        ({"text": text, "label": LABEL, "sentiment": few("x", "y")}, ("text", None, "label")),
        ({"text": text, "probs_a": lambda row: 0.25, "probs_b": lambda row: 0.75}, ("text", None, "probs_*")),
    ],
)  # fmt: skip
def test_columns_are_found_where_only_one_is_possible(columns: Any, found: tuple[str | None, ...]) -> None:
    names = dict(zip(("text_column", "text_pair_column", "label_column"), found, strict=True))
    assert sequence(rows(**columns)) == {key: name for key, name in names.items() if name}


@pytest.mark.parametrize(
    ("columns", "question"),
    [
        ({"left": text, "right": lambda row: text(row + 99), "label": LABEL},
         "text_column: expected one column of texts, got left, right; give text_column=left or right; for pairs of "
         "texts also text_pair_column=THE OTHER"),
        ({"text": text, "foo": LABEL, "bar": few("x", "y")},
         "label_column: expected one column of labels, got foo, bar; give label_column=foo or bar"),
        ({"text": text, "foo": lambda row: row % 2, "bar": lambda row: row // 2 % 2},
         "label_column: expected one column of labels, got foo, bar; give label_column=foo or bar; for several labels "
         "a row foo,bar"),
        ({"text": text, "score": lambda row: row / 9, "sentiment": few("x", "y")},
         "label_column: expected one column of labels, got score, sentiment; give label_column=score or sentiment"),
        ({"label": LABEL}, "text_column: expected a column of texts, got none (columns: label); give text_column=NAME"),
    ],
)  # fmt: skip
def test_what_is_unclear_is_asked_in_one_line_with_the_candidates(columns: Any, question: str) -> None:
    with pytest.raises(InputError) as error:
        sequence(rows(**columns))
    assert error.value.problems == [question]


@pytest.mark.parametrize("name", ["Body", "text"])
def test_a_subject_that_is_left_out_is_named_with_the_way_to_add_it(name: str) -> None:
    columns = look_at_columns(rows(**{"Subject": few("late parcel again", "invoice of may"), name: text}, label=LABEL))
    (why,) = text_columns(columns, TaskArguments(), "label").why.values()
    assert why.endswith("; text_pair_column=Subject would add the words of 'Subject'")
    (why,) = text_columns(columns, TaskArguments(text_pair_column="Subject"), "label").why.values()
    assert "would add" not in why


def test_what_is_given_is_not_guessed() -> None:
    data = rows(left=text, right=lambda row: text(row + 99), foo=LABEL, bar=LABEL)
    given = {"text_column": "right", "text_pair_column": "left", "label_column": "bar"}
    assert sequence(data, **given) == given


# --- answers and tags -----------------------------------------------------------------------------------------------


def test_questions_contexts_and_answers_are_found_under_any_name() -> None:
    answer = {"text": ["film"], "answer_start": [4]}
    data = rows(
        frage=lambda row: f"what was good {row} ?", absatz=lambda row: text(row, 30), antwort=lambda row: answer
    )
    found = answer_columns(look_at_columns(data), TaskArguments())
    assert found is not None
    assert found.columns == {"text_column": "frage", "text_pair_column": "absatz", "label_column": "antwort"}
    third = data.add_column("title", [text(row + 99, 5) for row in ROWS])
    with pytest.raises(
        InputError, match="got frage, absatz, title; give text_column=QUESTIONS and text_pair_column=CON"
    ):
        answer_columns(look_at_columns(third), TaskArguments())


def test_words_and_tags_are_lists_of_the_same_lengths() -> None:
    data = rows(words=lambda row: ["Ada"] * (2 + row % 3), roles=lambda row: ["O"] * (2 + row % 3), text=text)
    found = tag_columns(look_at_columns(data), TaskArguments())
    assert found is not None
    assert found.columns == {"text_column": "words", "label_column": "roles"}
    assert tag_columns(look_at_columns(rows(text=text, topics=lambda row: ["a"] * (row % 3))), TaskArguments()) is None
    two = data.add_column("parts", [["N"] * (2 + row % 3) for row in ROWS])
    with pytest.raises(InputError, match="label_column=roles or parts"):
        tag_columns(look_at_columns(two), TaskArguments())
