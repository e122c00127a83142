"""Files that appear whole or not at all, also after a power cut."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import InputError
from .disk import existing

PARTIAL = ".ted-partial-"
"""Prefix of folders still being written; leftovers may be deleted."""


def check_writable(folder: Path, name: str = "output_dir") -> None:
    """Refuse a folder that cannot be written, before any training. Leaves nothing behind.

    Args:
        name: the argument that names the folder.

    Raises:
        InputError: says why.
    """
    try:
        with tempfile.TemporaryFile(dir=existing(folder)):
            pass
    except OSError as error:
        raise InputError(
            f"{name}: {folder} cannot be written ({error.strerror}); choose another folder or change its rights"
        ) from error


# --- whole or not at all --------------------------------------------------------------------------------------


@contextmanager
def partial_folder(folder: Path) -> Iterator[Path]:
    """A new folder inside `folder` for files that are not whole yet; what is left of it at the end is deleted."""
    folder.mkdir(parents=True, exist_ok=True)
    sync(folder.parent)
    partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder))
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def atomic_files(folder: Path) -> Iterator[Path]:
    """A temporary folder whose files replace those of `folder` one by one once all of them are written."""
    with partial_folder(folder) as partial:
        yield partial
        settle(partial)
        move_files(partial, folder, files_below(partial))


def free_name(file: Path) -> Path:
    """The path itself, or with a number after it: the first that is not there."""
    names = (file, *(file.with_name(f"{file.name}-{number}") for number in range(2, 1000)))
    return next(name for name in names if not name.exists())


def files_below(folder: Path) -> list[str]:
    """Names of all files below a folder, in order, such as `additional_chat_templates/tool_use.jinja`."""
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def move_files(source: Path, target: Path, names: list[str]) -> None:
    """Move files from one folder to another of the same disk, replacing those there; ends with a sync."""
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).replace(target / name)
    for folder in {(target / name).parent for name in names} | {target}:
        sync(folder)


def remove_leftovers(folder: Path) -> None:
    """Delete what a kill left half written in a folder. Only for one who holds the folder's lock."""
    for partial in folder.glob(f"{PARTIAL}*"):
        shutil.rmtree(partial, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Delete a folder in such a way that a kill halfway leaves something that `remove_leftovers` deletes."""
    doomed = folder.with_name(f"{PARTIAL}removed-{folder.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.replace(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


# --- to the disk ----------------------------------------------------------------------------------------------


def settle(folder: Path) -> None:
    """Give the files below a folder the usual rights, and bring them and their folders to the disk.

    A rename may reach the disk before the content of what was renamed: after a power cut an empty file would stand
    under the final name.
    """
    mode = _readable()
    for name in files_below(folder):
        (folder / name).chmod(mode)
        sync(folder / name)
    for inner in [path for path in folder.rglob("*") if path.is_dir()]:
        sync(inner)
    sync(folder)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk; folders only where the system can."""
    if not path.is_dir():
        # Windows flushes only what is open for writing.
        with path.open("r+b") as file:
            os.fsync(file.fileno())
        return
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _readable() -> int:
    """The permissions that a plain `open` would give: safetensors makes its files readable only by their owner."""
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


# --- JSON -----------------------------------------------------------------------------------------------------


def write_json(file: Path, content: Any) -> None:
    """Write JSON that people can read."""
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


def read_json(file: Path) -> Any | None:
    """Content of a JSON file; None if it is missing or cut off."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
