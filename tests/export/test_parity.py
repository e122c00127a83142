"""How much of what a model predicts a file changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ted_distill import load_task
from ted_distill.export.parity import Comparison, Difference, changed_share, largest_change


def compared(predictions: dict[str, Any], scores: dict[str, Any] | None = None) -> Comparison:
    return Comparison(1, (1, 1), predictions=predictions, scores=scores or {})


def test_of_tags_it_is_the_share_of_words_not_of_entities() -> None:
    task = load_task(
        "token_classification", validation=[{"tokens": ["a", "b", "c", "d"], "tags": ["O", "B-x", "O", "O"]}]
    )
    assert task.rows
    found = compared({"float32": [["O", "B-x", "O", "O"]], "int8": [["O", "O", "O", "O"]]})
    assert changed_share(task, "int8", "float32", found, scored=True) == pytest.approx(0.25)


def test_of_scores_it_is_the_change_of_the_main_score_or_without_rows_of_their_correlation() -> None:
    task = load_task("regression")
    predictions = {"float32": [1.0, 2.0, 3.0], "int8": [1.0, 2.0, 3.5]}
    scores = {"float32": {task.metric: 85.0}, "int8": {task.metric: 84.0}}
    found = compared(predictions, scores)
    assert changed_share(task, "int8", "float32", found, scored=True) == pytest.approx(0.01)
    assert 0 < changed_share(task, "int8", "float32", found, scored=False) < 0.02
    assert largest_change(task, "int8", "float32", found) == 0.5
    assert largest_change(load_task("squad"), "int8", "float32", found) is None


def test_a_logit_that_is_no_number_is_an_infinite_difference() -> None:
    difference = Difference()
    difference.see(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 3.0]))
    assert (difference.absolute, difference.relative) == (1.0, 0.25)
    difference.see(torch.tensor([1.0]), torch.tensor([float("nan")]))
    assert difference.absolute == float("inf")
