"""What Python gives to the package's functions: of the right kind, or refused by name; tasks stay as they were."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, TrainingArguments

import ted_distill
from ted_distill import (
    DistillArguments,
    InputError,
    StageArguments,
    Task,
    TaskArguments,
    TrimArguments,
    bench,
    compare,
    distill,
    evaluate,
    finetune,
    load_task,
    run,
)
from ted_distill.entries import _kinds_of
from ted_distill.models.load import ModelArguments
from tiny import save_tiny


def task_of(folder: Path, **arguments: Any) -> Task:
    rows = [{"text": f"the film was {word}", "label": label} for label, word in (("bad", "dull"), ("good", "fine")) * 6]
    file = folder / "rows.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return load_task(
        TaskArguments("sequence_classification", train_file=str(file), validation_file=str(file), **arguments)
    )


def brief(folder: Path) -> StageArguments:
    return StageArguments(str(folder), max_steps=1, eval_strategy="no", save_strategy="no", use_cpu=True)


def test_the_classes_of_a_model_that_was_scored_are_not_those_of_the_next_stage(tmp_path: Path) -> None:
    names = {0: "bad", 1: "good", 2: "other"}
    save_tiny(
        tmp_path / "three", AutoModelForSequenceClassification, blocks=2,
        id2label=names, label2id={name: number for number, name in names.items()},
    )  # fmt: skip
    save_tiny(tmp_path / "base", AutoModel, blocks=2)
    task = task_of(tmp_path)
    evaluate(tmp_path / "three", task, use_cpu=True)
    assert task.label_names == ["bad", "good"]
    finetune(tmp_path / "base", task, brief(tmp_path / "tuned"))
    assert AutoConfig.from_pretrained(tmp_path / "tuned").id2label == {0: "bad", 1: "good"}


def test_labels_that_a_caller_offers_stay_offered(tmp_path: Path) -> None:
    names = {0: "bad", 1: "good"}
    save_tiny(
        tmp_path / "two", AutoModelForSequenceClassification, blocks=2,
        id2label=names, label2id={name: number for number, name in names.items()},
    )  # fmt: skip
    task = task_of(tmp_path)
    task.offer_labels([["bad", "good", "other"]])
    evaluate(tmp_path / "two", task, use_cpu=True)
    assert task.label_names == ["bad", "good", "other"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda task: finetune("x", "sst2", StageArguments("y")), "^- task: expected Task, got 'sst2'; load_task"),
        (lambda task: finetune("x", TaskArguments("sst2"), StageArguments("y")), "task: expected Task, got TaskArgum"),
        (lambda task: finetune("x", task, TrainingArguments("y")), "args: expected StageArguments, got TrainingArgu"),
        (lambda task: evaluate("x", "sst2"), "task: expected Task, got 'sst2'"),
        (
            lambda task: distill("x", "y", task, StageArguments("z"), "kd"),
            r"distill_arguments: expected DistillArguments, got 'kd'; DistillArguments\(method=",
        ),
        (lambda task: load_task({"task": "sst2"}), r"task: expected text or TaskArguments, got {'task': 'sst2'}"),
        (lambda task: run(None), "recipe: expected Recipe, text, a path or a dict, got nothing; give a recipe's file"),
        (lambda task: bench("x", formats=3), "formats: expected a list, got 3"),
        (lambda task: DistillArguments(pair_weights=3), r"pair_weights: expected a list, got 3; write \[3\]"),
        (lambda task: DistillArguments(augment="mask"), r"augment: expected a list, got 'mask'; write \['mask'\]"),
        (lambda task: compare({}, grid="ted.mse_alpha"), "grid: expected a dict, got 'ted.mse_alpha'"),
        (lambda task: TaskArguments(label_column=["a", "b"]), r"label_column: expected text, got \['a', 'b'\]; give"),
        (lambda task: TaskArguments(streaming="no"), "streaming: expected true or false, got 'no'"),
        (lambda task: ModelArguments(config_overrides={"a": 1}), "config_overrides: expected text, got {'a': 1}"),
        (lambda task: TrimArguments(texts="rows.csv"), r"texts: expected a list, got 'rows.csv'; write \['rows.csv'\]"),
    ],
)  # fmt: skip
def test_what_is_of_a_wrong_kind_is_refused_by_name(call: Callable[[Any], Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        call(task_of(tmp_path))


def test_what_is_of_the_right_kind_is_taken() -> None:
    assert TaskArguments("sst2", train_file=Path("rows.csv"), label_column=None).task == "sst2"
    assert TrimArguments(texts=["rows.csv"]).texts == ["rows.csv"]
    assert DistillArguments("lwd", pair_weights=[1, 2.5]).weights_of_pairs(2) == [1.0, 2.5]


def test_every_public_function_checks_what_it_is_given() -> None:
    found = {name: getattr(ted_distill, name) for name in ted_distill.__all__}
    functions = {name: value for name, value in found.items() if inspect.isfunction(value)}
    assert [name for name, function in functions.items() if not hasattr(function, "__wrapped__")] == []
    assert all(_kinds_of(inspect.unwrap(function)) for function in functions.values())
