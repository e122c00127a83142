"""Doubts about data that a model would learn from without complaint."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from ted_distill import Task, TaskArguments, load_task
from ted_distill.runs.checking.labels import contradictions, cut_rows, label_doubts
from ted_distill.runs.checking.sample import encode_sample
from tiny import tiny_tokenizer, write_text


def rows_file(folder: Path, name: str, rows: Iterable[tuple[str, object]]) -> str:
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    return str(file)


def classes(folder: Path, train: list[tuple[str, object]], validation: list[tuple[str, object]] | None = None) -> Task:
    files = {"train_file": rows_file(folder, "train", train)}
    if validation is not None:
        files["validation_file"] = rows_file(folder, "validation", validation)
    return load_task(TaskArguments("sequence_classification", **files))


GOOD, BAD = [(f"good film {number}", "good") for number in range(12)], [(f"bad book {n}", "bad") for n in range(12)]


def test_a_rare_class_and_one_that_validation_lacks_are_named(tmp_path: Path) -> None:
    task = classes(tmp_path, [*GOOD, *BAD, ("a meal", "fine"), ("the song", "fine")], [("good", "good"), ("x", "bad")])
    rare, missing = label_doubts(task)
    assert rare == ("train: expected at least 10 rows of each class, got 2 of fine; add rows of it, or leave it out")
    assert missing.startswith("validation: expected rows of every class, got none of fine;")


def test_classes_with_rows_enough_are_no_doubt(tmp_path: Path) -> None:
    assert not [*label_doubts(classes(tmp_path, [*GOOD, *BAD], [GOOD[0], BAD[0]]))]


def test_one_text_with_two_labels_is_counted(tmp_path: Path) -> None:
    twice = [("good film 1", "bad"), ("good film 1", "good"), ("bad book 2", "bad")]
    (doubt,) = contradictions(classes(tmp_path, [*GOOD, *BAD, *twice]))
    assert doubt.startswith("train: expected one label for one text, got several for 1 texts in 3 of 27 rows;")
    assert not [*contradictions(classes(tmp_path, [*GOOD, *BAD, ("bad book 2", "bad")]))]


def test_running_text_has_no_labels_to_doubt(tmp_path: Path) -> None:
    task = load_task(TaskArguments("causal_lm", train_file=str(write_text(tmp_path, 30))))
    assert not [*label_doubts(task), *contradictions(task)]


def test_rows_that_are_cut_are_counted(tmp_path: Path) -> None:
    long = [(f"the film was {'very ' * 30}good {number}", "good") for number in range(12)]
    task = classes(tmp_path, [*long, *BAD])
    features, looked_at = encode_sample(task, tiny_tokenizer())
    line, doubts = cut_rows(task, features, looked_at, longest=20)
    assert line == "50.0 % of the training rows fill max_seq_length (20 tokens) or are cut there"
    assert doubts[0].startswith("max_seq_length: expected nearly all rows to fit into 20 tokens, got 50 %")
    assert cut_rows(task, features, looked_at, longest=200) == (
        "0.0 % of the training rows fill max_seq_length (200 tokens) or are cut there", []
    )  # fmt: skip
