"""Where an export, or a bench, is published: never over the files of anything else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..models.given import was_in_memory
from ..output import MANIFEST_NAME, DamagedFileError, check_writable, read_manifest, refuse_busy, refuse_own_folder
from ..stages.stage_identity import refuse_foreign


def beside(name: str, suffix: str) -> Path:
    """A checkpoint's folder with `-SUFFIX` after its name; of a Hub id or a model in memory, one in the current one."""
    place = Path(name)
    if not place.is_dir() or was_in_memory(name):
        return Path(f"{place.name}-{suffix}")
    # `.` and `..` have no name of their own.
    place = place if place.name not in ("", "..") else place.resolve()
    return place.with_name(f"{place.name}-{suffix}")


def check_folder(folder: Path, stage: str, models: Iterable[str]) -> None:
    """Refuse a folder that holds anything but what an earlier call of the same command published.

    Args:
        stage: what `stage.json` calls the command.
        models: that go in.

    Raises:
        InputError: says what it holds.
    """
    check_writable(folder)
    refuse_busy(folder)
    refuse_own_folder(folder, models)
    manifest = _manifest(folder)
    if manifest is None:
        refuse_foreign(folder)
    elif manifest.get("stage") != stage:
        raise InputError(
            f"output_dir: expected a folder for {_NAMES[stage]}, got {folder}, which holds {manifest.get('stage')!r}; "
            "give another output_dir"
        )


_NAMES = {"export": "an export", "bench": "a bench"}


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        return read_manifest(folder)
    except DamagedFileError as error:
        raise InputError(
            f"output_dir: expected {folder} as it was written, got a damaged {MANIFEST_NAME}; delete the folder, or "
            "give another output_dir"
        ) from error
