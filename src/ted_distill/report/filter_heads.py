"""How well the filter heads of Stage I predict the task from each block."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..output import read_json
from ..stages.filters.block_scores import BLOCK_SCORES_NAME
from ..tasks import Task
from ..tasks.base import Split
from .comparison import is_number


@dataclass(frozen=True)
class FilterHeads:
    """Scores by block of one model's filter heads."""

    owner: str
    """`teacher` or `student`."""
    metric: str
    blocks: dict[int, float]
    whole_model: float | None


def read_filter_heads(folder: Path, owner: str) -> FilterHeads | None:
    """What a Stage I found; None if there was none."""
    content = read_json(folder / BLOCK_SCORES_NAME)
    if not isinstance(content, dict) or not isinstance(content.get("blocks"), dict):
        return None
    metric = str(content.get("metric"))
    found = {
        name: float(scores[metric])
        for name, scores in content["blocks"].items()
        if isinstance(scores, dict) and is_number(scores.get(metric))
    }
    blocks = {int(name): score for name, score in found.items() if str(name).isdigit()}
    return FilterHeads(owner, metric, dict(sorted(blocks.items())), found.get("model")) if blocks else None


def uninformed(task: Task | None) -> float | None:
    """The validation score of the best predictor that says the same of every row; None if it is not known."""
    if task is None or "validation" not in task.rows:
        return None
    rows = task.rows["validation"]
    return task.uninformed_score(Split(rows, rows))
