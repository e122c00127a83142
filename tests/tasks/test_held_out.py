"""Rows held out of the training rows: of each class its share, and the same ones each time."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

from ted_distill import InputError, TaskArguments, load_task
from ted_distill.tasks.reading.held_out import SAMPLE_SEED, by_rarest, held_out, quotas, stratified


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


@pytest.mark.parametrize("seed", range(30))
def test_every_label_of_rows_with_several_stays_with_a_training_row(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = [{str(label) for label in rng.integers(0, 12, rng.integers(0, 4))} for _ in range(60)]
    labels += [{"a", "x"}, {"b", "x"}, {"c", "x"}, {"a"}, {"b"}, {"c"}]  # x is the rarest label of no row
    classes = by_rarest(labels)
    out = set(stratified(classes, 30).tolist())
    assert len(out) == 30
    assert set().union(*(row for number, row in enumerate(labels) if number not in out)) == set().union(*labels)


@pytest.mark.parametrize("task", ["multi_label_classification", "token_classification"])
def test_a_file_with_rare_labels_is_divided_so_that_training_rows_have_them_all(tmp_path: Path, task: str) -> None:
    names = ["O", *(f"B-{number}" for number in range(12))]
    rows = [{"tokens": ["a", "b"], "text": "a b", "ner_tags": ["O", name], "label": ["O", name]} for name in names * 1]
    rows += [{"tokens": ["a"], "text": "a", "ner_tags": ["O"], "label": ["O"]}] * 20
    rows[0] |= {"ner_tags": ["O", "O"], "label": ["O"]}
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    made = load_task(TaskArguments(task, train_file=str(file), validation_size=10))
    assert set(made.label_names or ()) == set(names)
    assert [len(made.rows[name]) for name in ("train", "validation")] == [23, 10]


def good_row(task: str, number: int) -> dict[str, Any]:
    return {
        "regression": {"text": "a", "label": str(number)},
        "sequence_classification": {"text": "a", "label": "xy"[number % 2]},
        "multi_label_classification": {"text": "a", "label": ["xy"[number % 2]]},
        "token_classification": {"tokens": ["a"], "tags": ["Ox"[number % 2]]},
        "causal_lm": {"text": "a line"},
        "squad": {
            "id": str(number), "context": "ada", "question": "q", "answers": {"text": ["ada"], "answer_start": [0]}
        },
    }[task]  # fmt: skip


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "regression": ({"label": "1,5,0"}, "expected finite numbers"),
    "sequence_classification": ({"label": "-1"}, "expected public labels"),
    "multi_label_classification": ({"label": ["x", "x"]}, "expected each label once per row"),
    "token_classification": ({"tags": ["O", "O"]}, "expected as many tags as words"),
    "causal_lm": ({"text": None}, "expected text in every row"),
    "squad": ({"id": None, "question": None}, "expected a question in every row"),
}


@pytest.mark.parametrize("task", BAD)
@pytest.mark.parametrize("bad", [3, 76, 99])
def test_refusals_name_the_rows_of_the_file_wherever_they_are_held_out(task: str, bad: int) -> None:
    wrong, said = BAD[task]
    rows = [good_row(task, number) for number in range(100)]
    rows[bad].update(wrong)
    with pytest.raises(InputError) as error:
        _ = load_task(TaskArguments(task, validation_size=10), train=Dataset.from_list(rows)).rows
    [problem] = [problem for problem in error.value.problems if said in problem]
    assert f"1 row ({bad + 1}; counted from 1)" in problem or f"1 row (first: row {bad + 1})" in problem


def test_refusals_name_the_file_that_rows_are_held_out_of(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [good_row("sequence_classification", number) for number in range(40)]
    for row in rows[3:39]:
        row["text"] = " "
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with pytest.raises(InputError) as error:
        _ = load_task(TaskArguments("sequence_classification", train_file=str(file), validation_size=10)).rows
    assert [problem.partition(":")[0] for problem in error.value.problems] == ["train", "validation"]
    assert all("blank text" in problem and problem.endswith(" (in rows.jsonl)") for problem in error.value.problems)


def test_rows_at_random_are_those_that_datasets_draws() -> None:
    drawn = Dataset.from_dict({"row": range(57)}).train_test_split(test_size=9, seed=SAMPLE_SEED)
    assert held_out(57, 9, None) == (drawn["train"]["row"][:], drawn["test"]["row"][:])
