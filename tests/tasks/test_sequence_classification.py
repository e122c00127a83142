"""Classes, label sets and scores of texts: from rows to batches, losses, predictions and scores."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AlbertConfig,
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DistilBertConfig,
    GPT2Config,
    ModernBertConfig,
    PreTrainedTokenizerFast,
)

from ted_distill.errors import InputError
from ted_distill.tasks.base import Split
from ted_distill.tasks.multi_label_classification import MultiLabelClassification
from ted_distill.tasks.reading.columns import row_list
from ted_distill.tasks.regression import Regression
from ted_distill.tasks.sequence_classification import SequenceClassification
from ted_distill.tasks.task_arguments import TaskArguments

pytestmark = pytest.mark.usefixtures("own_cache")
Records = list[dict[str, Any]]
NO_SPLIT = Split(Dataset.from_dict({}), Dataset.from_dict({}))


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """Letters as words, token types as BERT has them."""
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *"abcdefgh"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


class Files:
    """Tasks over records that are written to a file first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def task(self, kind: type, train: Any = None, validation: Any = None, **arguments: Any) -> Any:
        for split, rows in (("train", train), ("validation", validation)):
            if rows is not None:
                arguments[f"{split}_file"] = str(self.folder / f"{split}.parquet")
                (rows if isinstance(rows, Dataset) else Dataset.from_list(rows)).to_parquet(arguments[f"{split}_file"])
        return kind(TaskArguments(**arguments))

    def problems(self, kind: type, train: Any = None, validation: Any = None, **arguments: Any) -> list[str]:
        task = self.task(kind, train, validation, **arguments)
        with pytest.raises(InputError) as caught:
            _ = task.rows
        return caught.value.problems


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def rows(labels: list[Any], **more: list[Any]) -> Records:
    return [
        {"text": f"a b {number}", "label": label} | {name: values[number] for name, values in more.items()}
        for number, label in enumerate(labels)
    ]


def scores(task: Any, predictions: list[Any], labels: list[Any]) -> dict[str, float]:
    return task.score(np.array(predictions), Dataset.from_dict({"label": labels}))


# --- columns --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "text", "pair"),
    [
        (["sentence"], "sentence", None),
        (["text"], "text", None),
        (["sentence1"], "sentence1", None),
        (["sentence1", "sentence2"], "sentence1", "sentence2"),
        (["premise", "hypothesis"], "premise", "hypothesis"),
        (["question", "sentence"], "question", "sentence"),
        (["question1", "question2"], "question1", "question2"),
        (["text", "text_pair", "title"], "text", "text_pair"),
    ],
)
@pytest.mark.parametrize("label", ["label", "labels", "score"])
def test_columns_of_usual_names_are_found(
    columns: list[str], text: str, pair: str | None, label: str, files: Files
) -> None:
    records = [{name: f"{name} {number}" for name in columns} | {label: number % 2} for number in range(4)]
    found = files.task(SequenceClassification, records).rows["train"]
    assert found["text"][:] == [f"{text} {number}" for number in range(4)]
    assert ("text_pair" in found.column_names) == (pair is not None)
    if pair:
        assert found["text_pair"][:] == [f"{pair} {number}" for number in range(4)]
    assert found["label"][:] == [0, 1, 0, 1]


def test_columns_that_are_named_are_taken_and_no_others(files: Files) -> None:
    records = [{"text": "no", "b": "x", "a": "y", "label": 7, "gold": "p", "id": 1}]
    records += [{"text": "no", "b": "z", "a": "y", "label": 7, "gold": "q", "id": 2}]
    names = {"text_column": "b", "text_pair_column": "a", "label_column": "gold"}
    found = files.task(SequenceClassification, records, **names).rows["train"]
    assert found["text"][:] == ["x", "z"]
    assert found["text_pair"][:] == ["y", "y"]
    assert found["label"][:] == [0, 1]
    assert found.column_names == ["text", "text_pair", "label"]


def test_texts_may_change_their_places(files: Files) -> None:
    records = [{"text": "x", "text_pair": "y", "label": number} for number in (0, 1)]
    task = files.task(SequenceClassification, records, text_column="text_pair", text_pair_column="text")
    assert task.rows["train"][0]["text"] == "y"
    assert task.rows["train"][0]["text_pair"] == "x"


def test_a_missing_column_is_named_with_those_there_are(files: Files) -> None:
    problems = files.problems(SequenceClassification, rows([0, 1]), label_column="gold", text_column="body")
    assert problems == [
        "train: expected a column 'body', got columns text, label; name it with --text_column",
        "train: expected a column 'gold', got columns text, label; name it with --label_column",
    ]


def test_columns_that_cannot_be_told_apart_are_named(files: Files) -> None:
    records = [{"text": "x", "sentence": "y", "label": 0, "score": 1.5}]
    text, label = files.problems(SequenceClassification, records)
    assert "for the text, got 'text' and 'sentence' (columns: text, sentence, label, score)" in text
    assert "--text_column" in text
    assert "for the label, got 'label' and 'score' (columns: " in label
    assert "--label_column" in label


def test_columns_without_usual_names_are_listed(files: Files) -> None:
    text, label = files.problems(SequenceClassification, [{"x": "a", "y": 0}])
    assert (
        "expected one column with a usual name for the text, got none (columns: x, y); name it with --text_column"
        in text
    )
    assert "--label_column" in label


def test_later_splits_have_the_columns_of_the_first(files: Files) -> None:
    train = [{"sentence1": "x", "sentence2": "y", "label": number} for number in (0, 1)]
    [problem] = files.problems(SequenceClassification, train, [{"sentence1": "x", "label": 0}])
    assert "validation: expected a column 'sentence2'" in problem


# --- texts ----------------------------------------------------------------------------------------------------


def test_rows_without_text_are_counted_and_named(files: Files) -> None:
    pairs = {"text_pair": ["x", None, "", "x", "x", "x", "x", "x"]}
    records = rows([0, 1] * 4, **pairs)
    for number in (3, 4, 5, 6, 7, 0):
        records[number]["text"] = None
    missing, missing_pair = files.problems(SequenceClassification, records)
    assert missing == (
        "train: expected text in every row, got none in 6 rows (1, 4, 5, 6, 7, ...; counted from 1); fix or remove "
        "them (in train.parquet)"
    )
    assert missing_pair == (
        "train: expected text_pair in every row, got none in 1 row (2; counted from 1); fix or remove them "
        "(in train.parquet)"
    )


def test_rows_of_blanks_are_refused_unless_the_other_text_has_words(files: Files) -> None:
    assert len(files.task(SequenceClassification, rows([0, 1], text_pair=["", "x"])).rows["train"]) == 2
    blank = [{"text": " ", "text_pair": "", "label": 0}, {"text": "x", "text_pair": "", "label": 1}]
    [problem] = files.problems(SequenceClassification, blank)
    assert "got blank text in 1 row (1; counted from 1)" in problem


def test_texts_that_are_all_numbers_are_text(files: Files) -> None:
    records = [{"text": 12, "label": 0}, {"text": 345, "label": 1}]
    assert files.task(SequenceClassification, records).rows["train"]["text"][:] == ["12", "345"]


def test_texts_that_are_lists_are_refused(files: Files) -> None:
    text, label = files.problems(SequenceClassification, [{"text": ["a", "b"], "label": 0}])
    assert "expected text in column 'text', got List(" in text
    assert "expected two or more classes in column 'label', got one class, '0';" in label


# --- classes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (["good", "bad", "so-so", "bad"], ["bad", "good", "so-so"], [1, 0, 2, 0]),
        ([0, 2, 1], ["0", "1", "2"], [0, 2, 1]),
        ([10, 2, 3], ["2", "3", "10"], [2, 0, 1]),
        (["10", "2"], ["2", "10"], [1, 0]),
        ([True, False], ["False", "True"], [1, 0]),
        ([1.0, 0.0], ["0", "1"], [1, 0]),
    ],
)
def test_classes_are_the_sorted_names_of_the_labels(
    labels: list[Any], names: list[str], numbers: list[int], files: Files
) -> None:
    task = files.task(SequenceClassification, rows(labels))
    assert task.label_names == names
    assert task.num_labels == len(names)
    assert task.rows["train"]["label"][:] == numbers


def class_label_rows(labels: list[int], names: list[str]) -> Dataset:
    features = Features(text=Value("string"), label=ClassLabel(names=names))
    return Dataset.from_dict({"text": ["a"] * len(labels), "label": labels}, features=features)


def test_classes_that_a_file_declares_keep_their_order_and_need_no_rows(files: Files) -> None:
    task = files.task(SequenceClassification, class_label_rows([2, 0], ["z", "y", "x"]))
    assert task.label_names == ["z", "y", "x"]
    assert task.rows["train"]["label"][:] == [2, 0]


def test_splits_agree_on_names_and_not_on_numbers(files: Files) -> None:
    task = files.task(
        SequenceClassification, class_label_rows([0, 1], ["z", "y"]), class_label_rows([0, 1, 1], ["y", "z"])
    )
    assert task.label_names == ["z", "y"]
    assert task.rows["validation"]["label"][:] == [1, 0, 0]


def test_labels_of_validation_alone_are_seen_there(files: Files) -> None:
    assert files.task(SequenceClassification, validation=rows(["b", "a"])).label_names == ["a", "b"]


def test_a_sample_does_not_change_the_classes(files: Files) -> None:
    task = files.task(SequenceClassification, rows(["a"] * 50 + ["b"]), rows(["a"] * 9), max_train_samples=1)
    assert task.label_names == ["a", "b"]
    assert len(task.rows["train"]) == 1
    assert len(task.rows["validation"]) == 9


def test_a_validation_label_that_train_lacks_is_refused(files: Files) -> None:
    [problem] = files.problems(SequenceClassification, rows(["a", "b"]), rows(["a", "c", "b", "c"]))
    assert problem.startswith("validation: expected the labels a, b, got 'c' in 2 rows (2, 4; counted from 1)")


def test_a_single_class_is_refused(files: Files) -> None:
    [problem] = files.problems(SequenceClassification, rows(["a", "a"]))
    assert "expected two or more classes in column 'label', got one class, 'a';" in problem


def test_hidden_and_missing_labels_are_refused_in_every_split(files: Files) -> None:
    train, validation = files.problems(SequenceClassification, rows([0, 1, -1]), rows([0, None, 1]))
    assert "train: expected public labels, got -1, which marks hidden labels" in train
    assert "in 1 row (3; counted from 1)" in train
    assert "validation: expected a label in every row, got none in 1 row (2; counted from 1)" in validation


def test_hidden_labels_of_declared_classes_are_refused(files: Files) -> None:
    [problem] = files.problems(SequenceClassification, validation=class_label_rows([-1, -1], ["n", "p"]))
    assert "got -1, which marks hidden labels" in problem
    assert "in 2 rows (1, 2; counted from 1)" in problem


def test_problems_of_all_splits_are_in_one_message(files: Files) -> None:
    broken = rows(["a", "b"])
    broken[0]["text"] = None
    train, validation = files.problems(SequenceClassification, broken, rows(["a", "c"]))
    assert {train.split(":")[0], validation.split(":")[0]} == {"train", "validation"}


def test_scores_and_lists_are_no_classes_and_the_right_task_is_named(files: Files) -> None:
    [problem] = files.problems(SequenceClassification, rows([0.5, 3.0]))
    assert "got 0.5 in 1 row (1; counted from 1)" in problem
    assert "--task regression" in problem
    [problem] = files.problems(SequenceClassification, rows([["a"], ["b"]]))
    assert "--task multi_label_classification" in problem
    [problem] = files.problems(SequenceClassification, rows([0, 1], toxic=[0, 1]), label_column="label,toxic")
    assert "--task multi_label_classification" in problem


# --- label sets -----------------------------------------------------------------------------------------------

LABEL_SETS = [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([["x", "z"], [], ["y"]], ["x", "y", "z"]),
        ([[2, 11], [], [10]], ["2", "10", "11"]),
        (["x|z", "", "y"], ["x", "y", "z"]),
        (["z, x", "", "y"], ["x", "y", "z"]),
        (["x, one|z", "", "y"], ["x, one", "y", "z"]),
    ],
)
def test_label_sets_become_zeros_and_ones(labels: list[Any], names: list[str], files: Files) -> None:
    task = files.task(MultiLabelClassification, rows(labels))
    assert task.rows["train"]["label"][:] == LABEL_SETS
    assert task.label_names == names


def test_declared_label_sets_keep_their_order(files: Files) -> None:
    features = Features(text=Value("string"), label=List(ClassLabel(names=["z", "y", "x"])))
    data = Dataset.from_dict({"text": ["a"] * 3, "label": [[0, 2], [], [1]]}, features=features)
    task = files.task(MultiLabelClassification, data)
    assert task.label_names == ["z", "y", "x"]
    assert task.rows["train"]["label"][:] == LABEL_SETS


def test_a_column_of_zeros_and_ones_for_each_label(files: Files) -> None:
    records = [
        {"text": "a", "x": 1, "y": False, "z": 1.0},
        {"text": "b", "x": 0, "y": False, "z": 0.0},
        {"text": "c", "x": 0, "y": True, "z": 0.0},
    ]
    task = files.task(MultiLabelClassification, records, label_column="x,y,z")
    assert task.label_names == ["x", "y", "z"]
    assert task.rows["train"]["label"][:] == LABEL_SETS


def test_truth_values_in_every_spelling_are_zeros_and_ones(files: Files) -> None:
    records = [{"text": "a", "x": "True", "y": "0"}, {"text": "b", "x": "false", "y": "1"}]
    task = files.task(MultiLabelClassification, records, label_column="x,y")
    assert task.rows["train"]["label"][:] == [[1, 0], [0, 1]]
    [problem] = files.problems(MultiLabelClassification, [{**records[0], "y": "yes"}], label_column="x,y")
    assert "expected 0 or 1 in label column 'y', got 'yes' in 1 row" in problem


def test_label_sets_that_cannot_be_read_are_refused(files: Files) -> None:
    def problem(train: Any, validation: Any = None, **arguments: Any) -> str:
        [problem] = files.problems(MultiLabelClassification, train, validation, **arguments)
        return problem

    assert "expected the labels a, b, got 'c'" in problem(rows([["a"], ["b"]]), rows([["a", "c"]]))
    twice = problem(rows([[0, 1, 1], [1, 0, 0]]))
    assert "expected each label once per row" in twice
    assert "got [0, 1, 1] in 2 rows (1, 2; counted from 1); if these are zeros and ones" in twice
    assert "got 0.5 in 2 rows (1, 2;" in problem(rows([0.5, 1.5]))
    assert "expected two or more classes in column 'label', got one class, 'a';" in problem(rows([["a"], []]))
    assert "a label in every row, got none in 1 row (2; counted from 1)" in problem(rows([["a", "b"], None]))
    assert "expected 0 or 1 in label column 'x', got 2 in 1 row (2; counted from 1)" in problem(
        rows([0, 1], x=[1, 2]), label_column="label,x"
    )
    assert "expected a column 'y'" in problem(rows([0, 1], x=[1, 0]), label_column="label,x,y")


# --- scores as labels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [[0, 5, -1], [0.0, 5.0, -1.0], ["0", "5.0", "-1e0"]])
def test_scores_may_be_any_numbers(labels: list[Any], files: Files) -> None:
    task = files.task(Regression, rows(labels))
    assert task.rows["train"]["label"][:] == [0.0, 5.0, -1.0]
    assert task.label_names is None
    assert task.num_labels == 1


@pytest.mark.parametrize("value", ["four", float("nan"), "nan", float("inf")])
def test_scores_that_are_no_numbers_are_refused(value: Any, files: Files) -> None:
    labels = ["1.5", value, "2"] if isinstance(value, str) else [1.5, value, 2.0]
    [problem] = files.problems(Regression, rows(labels))
    assert "expected finite numbers in column 'label'" in problem
    assert f"got {value!r} in 1 row (2; counted from 1)" in problem


def test_missing_and_hidden_scores_are_refused(files: Files) -> None:
    [problem] = files.problems(Regression, rows([1.5, None]))
    assert "expected a label in every row, got none in 1 row (2; counted from 1)" in problem
    [problem] = files.problems(Regression, rows([-1.0, -1.0]))
    assert "got -1, which marks hidden labels" in problem
    assert "in 2 rows (1, 2; counted from 1)" in problem


# --- features and batches -------------------------------------------------------------------------------------


def test_features_are_what_the_tokenizer_makes_of_a_pair(files: Files, tokenizer: PreTrainedTokenizerFast) -> None:
    train = [{"text": "a b c", "text_pair": "d e", "label": "no"}, {"text": "a", "text_pair": "b", "label": "yes"}]
    task = files.task(SequenceClassification, train)
    features = task.encode(task.rows["train"], tokenizer)
    expected = tokenizer("a b c", "d e")
    assert features[0] == dict(expected) | {"labels": 0, "length": 8}
    assert features[1]["labels"] == 1
    assert features["length"][:] == [8, 5]


def test_long_rows_are_cut_to_max_seq_length(files: Files, tokenizer: PreTrainedTokenizerFast) -> None:
    task = files.task(SequenceClassification, rows([0, 1]), max_seq_length=4)
    features = task.encode(task.rows["train"], tokenizer)
    assert features["input_ids"][0] == [
        1,
        tokenizer.convert_tokens_to_ids("a"),
        tokenizer.convert_tokens_to_ids("b"),
        2,
    ]


def test_token_types_come_only_if_the_tokenizer_makes_them(files: Files, tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    task = files.task(SequenceClassification, rows([0, 1]))
    features = task.encode(task.rows["train"], tokenizer)
    assert features.column_names == ["input_ids", "attention_mask", "labels", "length"]
    assert "token_type_ids" not in task.collate([features[0]], tokenizer)


def test_the_same_rows_are_encoded_once(files: Files, tokenizer: PreTrainedTokenizerFast) -> None:
    task = files.task(SequenceClassification, rows([0, 1]))
    first, again = (task.encode(task.rows["train"], tokenizer) for _ in range(2))
    assert first.cache_files == again.cache_files
    other = files.task(SequenceClassification, rows([0, 1]), max_seq_length=3)
    assert other.encode(other.rows["train"], tokenizer).cache_files != first.cache_files


def test_other_code_encodes_the_rows_again(
    files: Files, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = files.task(SequenceClassification, rows([0, 1]))
    first = task.encode(task.rows["train"], tokenizer)
    monkeypatch.setattr("ted_distill.identity.source_fingerprint", lambda function: "another version")
    again = task.encode(task.rows["train"], tokenizer)
    assert again.cache_files != first.cache_files
    assert again.to_list() == first.to_list()


def test_messages_cut_long_lists_of_rows() -> None:
    assert row_list([7]) == "1 row (8; counted from 1)"
    assert row_list(range(6)) == "6 rows (1, 2, 3, 4, 5, ...; counted from 1)"


@pytest.mark.parametrize("length", [2, 65])
def test_lengths_that_the_tokenizer_does_not_allow_are_refused(
    length: int, files: Files, tokenizer: PreTrainedTokenizerFast
) -> None:
    task = files.task(SequenceClassification, rows([0, 1]), max_seq_length=length)
    with pytest.raises(InputError, match=f"max_seq_length: expected 3 to 64 tokens, .* got {length};"):
        task.encode(task.rows["train"], tokenizer)


def test_a_tokenizer_without_padding_token_is_refused(files: Files, tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.pad_token = None
    task = files.task(SequenceClassification, rows([0, 1]))
    with pytest.raises(InputError, match="expected a padding token, got none"):
        task.encode(task.rows["train"], tokenizer)


def features_of(lengths: list[int], labels: list[Any]) -> Records:
    return [
        {"input_ids": [5] * length, "attention_mask": [1] * length, "labels": label, "length": length}
        for length, label in zip(lengths, labels, strict=True)
    ]


def test_batches_are_padded_on_the_right_to_a_multiple_of_eight(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.pad_token = "h"  # not number 0
    task = SequenceClassification(TaskArguments())
    batch = task.collate(features_of([3, 9], [1, 0]), tokenizer)
    assert batch["input_ids"].shape == (2, 16)
    assert batch["input_ids"][0].tolist() == [5] * 3 + [tokenizer.pad_token_id] * 13
    assert batch["attention_mask"].sum(dim=1).tolist() == [3, 9]
    assert batch["attention_mask"][1].tolist() == [1] * 9 + [0] * 7
    assert torch.equal(batch["labels"], torch.tensor([1, 0]))
    assert torch.equal(task.mask(batch), batch["attention_mask"])


def test_batches_are_no_wider_than_max_seq_length(tokenizer: PreTrainedTokenizerFast) -> None:
    batch = SequenceClassification(TaskArguments(max_seq_length=10)).collate(features_of([9], [0]), tokenizer)
    assert batch["input_ids"].shape == (1, 10)


@pytest.mark.parametrize(
    ("kind", "labels", "dtype"),
    [
        (SequenceClassification, [2, 0], torch.long),
        (MultiLabelClassification, [[1.0, 0.0], [0.0, 0.0]], torch.float32),
        (Regression, [0.5, 3.0], torch.float32),
    ],
)
def test_labels_of_a_batch_have_the_type_of_the_problem(
    kind: type, labels: list[Any], dtype: torch.dtype, tokenizer: PreTrainedTokenizerFast
) -> None:
    batch = kind(TaskArguments()).collate(features_of([3, 9], labels), tokenizer)
    assert torch.equal(batch["labels"], torch.tensor(labels, dtype=dtype))
    assert batch["labels"].dtype == dtype


# --- losses ---------------------------------------------------------------------------------------------------

KINDS: dict[type, tuple[int, Any]] = {
    SequenceClassification: (3, torch.tensor([2, 0, 1, 1])),
    MultiLabelClassification: (3, torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])),
    Regression: (1, torch.tensor([0.0, 2.5, -1.0, 4.0])),
}


def model_and_batch(kind: Any) -> tuple[BertForSequenceClassification, dict[str, torch.Tensor]]:
    num_labels, labels = KINDS[kind]
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=12,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=num_labels,
        problem_type=kind.problem_type,
        initializer_range=0.5,
    )
    batch = {"input_ids": torch.randint(0, 12, (4, 6)), "attention_mask": torch.ones(4, 6, dtype=torch.long)}
    return BertForSequenceClassification(config).eval(), batch | {"labels": labels}


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_the_transformers_model(kind: Any) -> None:
    model, batch = model_and_batch(kind)
    outputs = model(**batch)
    task = kind(TaskArguments())
    torch.testing.assert_close(task.loss(task.logits(outputs), batch), outputs.loss)


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_with_the_count_of_all_add_up(kind: Any) -> None:
    model, batch = model_and_batch(kind)
    logits, teacher = model(**batch).logits, torch.randn(4, KINDS[kind][0])
    task = kind(TaskArguments())
    counts = task.counts(batch)
    assert [count.item() for count in counts] == [4.0, 4.0, 24.0]
    parts = [({name: tensor[part] for name, tensor in batch.items()}, part) for part in (slice(0, 1), slice(1, 4))]
    torch.testing.assert_close(
        sum(task.loss(logits[part], micro, counts.labels) for micro, part in parts), task.loss(logits, batch)
    )
    torch.testing.assert_close(
        sum(task.match(logits[part], teacher[part], micro, 2.0, counts.predictions) for micro, part in parts),
        task.match(logits, teacher, batch, 2.0, None),
    )


def test_rows_labelled_minus_100_do_not_count_for_the_loss() -> None:
    labels, mask = torch.tensor([1, -100]), torch.ones(2, 3)
    counts = SequenceClassification(TaskArguments()).counts({"labels": labels, "attention_mask": mask})
    assert [count.item() for count in counts] == [1.0, 2.0, 6.0]


def test_each_kind_matches_predictions_by_its_own_distribution() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 3), torch.randn(4, 3)
    distributions = torch.distributions
    classes = distributions.kl_divergence(
        distributions.Categorical(logits=teacher / 2), distributions.Categorical(logits=student / 2)
    )
    labels = distributions.kl_divergence(
        distributions.Bernoulli(logits=teacher / 2), distributions.Bernoulli(logits=student / 2)
    )
    for kind, expected in ((SequenceClassification, classes), (MultiLabelClassification, labels)):
        found = kind(TaskArguments()).match(student, teacher, {}, 2.0, None)
        torch.testing.assert_close(found, 4 * expected.mean())
    found = Regression(TaskArguments()).match(student[:, :1], teacher[:, :1], {}, 2.0, None)
    torch.testing.assert_close(found, torch.nn.functional.mse_loss(student[:, 0], teacher[:, 0]))


# --- filter heads ---------------------------------------------------------------------------------------------


def test_the_filter_head_sees_the_first_token_only(files: Files) -> None:
    head = (
        files.task(SequenceClassification, rows(["a", "b", "c"]))
        .filter_head(8, SimpleNamespace(config=BertConfig()))
        .eval()
    )
    states = torch.randn(2, 5, 8)
    logits = head(states)
    expected = torch.nn.functional.gelu(states[:, 0] @ head.dense.weight.T) @ head.out_proj.weight.T
    assert logits.shape == (2, 3)
    torch.testing.assert_close(logits, expected)
    states[:, 1:] = 99
    assert torch.equal(head(states), logits)


def test_the_filter_head_starts_like_the_model(files: Files) -> None:
    head = files.task(Regression, rows([1.5, 2])).filter_head(
        256, SimpleNamespace(config=BertConfig(initializer_range=0.1))
    )
    assert head.dense.weight.std().item() == pytest.approx(0.1, rel=0.02)
    assert head.out_proj.weight.shape == (1, 256)
    assert not head.dense.bias.any()
    assert not head.out_proj.bias.any()


@pytest.mark.parametrize(
    ("config", "dropout"),
    [
        (BertConfig(hidden_dropout_prob=0.3), 0.3),
        (BertConfig(hidden_dropout_prob=0.3, classifier_dropout=0.0), 0.0),
        (DebertaV2Config(hidden_dropout_prob=0.3), 0.3),
        (DebertaV2Config(hidden_dropout_prob=0.3, cls_dropout=0.15), 0.15),
        (DistilBertConfig(seq_classif_dropout=0.25), 0.25),
        (ModernBertConfig(classifier_dropout=0.4), 0.4),
        (AlbertConfig(classifier_dropout_prob=0.35), 0.35),
        (GPT2Config(), 0.0),
    ],
)
def test_the_filter_head_has_the_dropout_of_the_models_classifier(config: Any, dropout: float) -> None:
    assert Regression(TaskArguments()).filter_head(4, SimpleNamespace(config=config)).dropout.p == dropout


# --- predictions and scores -----------------------------------------------------------------------------------


def test_predictions_are_read_off_the_logits() -> None:
    logits = [np.array(row, dtype=np.float32) for row in ([0.1, 2, -1], [3, -2, 0.0])]
    assert SequenceClassification(TaskArguments()).decode(logits, NO_SPLIT).tolist() == [1, 0]
    assert MultiLabelClassification(TaskArguments()).decode(logits, NO_SPLIT).tolist() == [[1, 1, 0], [1, 0, 1]]
    assert Regression(TaskArguments()).decode([row[:1] for row in logits], NO_SPLIT).tolist() == [np.float32(0.1), 3.0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_no_numbers_give_no_predictions(kind: Any, value: float) -> None:
    with pytest.raises(
        InputError, match=r"expected finite numbers, got NaN or infinity in 1 of 2 rows \(first: row 2\)"
    ):
        kind(TaskArguments()).decode([np.array([1.0]), np.array([value])], NO_SPLIT)


def test_scores_of_classes_are_those_of_scikit_learn_in_percent() -> None:
    labels, predictions = [0, 1, 2, 2, 1, 0, 2], [0, 2, 2, 2, 1, 1, 0]
    assert scores(SequenceClassification(TaskArguments()), predictions, labels) == {
        "accuracy": pytest.approx(100 * 4 / 7),
        "f1_macro": pytest.approx(100 * sklearn.metrics.f1_score(labels, predictions, average="macro")),
    }


def test_scores_of_label_sets_are_those_of_scikit_learn_in_percent() -> None:
    labels = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]])
    predictions = np.array([[1, 0, 0], [0, 0, 0], [0, 1, 0], [1, 0, 1]])
    assert scores(MultiLabelClassification(TaskArguments()), predictions.tolist(), labels.tolist()) == {
        "f1_micro": pytest.approx(100 * sklearn.metrics.f1_score(labels, predictions, average="micro")),
        "f1_macro": pytest.approx(100 * sklearn.metrics.f1_score(labels, predictions, average="macro")),
        "exact_match": 50.0,
    }


def test_scores_of_scores_are_those_of_scipy() -> None:
    generator = np.random.default_rng(0)
    labels, predictions = generator.normal(size=50), generator.normal(size=50).astype(np.float32)
    assert scores(Regression(TaskArguments()), list(predictions), list(labels)) == {
        "spearmanr": pytest.approx(100 * scipy.stats.spearmanr(labels, predictions).statistic),
        "pearson": pytest.approx(100 * scipy.stats.pearsonr(labels, predictions).statistic),
        "mse": pytest.approx(sklearn.metrics.mean_squared_error(labels, predictions)),
    }


@pytest.mark.parametrize(("labels", "predictions"), [([1.0, 2.0, 3.0], [2.0] * 3), ([2.0] * 3, [1.0, 2.0, 3.0])])
def test_what_is_constant_correlates_with_nothing(labels: list[float], predictions: list[float]) -> None:
    found = scores(Regression(TaskArguments()), predictions, labels)
    assert (found["spearmanr"], found["pearson"]) == (0.0, 0.0)
    assert found["mse"] == pytest.approx(2 / 3)


def test_what_is_nearly_constant_warns_nobody() -> None:
    found = scores(Regression(TaskArguments()), [1e8, 1e8 + 1e-6, 1e8], [1.0, 2.0, 3.0])
    assert all(np.isfinite(score) for score in found.values())


@pytest.mark.parametrize(
    ("kind", "predictions", "labels"),
    [
        (SequenceClassification, [0, 0, 0], [0, 1, 2]),
        (SequenceClassification, [1, 1, 1], [0, 0, 0]),
        (MultiLabelClassification, [[0, 0], [0, 0]], [[0, 0], [1, 0]]),
    ],
)
def test_classes_that_nobody_predicts_score_zero_and_warn_nobody(kind: Any, predictions: Any, labels: Any) -> None:
    found = scores(kind(TaskArguments()), predictions, labels)
    assert all(0 <= score < 60 for score in found.values())


def test_the_score_that_decides_is_one_of_the_scores() -> None:
    assert SequenceClassification(TaskArguments()).metric == "accuracy"
    assert MultiLabelClassification(TaskArguments()).metric == "f1_micro"
    assert Regression(TaskArguments()).metric == "spearmanr"
    for kind in KINDS:
        assert kind(TaskArguments()).metric in kind(TaskArguments()).metrics


@pytest.mark.parametrize(
    ("predictions", "message"),
    [([1.0, np.nan, 2.0], "NaN"), ([1.0, 2.0], "one per row, got 2 for 3 rows"), ([], "one per row, got 0 for 3 rows")],
)
def test_predictions_that_cannot_be_scored_are_refused(predictions: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        scores(Regression(TaskArguments()), predictions, [1.0, 2.0, 3.0])


def test_agreement_is_how_far_two_models_say_the_same() -> None:
    classes, sets, numbers = (kind(TaskArguments()) for kind in KINDS)
    assert classes.agreement(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2])) == {"agreement": 75.0}
    assert sets.agreement(np.array([[1, 0], [1, 1]]), np.array([[1, 0], [0, 1]])) == {"agreement": 50.0}
    assert numbers.agreement(np.array([1.0, 2, 3]), np.array([30.0, 20, 10])) == {
        "agreement_pearson": pytest.approx(-100)
    }
    assert numbers.agreement(np.array([1.0, 1, 1]), np.array([30.0, 20, 10])) == {"agreement_pearson": 0.0}
    with pytest.raises(InputError, match="expected one per row"):
        classes.agreement(np.array([0, 1]), np.array([0]))


@pytest.mark.parametrize(
    ("kind", "labels", "predictions", "written"),
    [
        (SequenceClassification, ["no", "yes"], [1, 0, 1], ["yes", "no", "yes"]),
        (SequenceClassification, [3, 10], [1, 0], ["10", "3"]),
        (MultiLabelClassification, [["é", "b"]], [[0, 1], [0, 0], [1, 1]], [["é"], [], ["b", "é"]]),
        (Regression, [0.5, 1], [0.25, -3.0], [0.25, -3.0]),
    ],
)
def test_predictions_are_written_by_name_and_read_again(
    kind: type, labels: list[Any], predictions: Any, written: Any, files: Files, tmp_path: Path
) -> None:
    task = files.task(kind, rows(labels))
    task.write_predictions(np.array(predictions), NO_SPLIT, tmp_path)
    assert json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8")) == written
    assert task.read_predictions(tmp_path / "predictions.json").tolist() == predictions


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        (SequenceClassification, '["a", "c"]', "expected the label names a, b, got 'c'"),
        (SequenceClassification, '{"a": 1}', "got a dict"),
        (SequenceClassification, '["a", ', "got an unreadable file"),
        (SequenceClassification, "[null]", "expected the label names a, b, got 'None'"),
        (MultiLabelClassification, '["a"]', "list of lists"),
        (MultiLabelClassification, '[["a", "c"]]', "expected the label names a, b, got 'c'"),
        (Regression, '["a"]', "list of numbers"),
        (Regression, "[[1]]", "list of numbers"),
    ],
)
def test_files_that_hold_no_predictions_are_refused(
    kind: type, content: str, message: str, files: Files, tmp_path: Path
) -> None:
    labels = {SequenceClassification: ["a", "b"], MultiLabelClassification: [["a", "b"]], Regression: [0.5, 1]}
    task = files.task(kind, rows(labels[kind]))
    file = tmp_path / "predictions.json"
    with pytest.raises(InputError, match="got an unreadable file"):
        task.read_predictions(file)
    file.write_text(content)
    with pytest.raises(InputError, match=message):
        task.read_predictions(file)


def test_a_row_of_which_the_tokenizer_makes_nothing_is_refused(files: Files) -> None:
    task = files.task(SequenceClassification, rows(["no", "yes", "no"]))
    # It knows no character, and has no token for those that it does not know.
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), pad_token="[PAD]")
    with pytest.raises(InputError, match=r"expected tokens in every row, got none from the tokenizer .* for 3 rows"):
        task.encode(task.rows["train"], tokenizer)
