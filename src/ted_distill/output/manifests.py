"""Manifests: `stage.json` and `checkpoint.json` have the size and the sha256 of every file, and are written last.

A file that describes others has its own sum, under `sha256`: the fingerprint of the rest of its content.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..identity import file_fingerprint, fingerprint, plain

logger = logging.getLogger(__name__)

MANIFEST_NAME = "stage.json"
_SUM, _FILES = "sha256", "files"
_FOR_PEOPLE = {"README.md"}
"""Files that nothing reads, so that they may be edited."""


class DamagedFileError(InputError):
    """A file of ours does not hold what was written into it."""


# --- files with their own sum ---------------------------------------------------------------------------------


def write_sealed(file: Path, content: Mapping[str, Any]) -> None:
    """Write JSON together with its own sum."""
    known = plain(dict(content))
    text = json.dumps({**known, _SUM: fingerprint(known)}, indent=2, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")


def read_sealed(file: Path) -> dict[str, Any] | None:
    """What `write_sealed` wrote, without the sum; None if there is no such file.

    Raises:
        DamagedFileError: it holds anything else, or cannot be read.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        known = {name: value for name, value in content.items() if name != _SUM}
        if content[_SUM] == fingerprint(known):
            return known
    except (FileNotFoundError, NotADirectoryError):
        return None
    # Deep nesting is a RecursionError.
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        pass
    raise DamagedFileError(f"{file}: expected it as it was written, got other content; put it back from a copy")


def read_if_sound(file: Path) -> dict[str, Any]:
    """What `write_sealed` wrote, without the sum; empty if there is no such file, or a damaged one."""
    try:
        return read_sealed(file) or {}
    except DamagedFileError:
        return {}


# --- sums of files --------------------------------------------------------------------------------------------


def sums(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Size and sha256 of files of a folder, by name."""
    return {name: {"size": (folder / name).stat().st_size, "sha256": file_fingerprint(folder / name)} for name in names}


def damaged_files(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The files that are not what their manifest says, such as `config.json (changed)`."""
    found = {name: _damage(folder / name, known) for name, known in files.items()}
    return [f"{name} ({damage})" for name, damage in found.items() if damage]


def _damage(file: Path, known: Mapping[str, Any]) -> str | None:
    try:
        if not file.is_file():
            return "missing"
        # The size first: it costs nothing.
        same = file.stat().st_size == known["size"] and file_fingerprint(file) == known["sha256"]
    except OSError as error:
        return error.strerror or "unreadable"
    return None if same else "changed"


# --- stage.json -----------------------------------------------------------------------------------------------


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder that this package wrote; None if it has none.

    Version 0.1.0 wrote manifests without sums, and other programs may use the name: both count as none.

    Raises:
        DamagedFileError: there is one, but it is not as it was written.
    """
    file = folder / MANIFEST_NAME
    try:
        return read_sealed(file)
    except DamagedFileError:
        if _is_of_others(file):
            return None
        raise


def _is_of_others(file: Path) -> bool:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return not isinstance(content, dict) or not {_SUM, _FILES} & content.keys()


def shown_files(files: Sequence[str]) -> str:
    """The first three files of a list, for a message."""
    return ", ".join([*files[:3], *(["..."] if len(files) > 3 else [])])


def published_damage(folder: Path, manifest: Mapping[str, Any]) -> str | None:
    """The damaged files of a published folder, for a message, or None. A changed model card is only a warning."""
    files = manifest.get(_FILES, {})
    if edited := damaged_files(folder, {name: files[name] for name in files if name in _FOR_PEOPLE}):
        logger.warning("%s: %s since it was written; nothing reads it", folder, ", ".join(edited))
    damaged = damaged_files(folder, {name: files[name] for name in files if name not in _FOR_PEOPLE})
    return shown_files(damaged) or None


def check_inputs(folder: str | Path, name: str = "model") -> None:
    """Refuse a folder of this package as input if a file is not as it was written. Other folders, and Hub ids, pass.

    Args:
        name: what the folder is, for the message.

    Raises:
        InputError: names the files.
    """
    if not os.path.isdir(folder):  # noqa: PTH112  (never raises, whatever a Hub id looks like)
        return
    folder = Path(folder)
    to_do = f"put them back from a copy, make the folder again, or delete its {MANIFEST_NAME} to use it as it is"
    try:
        manifest = read_manifest(folder)
    except DamagedFileError as error:
        raise DamagedFileError(
            f"{name}: expected {folder} as it was written, got a damaged {MANIFEST_NAME}; {to_do}"
        ) from error
    if manifest and (damage := published_damage(folder, manifest)):
        raise DamagedFileError(f"{name}: expected {folder} as it was written, got {damage}; {to_do}")
