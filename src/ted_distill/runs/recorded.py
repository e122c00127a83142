"""The recipe that a run or a comparison leaves in its folder, which may be read again from anywhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError
from ..secrets import content_without_secrets
from ..tasks import TaskArguments
from .parsing import field_names

_HEAD = "# Relative paths of data, models and output_dir are seen from"
_PLACE = re.compile(rf"^{_HEAD} (.+)$", re.MULTILINE)
DATA_FILES = {name for name in field_names(TaskArguments) if name.endswith("_file")}
"""Keys that hold the path of a file of rows."""
_PATHS = {"teacher", "student", "dataset_name", "output_dir", *DATA_FILES}
RECIPE_NAME = "recipe.yaml"
"""The recipe in a folder of a run, or of a comparison."""
_DEPTH = 3
"""A recipe lies in its run's folder, or in that of a comparison or of one of its seeds."""


def recorded_text(content: Mapping[str, Any], head: str, folder: Path) -> str:
    """A recipe as it is written into a folder, with a note of the folder that its relative paths start from.

    Args:
        head: its first line, a comment.
    """
    text = yaml.safe_dump(content_without_secrets(content), sort_keys=False, allow_unicode=True)
    try:
        place = f"{_HEAD} {os.path.relpath(Path.cwd(), folder.resolve())}\n"
    except ValueError:  # two drives
        place = ""
    return f"{head}{place}{text}"


def refuse_unrecorded(folder: Path, names: Iterable[str], head: str, kind: str) -> None:
    """Refuse a folder that holds a recipe or results that this package did not write.

    Args:
        names: of the files that would be written over.
        head: the first line of the recipes that such a folder has.
        kind: of the folder, for the message: `run` or `comparison`.

    Raises:
        InputError: names the files.
    """
    file = folder / RECIPE_NAME
    held = [name for name in names if (folder / name).exists()]
    if held and not (file.is_file() and file.read_text("utf-8", errors="replace").startswith(head)):
        raise InputError(
            f"output_dir: expected a new folder, or one of a {kind}, got {folder}, where no {kind} wrote "
            f"{', '.join(held)}; give another output_dir"
        )


def seen_from_here(content: dict[str, Any], file: Path) -> dict[str, Any]:
    """The content of a recipe file, with its recorded paths made relative to the working directory.

    A path that is not there any more stays as it is, and so does every recipe that nobody recorded, or that was copied
    out of the folder of its run.
    """
    lines = file.read_text(encoding="utf-8", errors="replace").split("\n", 3)[:2]
    place = _PLACE.search("\n".join(lines))
    if place is None:
        return content
    folder = file.resolve().parent
    base = (folder / place[1]).resolve()
    recorded = (base / str(content.get("output_dir"))).resolve()
    if recorded not in (folder, *folder.parents)[:_DEPTH] or base == Path.cwd():
        return content
    return _seen(content, base)


def _seen(content: dict[str, Any], base: Path) -> dict[str, Any]:
    return {key: _seen_value(key, value, base) for key, value in content.items()}


def _seen_value(key: str, value: Any, base: Path) -> Any:
    if isinstance(value, dict):
        return _seen(value, base)
    if key not in _PATHS or not isinstance(value, str) or Path(value).is_absolute():
        return value
    # Unlike those of `Path`, this function has an answer for folders of others.
    return str(base / value) if os.path.exists(base / value) else value  # noqa: PTH110
