"""A file that is read and written at given positions."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path


class PositionFile:
    """A file that is read and written at given positions. Where the system has no such calls: seek, under a lock."""

    def __init__(self, file: Path) -> None:
        binary = getattr(os, "O_BINARY", 0)
        try:
            self.descriptor = os.open(file, os.O_RDWR | os.O_CREAT | binary, 0o644)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            self.descriptor = os.open(file, os.O_RDONLY | binary)  # of another user: what it has can be read
        self._place = threading.Lock()

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)

    def write(self, data: bytes | memoryview, position: int) -> None:
        """Write all of `data` at `position`. Raises `OSError`, also if the disk takes only a part."""
        rest = memoryview(data)
        while len(rest):
            if hasattr(os, "pwrite"):
                count = os.pwrite(self.descriptor, rest, position)
            else:
                with self._place:
                    os.lseek(self.descriptor, position, os.SEEK_SET)
                    count = os.write(self.descriptor, rest)
            rest, position = rest[count:], position + count

    def read(self, buffer: memoryview, position: int) -> int:
        """Fill `buffer` from `position`; returns the number of bytes, fewer at the end of the file."""
        if hasattr(os, "preadv"):
            return os.preadv(self.descriptor, [buffer], position)
        with self._place:
            os.lseek(self.descriptor, position, os.SEEK_SET)
            found = os.read(self.descriptor, len(buffer))
        buffer[: len(found)] = found
        return len(found)
