"""A lock on a folder, so that two processes never write into it at once. The kernel releases it, whatever happens.

The lock is on an open file, not the file itself: one that a kill left behind locks nothing.
"""

from __future__ import annotations

import errno
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from accelerate import PartialState

from ..errors import InputError
from ..wording import counted
from .disk import AGAIN, explain_full_disk
from .files import PARTIAL, remove_leftovers
from .processes import gathered, on_main

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

LOCK_NAME = ".ted-lock"
_CANNOT = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""Where a file system has no locks."""
_APPEARS_WITHIN, _LOOKS_EVERY = 60.0, 0.5
"""Seconds: NFS may remember for up to a minute that a file is not there."""
_held: set[int] = set()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep all other runs and stages out of a folder. Under `torchrun` the main process holds the lock for all.

    What a kill left half written in the folder is deleted. Folders that are made for it are gone again if what is done
    in it fails and leaves nothing.

    Raises:
        InputError: another process holds it, the lock cannot be opened, or not all processes of `torchrun` see the
            folder.
        TrainingError: the disk is full.
    """
    taken: list[int] = []
    with explain_full_disk([folder], then=AGAIN), _gone_if_empty(folder):
        try:
            on_main(lambda: taken.extend(_take(folder)))
            _refuse_unshared(folder)
            yield
        finally:
            for descriptor in taken:
                _release(folder, descriptor)


def _refuse_unshared(folder: Path) -> None:
    """Refuse a folder on a disk of the main process's machine alone: the other processes read what it writes there."""
    processes = PartialState().num_processes
    if processes == 1:
        return
    mark = on_main(lambda: Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder)).name)
    blind = [rank for rank, sees in enumerate(gathered(_sees(folder / mark))) if not sees]
    on_main(lambda: (folder / mark).rmdir())
    if blind:
        raise InputError(
            f"output_dir: expected a folder that all processes see, got {folder}, which "
            f"{counted(len(blind), 'process')} of {processes} (the first has rank {blind[0]}) cannot see; give a "
            "folder on a disk that all machines share"
        )


def _sees(path: Path) -> bool:
    """Whether something that another machine has just made appears within the time that network disks may take."""
    until = time.monotonic() + _APPEARS_WITHIN
    while not path.exists():
        if time.monotonic() > until:
            return False
        time.sleep(_LOOKS_EVERY)
    return True


@contextmanager
def _gone_if_empty(folder: Path) -> Iterator[None]:
    """Leave no new and empty folder behind, nor those above it, if something goes wrong."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for path in new:
                path.rmdir()
        raise


@contextmanager
def locked_here(folder: Path) -> Iterator[None]:
    """The same for this process alone, whatever the others of `torchrun` do."""
    taken = _take(folder)
    try:
        yield
    finally:
        for descriptor in taken:
            _release(folder, descriptor)


def refuse_busy(folder: Path) -> None:
    """Refuse a folder in which another process is working. Writes nothing.

    Raises:
        InputError: the folder is locked, or its lock cannot be opened.
    """

    def look() -> None:
        try:
            descriptor = _opened(folder / LOCK_NAME, os.O_RDWR)
        except OSError:
            return
        try:
            if not _lock(descriptor):
                raise _busy(folder)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
        finally:
            os.close(descriptor)

    on_main(look)


def _take(folder: Path) -> list[int]:
    """The descriptor of the locked file; none where files cannot be locked."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / LOCK_NAME
    while True:
        descriptor = _opened(file, os.O_RDWR | os.O_CREAT)
        try:
            if not _lock(descriptor):
                raise _busy(folder)
        except OSError as error:
            os.close(descriptor)
            if error.errno not in _CANNOT:
                raise
            file.unlink(missing_ok=True)
            logger.warning("%s: this file system cannot lock (%s); start no second run here", folder, error.strerror)
            return []
        except InputError:
            os.close(descriptor)
            raise
        # Whoever held the lock before may have deleted the file meanwhile; a lock on a deleted file keeps nobody out.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), file.stat()):
                _held.add(descriptor)
                remove_leftovers(folder)
                return [descriptor]
        os.close(descriptor)


def _opened(file: Path, flags: int) -> int:
    """The descriptor of a lock file, which may be another user's: to lock it, it is enough to read it.

    Raises:
        InputError: it can be neither written nor read.
        OSError: it cannot be opened for another reason than its rights.
    """
    try:
        return os.open(file, flags, 0o644)
    except PermissionError as error:
        try:
            return os.open(file, os.O_RDONLY)
        except OSError:
            raise InputError(
                f"output_dir: expected a lock that can be opened, got {file} ({error.strerror}), which may be another "
                "user's; change its rights, delete it if nobody works there, or give another output_dir"
            ) from error


def _lock(descriptor: int) -> bool:
    """Lock an open file, unless another process has; says whether it is locked now."""
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            return False
        raise
    return True


def _release(folder: Path, descriptor: int) -> None:
    if descriptor not in _held:  # in a forked process, whose parent holds it
        return
    _held.discard(descriptor)
    # While it is still locked, so that nobody else's is deleted; Windows does not delete open files.
    with suppress(OSError):
        (folder / LOCK_NAME).unlink()
    os.close(descriptor)


def _busy(folder: Path) -> InputError:
    return InputError(
        f"output_dir: expected {folder} to be free, got a folder in which another process is working; wait until it "
        "is done, stop it, or give another output_dir"
    )


def _forget() -> None:
    """A forked process, such as a data loader's, must not go on holding the lock when the one that took it is dead."""
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
