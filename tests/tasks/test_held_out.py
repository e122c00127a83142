"""Rows held out of the training rows: of each class its share, and the same ones each time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from ted_distill import TaskArguments, load_task
from ted_distill.tasks.reading.held_out import quotas, stratified


def test_each_class_gives_its_share() -> None:
    classes = ["a"] * 70 + ["b"] * 20 + ["c"] * 10
    chosen = stratified(classes, 20)
    assert Counter(classes[row] for row in chosen) == {"a": 14, "b": 4, "c": 2}
    assert chosen.tolist() == stratified(classes, 20).tolist() == sorted(set(chosen.tolist()))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 95, 96, 98, 99])
def test_there_are_as_many_rows_as_asked_for_and_a_class_keeps_its_last_row_while_others_have_more(size: int) -> None:
    counts = Counter({"a": 90, "b": 6, "c": 3, "d": 1})
    take = quotas(counts, size)
    assert sum(take.values()) == size
    assert all(0 <= take[name] <= counts[name] for name in counts)
    if size <= counts.total() - len(counts):
        assert all(take[name] < counts[name] for name in counts)


def held_out_labels(folder: Path, labels: list[object], task: str = "sequence_classification", size: int = 10) -> list:
    file = folder / "train.jsonl"
    pd.DataFrame({"text": [f"text {n}" for n in range(len(labels))], "label": labels}).to_json(
        file, orient="records", lines=True
    )
    made = load_task(TaskArguments(task=task, train_file=str(file), validation_size=size))
    names = made.label_names
    found = made.rows["validation"]["label"][:]
    return [names[label] for label in found] if names else found


def test_validation_size_is_stratified_for_classes(tmp_path: Path) -> None:
    labels: list[object] = ["good"] * 80 + ["bad"] * 19 + ["rare"]
    assert Counter(held_out_labels(tmp_path, labels)) == {"good": 8, "bad": 2}


def test_scores_and_label_sets_are_held_out_at_random(tmp_path: Path) -> None:
    assert len(held_out_labels(tmp_path, [n / 7 for n in range(60)], "regression")) == 10
    file = tmp_path / "sets.jsonl"
    pd.DataFrame({"text": ["a b"] * 20, "label": [["x"], ["x", "y"]] * 10}).to_json(file, orient="records", lines=True)
    task = load_task(TaskArguments(task="multi_label_classification", train_file=str(file), validation_size=5))
    assert len(task.rows["validation"]) == 5
