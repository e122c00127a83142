"""Predictions in JSON files: a list with one entry per row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, shown
from ..wording import listed


def write_list(folder: Path, predictions: list[Any]) -> None:
    """Write `predictions.json`, one row per line."""
    lines = ",\n".join(json.dumps(prediction, ensure_ascii=False) for prediction in predictions)
    (folder / "predictions.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def read_list(file: Path) -> list[Any]:
    """A list from a JSON file. Raises `InputError` if the file holds anything else."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{file}: expected a JSON list of predictions, got an unreadable file ({error}); check it"
        ) from error
    if not isinstance(found, list):
        raise InputError(
            f"{file}: expected a JSON list with one prediction per row, got a {type(found).__name__}; give a list"
        )
    return found


def require_known(names: Sequence[str | None], numbers: dict[str, int], file: Path) -> None:
    """Raise `InputError` if a predicted name is not that of a class."""
    strangers = sorted({str(name) for name in names if name not in numbers})
    if strangers:
        raise InputError(f"{file}: expected the label names {listed(numbers)}, got {shown(strangers[0])}; fix the file")
