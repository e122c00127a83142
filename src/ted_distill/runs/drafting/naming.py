"""Names for runs and recipes, after their data and their teacher."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...output import short_name

_USUAL_STEMS = ("train", "training", "data", "dataset")


def run_name(keys: Mapping[str, Any]) -> str:
    """A name for the run of a recipe, after its data and its teacher."""
    return f"{data_name(keys)}-{_plain(short_name(str(keys.get('teacher'))).rpartition('/')[2])}"


def data_name(keys: Mapping[str, Any]) -> str:
    """A short name for a recipe's data: that of the file, or of its folder where the file's says nothing."""
    if not keys.get("train_file"):
        return _plain(str(keys.get("dataset_name") or keys.get("task") or "").rpartition("/")[2])
    path = Path(str(keys["train_file"])).absolute()
    stem = path.name.split(".")[0] or path.name
    return _plain(path.parent.name if stem.lower() in _USUAL_STEMS and path.parent.name else stem)


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip(".-")[:60] or "run"
