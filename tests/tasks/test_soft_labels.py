"""Labels that are probabilities of the classes: a teacher that is not at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForSequenceClassification

from ted_distill import DistillArguments, InputError, StageArguments, TaskArguments, distill, finetune, load_task
from ted_distill.method.losses import soft_class_loss
from ted_distill.training.trainer import StageTrainer
from tiny import save_tiny, tiny_tokenizer, write_reviews

pytestmark = pytest.mark.usefixtures("float32")

PROBABILITIES = [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3], [1.0, 0.0, 0.0]]


def write(folder: Path, rows: list[Any] = PROBABILITIES, names: str = "good bad awful", name: str = "train") -> str:
    file = folder / f"{name}.jsonl"
    lines = [
        {"text": f"the film was very {'very ' * number}fine"} | dict(zip(_columns(names), row, strict=True))
        for number, row in enumerate(rows)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(file)


def _columns(names: str) -> list[str]:
    return [f"probs_{name}" for name in names.split()]


def make(task: str = "sequence_classification", label_column: str = "probs_*", **files: str) -> Any:
    return load_task(TaskArguments(task, label_column=label_column, **files))


def test_rows_to_score_on_with_another_label_column_are_told_how_to_call_it(tmp_path: Path) -> None:
    validation = tmp_path / "validation.jsonl"
    validation.write_text(json.dumps({"text": "fine", "sentiment": "good"}) + "\n")
    [problem] = problems(train_file=write(tmp_path), validation_file=str(validation))
    assert problem == (
        "validation: expected columns that fit 'probs_*', or a label column with a usual name, got columns text, "
        "sentiment; rename the label column of validation to `label`, or give it the same probs_* columns"
    )


def test_probabilities_may_be_decimal_numbers(tmp_path: Path) -> None:
    rows = {"text": ["a", "b"], **{f"probs_{name}": pa.array([0.25, 0.75]) for name in "xy"}}
    rows["probs_y"] = pa.array([0.75, 0.25]).cast(pa.decimal128(10, 2))
    pq.write_table(pa.table(rows), tmp_path / "x.parquet")
    assert make(train_file=str(tmp_path / "x.parquet")).rows["train"]["label"][:] == [1, 0]


def problems(**files: str) -> list[str]:
    with pytest.raises(InputError) as error:
        _ = make(**files).rows
    return error.value.problems


def arguments(folder: Path, **changes: Any) -> StageArguments:
    found = {
        "max_steps": 2, "optim": "sgd", "per_device_train_batch_size": 4, "disable_tqdm": True, "use_cpu": True,
        "logging_steps": 1, "learning_rate": 0.1, **changes,
    }  # fmt: skip
    return StageArguments(str(folder), **found)


def test_classes_are_what_stands_for_the_star_in_the_order_of_the_columns(tmp_path: Path) -> None:
    task = make(train_file=write(tmp_path))
    assert task.label_names == ["good", "bad", "awful"]
    rows = task.rows["train"]
    assert rows["label"][:] == [0, 2, 1, 0]
    assert torch.allclose(torch.tensor(rows["probabilities"][:]), torch.tensor(PROBABILITIES))


def test_the_loss_is_the_cross_entropy_of_torch_with_probabilities(tmp_path: Path) -> None:
    task, tokenizer = make(train_file=write(tmp_path)), tiny_tokenizer()
    batch = task.collate(list(task.encode(task.rows["train"], tokenizer)), tokenizer)
    torch.manual_seed(0)
    logits = torch.randn(4, 3, requires_grad=True)
    target = torch.tensor(PROBABILITIES)
    found, expected = task.loss(logits, batch), F.cross_entropy(logits, target)
    assert torch.allclose(found, expected)
    by_hand = -(target * logits.log_softmax(-1)).sum() / 4
    assert torch.allclose(found, by_hand)
    gradients = [torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in (found, expected)]
    assert torch.allclose(*gradients, atol=1e-7)
    assert torch.allclose(task.loss(logits, batch, torch.tensor(8.0)), expected / 2)
    assert float(task.counts(batch).labels) == 4
    assert soft_class_loss(logits[:0], target[:0]) == 0
    certain = torch.eye(3)[[0, 2, 1, 0]]
    assert torch.allclose(soft_class_loss(logits, certain), F.cross_entropy(logits, torch.tensor([0, 2, 1, 0])))


def test_rows_to_score_on_may_have_plain_labels_or_the_same_columns_in_any_order(tmp_path: Path) -> None:
    train, plain = write(tmp_path), tmp_path / "plain.csv"
    plain.write_text("text,label\nfine,awful\ngood,good\n")
    task = make(train_file=train, validation_file=str(plain))
    assert task.rows["validation"]["label"][:] == [2, 0]
    assert "probabilities" not in task.rows["validation"].column_names
    other = write(tmp_path, [[0.1, 0.6, 0.3]], "awful good bad", "other")
    assert make(train_file=train, validation_file=other).rows["validation"]["label"][:] == [0]
    assert make(validation_file=other).label_names == ["awful", "good", "bad"]


def test_numbers_written_as_text_are_probabilities(tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    file.write_text("text,probs_a,probs_b\nfine,0.25,0.75\nbad,1,0\n")
    assert make(train_file=str(file)).rows["train"]["label"][:] == [1, 0]


def test_a_model_that_knows_more_classes_gives_them_probability_0(tmp_path: Path) -> None:
    task = make(train_file=write(tmp_path))
    task.offer_labels([["awful", "bad", "fine", "good"]])
    assert task.label_names == ["awful", "bad", "fine", "good"]
    assert [round(value, 6) for value in task.rows["train"]["probabilities"][0]] == [0.1, 0.2, 0.0, 0.7]
    assert task.rows["train"]["label"][0] == 3


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [[0.5, 0.3, 0.1], [1, 0, 0], [0.4, 0.4, 0.4]],
            "probabilities probs_* that sum to 1 in each row, got 0.9 in 2",
        ),
        ([[1.2, -0.1, -0.1]], "probabilities from 0 to 1 in column 'probs_good', got other values in 1 row (1;"),
        ([[1, 0, None], [1, 0, 0]], "probabilities from 0 to 1 in column 'probs_awful', got other values in 1 row (1;"),
        ([["1", "0", "0"], ["NaN", "0", "1"]], "column 'probs_good', got other values in 1 row (2; counted from 1)"),
        ([["1", "0", "0"], ["inf", "0", "1"]], "column 'probs_good', got other values in 1 row (2; counted from 1)"),
        ([["x", "y", "1"]], "column 'probs_bad', got other values in 1 row (1; counted from 1)"),
    ],
)
def test_what_is_no_probability_is_refused_with_its_rows(rows: list[Any], said: str, tmp_path: Path) -> None:
    found = problems(train_file=write(tmp_path, rows))
    assert any(said in problem for problem in found), found
    assert all("\n" not in problem for problem in found)


def test_rounded_numbers_may_miss_a_sum_of_1_by_a_thousandth(tmp_path: Path) -> None:
    assert make(train_file=write(tmp_path, [[0.333, 0.333, 0.333], [0.5005, 0.5005, 0]])).rows
    assert problems(train_file=write(tmp_path, [[0.333, 0.333, 0.3325]]))


def test_columns_that_are_missing_or_of_other_classes_are_refused_in_one_line(tmp_path: Path) -> None:
    train = write(tmp_path)
    (problem,) = problems(train_file=str(write_reviews(tmp_path, 4)))
    assert problem.startswith("train: expected two or more columns that fit 'probs_*', got none (columns: text, label)")
    strange = write(tmp_path, [[0.5, 0.5, 0]], "good bad dull", "strange")
    (problem,) = problems(train_file=train, validation_file=strange)
    assert problem.startswith("validation: expected probabilities of the classes good, bad, awful, got columns probs_d")
    for task in ("regression", "multi_label_classification"):
        with pytest.raises(InputError, match=r"expected a column 'probs_\*'"):
            _ = make(task, train_file=train).rows


@pytest.mark.parametrize("unlabelled", [False, True])
def test_fine_tuning_and_a_student_alone_learn_the_probabilities(
    unlabelled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = {"id2label": {0: "awful", 1: "bad", 2: "good"}, "label2id": {"awful": 0, "bad": 1, "good": 2}}
    plain = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.3}
    model = save_tiny(tmp_path / "model", AutoModelForSequenceClassification, **classes, **plain)
    texts = tmp_path / "texts.txt"
    texts.write_text("a good film\nthe meal was awful\n")
    more = {"unlabelled_file": str(texts)} if unlabelled else {}
    task = make(train_file=write(tmp_path), validation_file=write(tmp_path, name="validation"), **more)
    losses: list[float] = []
    log = StageTrainer.log

    def remember(self: StageTrainer, logs: dict[str, float], *args: Any) -> None:
        losses.extend([logs["loss"]] if "loss" in logs else [])
        log(self, logs, *args)

    monkeypatch.setattr(StageTrainer, "log", remember)
    finetune(model, task, arguments(tmp_path / "tuned"))
    size = {"per_device_train_batch_size": 6} if unlabelled else {}
    distill(model, model, task, arguments(tmp_path / "alone", **size), DistillArguments("alone"))
    loaded = AutoModelForSequenceClassification.from_pretrained(model).eval()
    encoded = tiny_tokenizer()(task.rows["train"]["text"][:], padding=True, return_tensors="pt")
    # The columns are good, bad, awful; the model has them the other way round.
    with torch.no_grad():
        expected = F.cross_entropy(loaded(**encoded).logits[:, [2, 1, 0]], torch.tensor(PROBABILITIES))
    assert losses[0] == pytest.approx(float(expected), rel=1e-4)
    assert losses[2] == pytest.approx(float(expected), rel=1e-4)
