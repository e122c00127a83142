"""The table at the end of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_NOT_A_SCORE = {"metric", "parameters", "seconds", "steps", "best_step", "train_features", "stage_one_seconds", "total"}


def results_table(results: dict[str, dict[str, Any]]) -> str:
    """A Markdown table with one row per model: its scores in percent, parameters and seconds of training."""
    scores = _scores(next(iter(results.values())))
    rows = [["model", *scores, "parameters", "seconds"]]
    for name, result in results.items():
        values = [f"{result[score]:.2f}" if score in result else "" for score in scores]
        rows.append([_title(name), *values, f"{result['parameters']:,}", _seconds(result)])
    return markdown_table(rows)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the first row being the header, as a Markdown table that is also aligned on a screen."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [_line(row, widths) for row in rows]
    rule = "|".join(["", "-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:]), ""])
    return "\n".join([lines[0], rule, *lines[1:]])


def _scores(result: dict[str, Any]) -> list[str]:
    """Names of the scores worth a column, the task's own metric first."""
    found = [name for name, value in result.items() if name not in _NOT_A_SCORE and isinstance(value, (int, float))]
    kept = [name for name in found if not name.startswith("best_") and not name.endswith(("_total", "_thresh"))]
    return sorted(kept, key=lambda name: name != result["metric"])


def _title(name: str) -> str:
    return {"student": "student, fine-tuned", "kd": "KD", "lwd": "LWD", "ted": "TED"}.get(name, name)


def _seconds(result: dict[str, Any]) -> str:
    stage_one = result.get("stage_one_seconds")
    return f"{result['seconds']:.0f}" + (f" + {stage_one:.0f} Stage I" if stage_one else "")


def _line(row: Sequence[str], widths: list[int]) -> str:
    cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
    return "| " + " | ".join(cells) + " |"
