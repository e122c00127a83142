"""The scores of Stage I's filter heads: a table for the screen, and a warning for heads that have learnt nothing."""

from __future__ import annotations

from collections.abc import Iterator

from ..tasks.base import Metrics, Split, Task

BLOCK_SCORES_NAME = "block_scores.json"
_MARGIN = 1.0
"""Points of a score by which a head must be better than one that says the same of every row."""


def uninformed_heads(task: Task, block_scores: dict[str, Metrics], validation: dict[str, Split]) -> Iterator[str]:
    """A warning for the blocks whose heads score no better than a predictor that has seen no input.

    Args:
        block_scores: scores by block number, and those of the whole model under `model`.
    """
    split = validation.get("validation")
    known = None if split is None else task.uninformed_score(split)
    if known is None or task.metric in task.lower_is_better:
        return
    found = {name: scores.get(task.metric) for name, scores in block_scores.items() if name != "model"}
    blocks = [name for name, score in found.items() if score is not None and score < known + _MARGIN]
    if blocks:
        which = f"block{'s' if len(blocks) > 1 else ''} {', '.join(blocks)}"
        yield (
            f"the filter head{'s' if len(blocks) > 1 else ''} of {which}: expected a better {task.metric} than "
            f"{known:.2f}, which needs no input at all, got {', '.join(f'{found[name]:.2f}' for name in blocks)}. "
            "Lower blocks may know nothing of the task; if higher ones do not either, raise learning_rate or "
            "num_train_epochs of learn_filters. Filters that start scaled match such a block as it is."
        )


def block_scores_table(block_scores: dict[str, Metrics], metric: str) -> str:
    """One line per block, with a bar, for the screen."""
    found = {name: scores[metric] for name, scores in block_scores.items() if metric in scores}
    longest = max([100.0, *found.values()])  # a perplexity is no percentage
    rows = []
    for name, value in found.items():
        label = "whole model" if name == "model" else f"block {name}"
        rows.append(f"  {label:<12} {value:6.2f}  {'#' * round(40 * max(value, 0) / longest)}")
    return "\n".join(rows)
