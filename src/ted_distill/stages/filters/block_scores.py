"""The scores of Stage I's filter heads: a table for the screen."""

from __future__ import annotations

from ...tasks.base import Metrics

BLOCK_SCORES_NAME = "block_scores.json"


def block_scores_table(block_scores: dict[str, Metrics], metric: str) -> str:
    """One line per block, with a bar, for the screen."""
    found = {name: scores[metric] for name, scores in block_scores.items() if metric in scores}
    longest = max([100.0, *found.values()])  # a perplexity is no percentage
    rows = []
    for name, value in found.items():
        label = "whole model" if name == "model" else f"block {name}"
        rows.append(f"  {label:<12} {value:6.2f}  {'#' * round(40 * max(value, 0) / longest)}")
    return "\n".join(rows)
