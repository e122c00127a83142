"""The recipe that a run or a comparison leaves in its folder, which may be read again from anywhere."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..secrets import content_without_secrets
from ..tasks import TaskArguments
from .parsing import field_names

_HEAD = "# Relative paths are seen from"
_PLACE = re.compile(rf"^{_HEAD} (.+)$", re.MULTILINE)
_MODELS = ("teacher", "student")


def recorded_text(content: Mapping[str, Any], head: str, folder: Path) -> str:
    """A recipe as it is written into a folder, with the place that its relative paths are seen from.

    Args:
        head: its first line, a comment.
    """
    text = yaml.safe_dump(content_without_secrets(content), sort_keys=False, allow_unicode=True)
    try:
        place = f"{_HEAD} {os.path.relpath(Path.cwd(), folder)}\n"
    except ValueError:  # two drives
        place = ""
    return f"{head}{place}{text}"


def seen_from_here(content: dict[str, Any], file: Path) -> dict[str, Any]:
    """The content of a recipe file with the paths that it recorded as they are seen from the working directory.

    A path that is not there any more stays as it is, and so does every recipe that nobody recorded.
    """
    lines = file.read_text(encoding="utf-8", errors="replace").split("\n", 3)[:2]
    place = _PLACE.search("\n".join(lines))
    if place is None:
        return content
    base = file.parent / place[1]
    return content if _is_here(base) else _seen(content, base)


def _is_here(folder: Path) -> bool:
    return folder.is_dir() and folder.samefile(Path.cwd())


def _seen(content: dict[str, Any], base: Path) -> dict[str, Any]:
    paths = {*_MODELS, *(name for name in field_names(TaskArguments) if name.endswith("_file"))}
    return {key: _seen_value(value, base, key in paths) for key, value in content.items()}


def _seen_value(value: Any, base: Path, is_path: bool) -> Any:
    if isinstance(value, dict):
        return _seen(value, base)
    if is_path and isinstance(value, str) and not Path(value).is_absolute() and (base / value).exists():
        return str((base / value).resolve())
    return value
