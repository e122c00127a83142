"""`history.jsonl`: the curves of a stage, one point a line, whatever `report_to` is (docs/run-folder.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import TrainerState

HISTORY_NAME = "history.jsonl"


def points(state: TrainerState) -> list[dict[str, Any]]:
    """The points of the curves: those with a loss, and those with scores.

    They come out of the checkpoints, so those of a stage that was interrupted are those of one that was not, but for
    the seconds. The summary at the end of a training is none of them.
    """
    return [
        {"step": entry["step"], **{name: value for name, value in entry.items() if name != "step"}}
        for entry in state.log_history
        if "loss" in entry or any(name.startswith("eval_") for name in entry)
    ]


def write_history(state: TrainerState, folder: Path) -> None:
    """Write the file."""
    lines = [json.dumps(point, default=float) + "\n" for point in points(state)]
    (folder / HISTORY_NAME).write_text("".join(lines), encoding="utf-8")
