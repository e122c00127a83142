"""Room on disks: is there enough before a stage starts, and what to say when there is none left."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError, TrainingError
from ..wording import size

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# torch and safetensors write in C++ and Rust: their errors have no number.
_WORDS_OF_FULL = (
    "no space left on device", "disk quota exceeded", "file too large", "os error 28", "os error 27", "os error 122",
    "unexpected pos", "pytorchstreamwriter failed", "file write failed", "inline_container",
)  # fmt: skip


AGAIN = "the same command does it again"
"""What follows when there is room, where nothing was trained."""
_SHARED_MEMORY = "unable to write to file </torch_"
"""What PyTorch says when processes that make batches have no room to hand them over."""


class Need(NamedTuple):
    """Room that will be taken."""

    what: str
    folder: Path
    size: int
    """Bytes."""


def check_space(needs: Sequence[Need]) -> None:
    """Compare what will be written with what is free, disk by disk.

    Raises:
        InputError: says which disk, how much is needed for what, and how much is free.
    """
    problems = []
    for disk, found in groupby(sorted(needs, key=lambda need: _disk(need.folder)), key=lambda need: _disk(need.folder)):
        of_disk = [need for need in found if need.size > 0]
        needed, free = sum(need.size for need in of_disk), shutil.disk_usage(disk).free
        if needed > free:
            parts = ", ".join(f"{need.what} {size(need.size)}" for need in of_disk)
            problems.append(
                f"output_dir: expected {size(needed)} free on the disk at {disk} ({parts}), got "
                f"{size(free)}; make room, or give an output_dir on another disk"
            )
    if problems:
        raise InputError(problems)


@contextmanager
def explain_full_disk(
    folders: Sequence[Path], needed: int | None = None, then: str = "the same command resumes from the last checkpoint"
) -> Iterator[None]:
    """Turn any error that a full disk causes into one line.

    Args:
        folders: where the code inside writes.
        needed: bytes it needs in all, if that is known.
        then: what happens once there is room.

    Raises:
        TrainingError: says which disk is full, how much is needed, and what to do.
    """
    try:
        yield
    except (InputError, TrainingError):
        raise
    except Exception as error:
        if not is_full(error):
            raise
        # Of a copy, the first name is that of the source.
        name = (error.filename2 or error.filename) if isinstance(error, OSError) else None
        named = [Path(name)] if isinstance(name, str) else folders
        disk = min({_disk(folder) for folder in named}, key=lambda disk: shutil.disk_usage(disk).free)
        if _SHARED_MEMORY in str(error):
            raise TrainingError(
                f"{folders[0]}: expected room in shared memory (/dev/shm) for batches of dataloader_num_workers, got "
                "none left; raise it (docker run --shm-size), or set dataloader_num_workers to 0, and the same command "
                "resumes from the last checkpoint"
            ) from error
        wanted = f"{size(needed)} are needed" if needed else "more is needed"
        free = size(shutil.disk_usage(disk).free)
        raise TrainingError(
            f"{folders[0]}: the disk at {disk} is full: {free} are free, {wanted}; make room, and {then}"
        ) from error


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is that a disk or a quota is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if any(words in str(error).lower() for words in _WORDS_OF_FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def existing(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())


def _disk(folder: Path) -> str:
    """Where the disk of a folder is mounted."""
    at = existing(folder).resolve()
    while not os.path.ismount(at) and at != at.parent:
        at = at.parent
    return str(at)
