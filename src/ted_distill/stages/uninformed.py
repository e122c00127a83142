"""Warnings of what has learnt nothing: it scores no better than a predictor that has seen no input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..tasks.base import Metrics, Split, Task
from ..wording import noun

_MARGIN = 1.0
"""Points of a score by which a model or a head must be better than one that says the same of every row."""


def uninformed_heads(
    task: Task, block_scores: dict[str, Metrics], validation: dict[str, Split], decides: str | None = None
) -> Iterator[str]:
    """A warning for the blocks whose heads score no better than a predictor that has seen no input.

    Args:
        block_scores: scores by block number, and those of the whole model under `model`.
        decides: the score that is chosen by [the main one]; nothing is known of another.
    """
    known = _uninformed(task, validation, decides)
    if known is None:
        return
    found = {name: scores.get(task.metric) for name, scores in block_scores.items() if name != "model"}
    blocks = [name for name, score in found.items() if score is not None and score < known + _MARGIN]
    if blocks:
        which = f"{noun(len(blocks), 'block')} {', '.join(blocks)}"
        yield (
            f"the filter {noun(len(blocks), 'head')} of {which}: expected a better {task.metric} than "
            f"{known:.2f}, which needs no input at all, got {', '.join(f'{found[name]:.2f}' for name in blocks)}. "
            "Lower blocks may know nothing of the task; if higher ones do not either, raise learning_rate or "
            "num_train_epochs of learn_filters. Filters that start scaled match such a block as it is."
        )


def uninformed_model(
    task: Task, results: Mapping[str, Any], validation: dict[str, Split], decides: str | None = None
) -> Iterator[str]:
    """A warning for a trained model that scores no better than a predictor that has seen no input.

    Args:
        results: of its stage.
        decides: see `uninformed_heads`.
    """
    known, score = _uninformed(task, validation, decides), results.get(task.metric)
    if known is None or score is None or score >= known + _MARGIN:
        return
    yield (
        f"expected a better {task.metric} than {known:.2f}, which needs no input at all, got {score:.2f}: the model "
        "has learnt nothing that others could learn from it; give it more updates, another learning_rate or more rows. "
        "Where nearly all rows are alike, this score may not show what it knows: name another as metric_for_best_model"
    )


def _uninformed(task: Task, validation: dict[str, Split], decides: str | None) -> float | None:
    """The best main score without input; None where it is not known, less is better, or another score decides."""
    split = validation.get("validation")
    if split is None or task.metric in task.lower_is_better or decides not in (None, task.metric):
        return None
    return task.uninformed_score(split)
