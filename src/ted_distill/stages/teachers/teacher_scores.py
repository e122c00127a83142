"""The teacher's scores, if its folder has those of the same rows: what a student is compared with."""

from __future__ import annotations

from pathlib import Path

from ...errors import InputError
from ...identity import plain
from ...output import RESULTS_NAME, SETTINGS_NAME, read_json, read_sealed
from ...tasks.base import Metrics, Task
from ..filters.block_scores import BLOCK_SCORES_NAME


def known_teacher_scores(teacher: str | Path, task: Task) -> Metrics:
    """Scores of a teacher on the task's validation rows, by name; none if they are not known.

    They are those of its fine-tuning or, if it has filters, those of the whole model in Stage I.
    """
    folder = Path(teacher)
    try:
        identity = (read_sealed(folder / SETTINGS_NAME) or {}).get("identity", {})
        rows = plain(task.identity).get("data", {}).get("validation")
        if rows is None or identity.get("data", {}).get("validation") != rows:
            return {}
        results = read_json(folder / BLOCK_SCORES_NAME) or read_json(folder / RESULTS_NAME) or {}
        scores = results["blocks"]["model"] if "blocks" in results else results
        return {name: float(value) for name, value in scores.items() if isinstance(value, (int, float))}
    except (InputError, OSError, AttributeError, KeyError, TypeError):
        return {}  # nothing depends on it
