"""How much of what a model predicts a file changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ted_distill import load_task
from ted_distill.export import parity
from ted_distill.export.parity import Comparison, Difference, changed_share, compare, largest_change, rows_of_batch
from ted_distill.method.filters import Batch
from ted_distill.tasks.base import Split
from tiny import tiny_tokenizer


def compared(predictions: dict[str, Any], scores: dict[str, Any] | None = None) -> Comparison:
    return Comparison(1, (1, 1), predictions=predictions, scores=scores or {})


def test_of_tags_it_is_the_share_of_words_not_of_entities() -> None:
    task = load_task(
        "token_classification", validation=[{"tokens": ["a", "b", "c", "d"], "tags": ["O", "B-x", "O", "O"]}]
    )
    assert task.rows
    found = compared({"float32": [["O", "B-x", "O", "O"]], "int8": [["O", "O", "O", "O"]]})
    assert changed_share(task, "int8", "float32", found, scored=True) == pytest.approx(0.25)


@pytest.mark.parametrize(("score", "expected"), [(84.0, 1 - 20 / 21), (75.0, 0.1)])
def test_of_scores_it_is_what_concordance_lacks_or_the_change_of_the_main_score(score: float, expected: float) -> None:
    task = load_task("regression")
    predictions = {"float32": [1.0, 2.0, 3.0], "int8": [1.0, 2.0, 3.5]}
    scores = {"float32": {task.metric: 85.0}, "int8": {task.metric: score}}
    found = compared(predictions, scores)
    # Covariance 5/6, variances 4/6 and 38/36, means 1/6 apart.
    assert changed_share(task, "int8", "float32", found, scored=True) == pytest.approx(expected)
    assert changed_share(task, "int8", "float32", found, scored=False) == pytest.approx(1 - 20 / 21)
    assert largest_change(task, "int8", "float32", found) == 0.5
    assert largest_change(load_task("squad"), "int8", "float32", found) is None


@pytest.mark.parametrize("before", [[3.7], [3.7, 3.7001, 3.6999], [3.7, 3.7]])
def test_of_scores_that_are_all_alike_it_is_the_largest_change(before: list[float]) -> None:
    task = load_task("regression")
    found = compared({"float32": before, "int8": [score + 0.037 for score in before]})
    assert changed_share(task, "int8", "float32", found, scored=False) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("change", [lambda score: score + 0.5, lambda score: 1.5 * score])
def test_scores_that_are_shifted_or_stretched_are_changed_though_their_order_is_not(change: Any) -> None:
    task = load_task("regression")
    scores = {name: {task.metric: 85.0} for name in ("float32", "int8")}
    before = np.linspace(0, 5, 50)
    found = compared({"float32": before, "int8": change(before)}, scores)
    assert changed_share(task, "int8", "float32", found, scored=True) > 0.02
    same = compared({"float32": before, "int8": before}, scores)
    assert changed_share(task, "int8", "float32", same, scored=True) == 0


def test_a_logit_that_is_no_number_is_an_infinite_difference() -> None:
    difference = Difference()
    difference.see(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 3.0]))
    assert (difference.absolute, difference.relative) == (1.0, 0.25)
    difference.see(torch.tensor([1.0]), torch.tensor([float("nan")]))
    assert difference.absolute == float("inf")


@pytest.mark.parametrize(
    ("of_row", "rows"), [(1, 32), (3 * 128 * 2, 32), (3 * 1024 * 50257, 1), (2 * 128 * 30522, 17), (0, 32)]
)
def test_rows_that_are_compared_at_once_have_room_for_their_logits(of_row: int, rows: int) -> None:
    assert rows_of_batch(of_row) == rows


@pytest.mark.parametrize(
    ("expected", "found", "is_beyond"),
    [
        (1.0, 1.0002, True), (0.01, 0.01005, False), (250_000.0, 250_000.02, False), (250_000.0, 250_100.0, True),
        (float("inf"), 1.0, True), (250_000.0, float("nan"), True),
    ],
)  # fmt: skip
def test_a_difference_of_large_logits_counts_as_a_share_of_the_largest(
    expected: float, found: float, is_beyond: bool
) -> None:
    """In float32, those of a regression of prices have few digits after the point."""
    difference = Difference()
    difference.see(torch.tensor([expected]), torch.tensor([found]))
    assert difference.is_beyond(1e-4) is is_beyond


def test_rows_of_an_export_have_room_for_logits_over_a_vocabulary_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no checkpoint, on whose made-up rows the logits could be counted."""
    rows = [{"text": "the film was very good. " * 20}] * 40
    task, tokenizer, sizes = load_task("causal_lm", validation=rows), tiny_tokenizer(), []

    def logits(batch: Batch) -> torch.Tensor:
        sizes.append(len(batch["input_ids"]))
        return torch.zeros(*batch["input_ids"].shape, 40)

    split = Split(task.rows["validation"], task.encode(task.rows["validation"], tokenizer))
    monkeypatch.setattr(parity, "_NUMBERS", 3 * 2 * max(split.features["length"]) * 40)
    compare({"onnx": logits, "int8": logits}, task, split, tokenizer, {})
    assert max(sizes) == 3
