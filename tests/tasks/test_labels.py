"""Labels: lists of them in one field, what is no label, names that look alike, and what is said of all of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ted_distill.errors import InputError
from ted_distill.tasks import Task, TaskArguments, load_task
from ted_distill.tasks.reading.columns import label_columns, with_labels
from ted_distill.tasks.reading.file_options import FileOptions
from ted_distill.tasks.reading.label_lists import parsed_list
from ted_distill.tasks.reading.labels import label_name, of_each, sorted_names
from ted_distill.tasks.regression import Regression

pytestmark = pytest.mark.usefixtures("own_cache")
Make = Callable[..., Task]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Labels -> the task of texts with these labels."""

    def make(
        task: str, labels: list[Any], validation: list[Any] | None = None, kind: str = "jsonl", **more: Any
    ) -> Task:
        def write(name: str, labels: list[Any]) -> str:
            file = tmp_path / f"{name}.{kind}"
            records = [{"text": f"text {number} of {name}", "label": label} for number, label in enumerate(labels)]
            if kind == "jsonl":
                file.write_text("\n".join(json.dumps(record) for record in records))
            else:
                file.write_text("text\tlabel\n" + "\n".join(f"{row['text']}\t{row['label']}" for row in records))
            return str(file)

        files = {"train_file": write("train", labels)}
        if validation is not None:
            files["validation_file"] = write("validation", validation)
        return load_task(TaskArguments(task, **files, **more))

    return make


def problem(task: Task) -> str:
    with pytest.raises(InputError) as caught:
        _ = task.rows
    [found] = caught.value.problems
    assert found.isprintable()
    assert len(found) < 700
    return found


def sets(task: Task, split: str = "train") -> list[set[str]]:
    rows, names = task.rows[split]["label"], task.label_names or []
    return [{name for name, has in zip(names, row, strict=True) if has} for row in rows]


# --- several labels in one field ------------------------------------------------------------------------------

MOODS = [{"joy", "calm"}, {"anger"}, set(), {"joy"}]
FIELDS = {
    "json": ['["joy", "calm"]', '["anger"]', "[]", '["joy"]'],
    "python": ["['joy', 'calm']", "['anger']", "[]", "['joy']"],
    "python tuples and sets": ["('joy', 'calm')", "{'anger'}", "()", "('joy',)"],
    "numpy": ["['joy' 'calm']", "['anger']", "[]", "['joy']"],
    "numpy in words": ["array(['joy', 'calm'], dtype=object)", "array(['anger'])", "array([])", "[np.str_('joy')]"],
    "without quotes": ["[joy, calm]", "[anger]", "[]", "[joy]"],
    "bars": ["joy|calm", "anger", "", "joy"],
    "semicolons": ["joy; calm", "anger", "", "joy;"],
    "commas": ["joy,calm", "anger", "", "joy"],
}


@pytest.mark.parametrize("fields", FIELDS)
def test_lists_of_labels_in_fields_of_text_are_lists(make: Make, fields: str) -> None:
    task = make("multi_label_classification", FIELDS[fields], kind="tsv")
    assert sets(task) == MOODS
    assert task.label_names == ["anger", "calm", "joy"]


@pytest.mark.parametrize("fields", [["[0, 2]", "[1]"], ["[0 2]", "[1]"], ["[ 0\t2]", "[1]"], ["0 / 2", "1"]])
def test_lists_of_numbers_are_class_numbers(make: Make, fields: list[str]) -> None:
    task = make("multi_label_classification", fields, label_separator="/" if "/" in fields[0] else None)
    assert sets(task) == [{"0", "2"}, {"1"}]


def test_whole_numbers_with_blanks_between_them_are_several_labels(make: Make) -> None:
    task = make("multi_label_classification", ["16 0", "0", "16  7"], ["7"])
    assert sets(task) == [{"16", "0"}, {"0"}, {"16", "7"}]
    assert sets(task, "validation") == [{"7"}]
    assert "if these are zeros and ones" in problem(make("multi_label_classification", ["0 1 1", "1 0 0"]))


@pytest.mark.parametrize(
    ("fields", "joined", "parts"),
    [
        (["joy, calm", "calm; anger", "joy"], "joy, calm", "'joy' and 'calm'"),
        (["a/b", "a", "b"], "a/b", "'a' and 'b'"),
        (["joy calm", "joy", "calm"], "joy calm", "'joy' and 'calm'"),
    ],
)
def test_a_label_that_is_made_of_others_is_said(
    make: Make, caplog: pytest.LogCaptureFixture, fields: list[str], joined: str, parts: str
) -> None:
    assert joined in (make("multi_label_classification", fields).label_names or [])
    assert f"the class '{joined}' looks like the labels {parts} of one row" in caplog.text
    assert "name what is between labels with --label_separator" in caplog.text


def test_numbers_with_blanks_between_them_are_said_to_be_several_labels_where_one_is_read(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    _ = make("sequence_classification", ["16 3", "7"]).rows
    assert "the class '16 3' looks like the labels '16' and '3' of one row" in caplog.text


@pytest.mark.parametrize("separator", [" ", "/", "tab", " and ", "|"])
def test_what_is_between_labels_may_be_named(make: Make, separator: str) -> None:
    between = {"tab": "\t"}.get(separator, separator)
    task = make("multi_label_classification", [f"a;1{between}b", "[c]"], label_separator=separator)
    assert sets(task) == [{"a;1", "b"}, {"[c]"}]


def test_every_split_has_the_separator_of_the_first(make: Make) -> None:
    task = make("multi_label_classification", ["Rome, Italy|Oslo", "Oslo"], ["Rome, Italy"])
    assert sets(task, "validation") == [{"Rome, Italy"}]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["a|b", "a;c"], "expected one separator between labels in column 'label', got | and ;"),
        (["['a', 'b']", "a, b"], "expected lists of labels in column 'label', such as"),
        (["['a', 'b'", "['a']"], "got \"['a', 'b'\" in 1 row (1; counted from 1)"),
        (["[0 1 ... 8 9]", "[1]"], "got '[0 1 ... 8 9]' in 1 row (1;"),
        (["[[0], [1]]", "[1]"], "expected lists of label names or whole numbers"),
        (["[0.5]", "[1]"], "expected lists of label names or whole numbers"),
        (["[True, False]", "[True, True]"], "expected lists of label names or whole numbers"),
        (["[0, 1]", "[1, 0]"], "if these are zeros and ones, give each label its own column"),
        ([["a", None], ["b"]], "expected lists of label names or whole numbers"),
        ([["a", ["b"]], ["b"]], "row 1: expected text, numbers of up to 64 bits or lists of one kind"),
        ([[1, -100], [2], [3]], "expected a label in every row, got none in 1 row (1; counted from 1)"),
        ([["a"], None, ["b"]], "expected a label in every row, got none in 1 row (2; counted from 1)"),
    ],
)
def test_lists_that_are_none_are_refused(make: Make, labels: list[Any], said: str) -> None:
    assert said in problem(make("multi_label_classification", labels))


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("[]", []),
        ("['it\\'s', \"a\\\\b\"]", ["it's", "a\\b"]),
        ("['\\u00e9', '\\x41', 'a\\n', '\\U0010ffff']", ["é", "A", "a\n", "\U0010ffff"]),
        ("[1, 2.0, -3, nan, None, True]", [1, 2.0, -3, None, None, True]),
        ("[1. 2.]", [1.0, 2.0]),
        ("['a', 'b',]", ["a", "b"]),
        ("['a' 'b', 'c']", None),
        ("[very calm]", None),
        ("['a", None),
        ("a, b", None),
        ("[", None),
        ('{"a": 1}', None),
        ("[" * 100_000, None),
        ("[" * 100_000 + "]" * 100_000, None),
    ],
)
def test_a_list_is_what_json_python_and_numpy_write(text: str, items: list[Any] | None) -> None:
    assert parsed_list(text) == items


def test_what_python_and_numpy_write_is_read_back() -> None:
    random = np.random.default_rng(0)
    for _ in range(300):
        items = ["".join(random.choice(list("ab '\"\\,[]é\n"), 3)) for _ in range(random.integers(1, 5))]
        for written in (json.dumps(items), str(items), str(np.array(items, dtype=object)), str(tuple(items))):
            assert parsed_list(written) == items, written


@pytest.mark.parametrize("label", ["['a', 'b']", "[0 2]", "[]", '["a"]'])
def test_one_class_a_row_cannot_be_a_list(make: Make, label: str) -> None:
    said = problem(make("sequence_classification", ["a", label, "b"]))
    assert "in 1 row (2; counted from 1); for lists of labels use --task multi_label_classification" in said


def test_a_class_may_be_a_word_in_brackets(make: Make) -> None:
    assert make("sequence_classification", ["[NEWS]", "[SPORT]"]).label_names == ["[NEWS]", "[SPORT]"]


# --- what is no label -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels", [[1, 0, -100], [1.0, 0.0, -100.0], ["a", "b", "-100"], [1, 0, None], ["1", "0", "NaN"]]
)
def test_minus_100_and_nan_are_no_labels(make: Make, labels: list[Any]) -> None:
    said = problem(make("sequence_classification", labels))
    assert "expected a label in every row, got none in 1 row (3; counted from 1)" in said
    assert "-100 is no label" in said


def test_nan_beside_words_is_a_class_such_as_the_code_of_a_language(make: Make) -> None:
    assert make("sequence_classification", ["deu", "nan", "eng"]).label_names == ["deu", "eng", "nan"]


@pytest.mark.parametrize("scores", [[2, 2, 2], [0.5, 0.5], ["4.0", "4.0"]])
def test_scores_that_are_all_the_same_teach_nothing_and_are_refused(make: Make, scores: list[Any]) -> None:
    said = problem(make("regression", scores))
    assert f"train: expected scores that differ, got {float(scores[0]):g} in each of the {len(scores)} rows" in said


def test_minus_100_in_a_column_of_zeros_and_ones_is_no_label(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text,a,b\none,1,0\ntwo,0,-100\n")
    arguments = TaskArguments("multi_label_classification", train_file=str(tmp_path / "x.csv"), label_column="a,b")
    assert "got none in 1 row (2; counted from 1)" in problem(load_task(arguments))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("joy,fear, dread,rage", ["joy", "fear, dread", "rage"]),
        ("fear, dread,joy", ["fear, dread", "joy"]),
        (" joy , rage ", ["joy", "rage"]),
        ("joy,fear", ["joy", "fear"]),
    ],
)
def test_a_column_of_several_may_have_a_comma_in_its_name(names: str, expected: list[str]) -> None:
    available = ["text", "joy", "fear, dread", "rage"]
    assert label_columns(names, available) == expected
    options = FileOptions(read=(names,))
    assert [name for name in available if options.may_read(name)] == [name for name in available if name in expected]


def test_thousands_of_label_columns_are_found_one_by_one() -> None:
    names = [f"label {number}" for number in range(5000)]
    assert label_columns(",".join(names), ["text", *names]) == names


def test_minus_100_is_a_score_like_any_other(make: Make) -> None:
    task = make("regression", [-100, 20.5])
    assert task.rows["train"]["label"][:] == [-100.0, 20.5]
    batch = {"labels": torch.tensor([-100.0, 20.5]), "attention_mask": torch.ones(2, 3)}
    assert Regression(TaskArguments("regression")).counts(batch).labels == 2


@pytest.mark.parametrize("labels", [[1, -1], ["1", "-1"], [1.0, -1.0], [-1, -1]])
def test_labels_of_1_and_minus_1_are_told_what_minus_1_means(make: Make, labels: list[Any]) -> None:
    said = problem(make("sequence_classification", labels * 2))
    assert "-1, which marks hidden labels, in" in said
    assert "if -1 is a class, name the classes in words" in said


@pytest.mark.parametrize("label", [float("inf"), -float("inf"), 0.5, "a\0b"])
def test_what_is_no_class_is_refused(make: Make, label: Any) -> None:
    others = ["a", "b"] if isinstance(label, str) else [1.0, 2.0]
    assert "expected class names or whole numbers in column 'label', got" in problem(
        make("sequence_classification", [*others, label])
    )


@pytest.mark.parametrize(
    "scores", [[True, False], ["true", "1"], ["1_0", "2"], ["1,5,0", "2"], [1e19, 1.0], [float("inf"), 1]]
)
def test_what_is_no_score_is_refused(make: Make, scores: list[Any]) -> None:
    assert "expected finite numbers in column 'label', at most 1e+18, got" in problem(make("regression", scores))


@pytest.mark.parametrize(
    ("number", "said"),
    [
        ("1,000", "write 1000 if the comma is for thousands, or 1.000 if it is the decimal point"),
        (" -12,345", "write -12345 if the comma is for thousands, or -12.345 if it is the decimal point"),
        ("1,50", "write 1.50"),
        ("0,125", "write 0.125"),
        ("1234,567", "write 1234.567"),
    ],
)
def test_a_comma_in_a_score_is_read_in_every_way_it_may_be_meant(make: Make, number: str, said: str) -> None:
    assert problem(make("regression", [number, "2"])).endswith(f"; {said}")


def test_a_label_as_long_as_a_book_is_cut_in_messages(make: Make) -> None:
    long = "x" * 200_000
    assert len(problem(make("regression", [long, "2"]))) < 300
    assert len(problem(make("sequence_classification", [long, long]))) < 300
    assert len(problem(make("sequence_classification", ["a", "b"], [long + "\n"]))) < 300


# --- what is said ---------------------------------------------------------------------------------------------


def said(task: Task, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        _ = task.rows
    return [record.getMessage() for record in caplog.records]


def test_the_classes_and_their_shares_are_said_once(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    labels = ["good", "good", "bad", "good"]
    assert said(make("sequence_classification", labels), caplog) == [
        "train: 4 rows, 2 classes: good 75.0 %, bad 25.0 %"
    ]
    assert said(make("sequence_classification", labels), caplog) == []


def test_the_same_words_about_other_files_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(f"text,label\n{name},x\n{name} too,y\n")
        task = load_task(TaskArguments("sequence_classification", train_file=str(tmp_path / name)))
        assert len(said(task, caplog)) == 1


def test_many_classes_are_counted(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    [line] = said(make("sequence_classification", [f"class {number}" for number in range(500)]), caplog)
    assert line.startswith("train: 500 rows, 500 classes: class 0 0.2 %, ")
    assert line.endswith(", 488 more")


def test_label_sets_scores_and_tags_are_said_too(make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    task = make("multi_label_classification", [["a", "b"], ["a"], [], ["a"]])
    assert said(task, caplog) == ["train: 4 rows, 2 labels: a 75.0 %, b 25.0 %; 25.0 % have none"]
    assert said(make("regression", [1, 2.5, 4]), caplog) == ["train: 3 rows, scores from 1 to 4, mean 2.5"]
    (tmp_path / "x.conll").write_text("Ada B-x\nwrote O\n\nBo B-x\nso O\n. O\n")
    task = load_task(TaskArguments("token_classification", validation_file=str(tmp_path / "x.conll")))
    assert said(task, caplog) == ["validation: 5 words, 2 classes: O 60.0 %, B-x 40.0 %"]


def test_only_the_main_process_says_anything(
    make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert said(make("sequence_classification", ["a", "b"], ["a"]), caplog) == []


def test_classes_that_differ_by_capitals_stay_two_with_a_word(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    task = make("sequence_classification", ["us", "US", "de"])
    assert "train: the classes 'US' and 'us' differ only by capital letters; they stay different classes" in said(
        task, caplog
    )
    assert task.label_names == ["US", "de", "us"]
    assert task.rows["train"]["label"][:] == [2, 0, 1]


def test_classes_that_differ_by_blanks_or_what_nobody_sees_stay_two_with_a_word(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    task = make("sequence_classification", ["New York", "new  york", "a", "a\u200b", "US", "us"])
    lines = said(task, caplog)
    alike = (
        "train: the classes 'New York' and 'new  york', 'a' and 'a\\u200b' differ only by capital letters, blanks or"
    )
    assert any(line.startswith(alike) for line in lines), lines
    assert "train: the classes 'US' and 'us' differ only by capital letters; they stay different classes" in lines
    assert len(task.label_names or ()) == 6


@pytest.mark.parametrize(("task", "of_row"), [("sequence_classification", False), ("multi_label_classification", True)])
def test_names_in_another_unicode_form_are_the_same(make: Make, tmp_path: Path, task: str, of_row: bool) -> None:
    composed, apart = "\u00e9t\u00e9", "e\u0301te\u0301"
    labels = [[name] if of_row else name for name in (composed, apart, "hiver")]
    made = make(task, labels, labels[1:])
    assert made.label_names == ["hiver", composed]
    (tmp_path / "p.json").write_text(json.dumps(labels[1:]))
    assert made.score(made.read_predictions(tmp_path / "p.json"), made.rows["validation"])[made.metric] == 100
    made = make(task, labels)
    made.offer_labels([["automne", "hiver", apart]])
    assert made.label_names == ["automne", "hiver", composed]


@pytest.mark.parametrize("field", ["(1, 2)", "{'joy', 'calm'}", "('joy', 'calm')"])
def test_several_labels_in_brackets_of_any_kind_are_no_class(make: Make, field: str) -> None:
    assert "expected one label per row in column 'label', got" in problem(
        make("sequence_classification", [field, "joy", "calm"])
    )


@pytest.mark.parametrize("field", ["(joy)", "{3}", "(a b, c d", ":-(", "(joy and calm)"])
def test_a_word_in_brackets_is_a_class(make: Make, field: str) -> None:
    assert field in (make("sequence_classification", [field, "joy", "calm"]).label_names or ())


def test_a_class_that_is_made_of_others_is_said(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("joy|calm", "calm; joy", "joy,calm"):
        lines = said(make("sequence_classification", [name, "joy", "calm"]), caplog)
        assert any(line.startswith(f"train: the class '{name}' looks like the labels ") for line in lines), lines
    lines = said(make("sequence_classification", ["Rome, Italy", "Rome", "joy"]), caplog)
    assert not any("looks like" in line for line in lines)


def test_numbers_that_are_written_in_two_ways_have_an_order() -> None:
    names = ["1", "01", "2", "02", "-1", "001"]
    assert {tuple(sorted_names(order)) for order in permutations(names)} == {("-1", "001", "01", "1", "02", "2")}


DECIMALS = {
    "sequence_classification": [1, 0, 1],
    "regression": [1.5, 0.25, 3],
    "multi_label_classification": [[0, 2], [1], [2]],
}


@pytest.mark.parametrize("task", DECIMALS)
def test_decimal_numbers_are_numbers(task: str, tmp_path: Path) -> None:
    labels = DECIMALS[task]
    kind: Any = pa.decimal128(30, 2)
    decimals = pa.array(labels).cast(pa.list_(kind) if isinstance(labels[0], list) else kind)
    read = []
    for name, column in (("plain", pa.array(labels)), ("decimal", decimals)):
        file = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({"text": ["a", "b", "c"], "label": column}), file)
        made = load_task(TaskArguments(task, train_file=str(file)))
        read.append((made.rows["train"]["label"][:], made.label_names))
    assert read[0] == read[1]


# --- rows that are trained on ---------------------------------------------------------------------------------


def overlaps(task: Task, caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in said(task, caplog) if "not trained on" in line]


def write(file: Path, records: list[dict[str, Any]] | str) -> str:
    file.write_text(records if isinstance(records, str) else "\n".join(map(json.dumps, records)))
    return str(file)


DATA: dict[str, tuple[Any, Any, str]] = {
    "sequence_classification": (
        [{"text": "a", "label": 0}, {"text": "b", "label": 1}],
        [{"text": " b", "label": 0}, {"text": "c", "label": 1}],
        "1 of 2 (50.0 %)",
    ),
    "rte": (
        [{"sentence1": "a", "sentence2": "b", "label": 0}, {"sentence1": "c", "sentence2": "d", "label": 1}],
        [{"sentence1": "a", "sentence2": "d", "label": 0}, {"sentence1": "c", "sentence2": "d", "label": 1}],
        "1 of 2 (50.0 %)",
    ),
    "regression": ([{"text": "a", "label": 1.5}], [{"text": "a", "label": 1.5}], "1 of 1 (100.0 %)"),
    "multi_label_classification": (
        [{"text": "a", "label": ["x"]}, {"text": "b", "label": ["y"]}],
        [{"text": "c", "label": ["x"]}, {"text": "a", "label": ["y"]}, {"text": "d", "label": []}],
        "1 of 3 (33.3 %)",
    ),
    "token_classification": (
        [{"tokens": ["a", "b"], "tags": ["O", "B-x"]}],
        [{"tokens": ["a", "b"], "tags": ["O", "O"]}, {"tokens": ["a"], "tags": ["O"]}],
        "1 of 2 (50.0 %)",
    ),
    "squad": (
        [{"context": "ada", "question": "q", "answers": {"text": ["ada"], "answer_start": [0]}}],
        [{"context": "ada", "question": q, "answers": {"text": ["a"], "answer_start": [0]}} for q in "qrs"],
        "1 of 3 (33.3 %)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DATA)
def test_rows_to_score_on_that_are_trained_on_are_counted(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train, validation, count = DATA[name]
    files = {
        "train_file": write(tmp_path / "a.jsonl", train),
        "validation_file": write(tmp_path / "b.jsonl", validation),
    }
    [line] = overlaps(load_task(TaskArguments(name, **files)), caplog)
    assert line.startswith(f"validation: expected rows that are not trained on, got {count} whose text is in")
    other = {**files, "validation_file": write(tmp_path / "c.jsonl", validation[1:])} if name == "squad" else None
    assert not other or not overlaps(load_task(TaskArguments(name, **other)), caplog)


@pytest.mark.parametrize("name", DATA)
def test_rows_to_score_on_that_are_trained_on_without_labels_are_counted(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train, scored, count = DATA[name]
    files = {
        "train_file": write(tmp_path / "a.jsonl", train),
        "unlabelled_file": write(tmp_path / "b.jsonl", train),
        "test_file": write(tmp_path / "c.jsonl", scored),
    }
    found = overlaps(load_task(TaskArguments(name, **files)), caplog)
    where = ("the training rows; scores", "the training rows without labels; scores")
    said = f"test: expected rows that are not trained on, got {count} whose text is in "
    assert [line.startswith(said + place) for line, place in zip(found, where, strict=True)] == [True, True]


@pytest.mark.parametrize("with_training", [True, False])
def test_test_rows_that_weights_are_chosen_by_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, with_training: bool
) -> None:
    def rows(*texts: str) -> list[dict[str, Any]]:
        return [{"text": text, "label": number % 2} for number, text in enumerate(texts)]

    train = {"train_file": write(tmp_path / "a.jsonl", rows("a", "b"))} if with_training else {}
    files = {
        **train,
        "validation_file": write(tmp_path / "b.jsonl", rows("c", "d", "e")),
        "test_file": write(tmp_path / "c.jsonl", rows("c", "e", "f", "g")),
    }
    task = load_task(TaskArguments("sequence_classification", **files))
    line = (
        "test: expected rows that no weights are chosen by, got 2 of 4 (50.0 %) whose text is in the validation rows; "
        "scores on them are too good"
    )
    assert line in said(task, caplog)
    assert list(task.overlaps()) == [line]


def test_of_running_text_only_long_lines_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = ["= A heading =\n", "\n", "A line with as many words as only a copy of it has.\n"]
    files = {"train_file": write(tmp_path / "a.txt", "".join(lines)), "validation_file": ""}
    for text, count in ((lines[:2], None), (lines, "1 of 1 (100.0 %)"), ([*lines, "Another " * 9], "1 of 2 (50.0 %)")):
        files["validation_file"] = write(tmp_path / "b.txt", "".join(text))
        found = overlaps(load_task(TaskArguments("causal_lm", **files)), caplog)
        assert [count in line for line in found] == ([True] if count else [])


def test_rows_are_compared_across_parts_of_the_training_rows(
    make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ted_distill.tasks.reading.overlap._ROWS", 2)
    task = make("sequence_classification", ["a", "b"] * 5, validation_size=4)
    assert overlaps(task, caplog) == []
    assert len(task.rows["validation"]) == 4


# --- the same for all rows that are the same ------------------------------------------------------------------------


def test_values_that_are_equal_but_of_another_kind_keep_their_own_names() -> None:
    found = [True, 1, 1.0, "1", 0.5, float("nan"), None, [1], [1]]
    assert of_each(label_name, found) == [label_name(value) for value in found]
    assert of_each(type, found) == [type(value) for value in found]


def test_a_function_is_called_once_for_values_that_are_the_same() -> None:
    asked: list[Any] = []

    def ask(value: Any) -> str:
        asked.append(value)
        return str(value)

    assert of_each(ask, ["a", "b", "a", ["a"], ["a"]]) == ["a", "b", "a", "['a']", "['a']"]
    assert asked == ["a", "b", ["a"], ["a"]]


def test_rows_with_other_labels_have_another_name_in_the_cache_of_datasets() -> None:
    rows = datasets.Dataset.from_dict({"text": ["a", "b"]})
    named = {
        with_labels(rows, labels, feature)._fingerprint
        for labels in ([0, 1], [1, 0], [0, None])
        for feature in (datasets.Value("int64"), datasets.ClassLabel(names=["no", "yes"]))
    }
    assert len(named) == 6
    assert with_labels(rows, [0, 1], datasets.Value("int64"))._fingerprint in named


def test_scores_with_a_decimal_comma_say_how_to_write_them(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps({"text": "a film", "label": score}) for score in ("1,39", "2,5")))
    task = load_task(TaskArguments("regression", train_file=str(file)))
    with pytest.raises(InputError, match=r"numbers with a decimal point in column 'label', got '1,39' .* write 1\.39"):
        _ = task.rows
