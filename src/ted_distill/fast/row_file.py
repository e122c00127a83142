"""Rows of tensors at fixed positions in a file, each with a checksum, and where they begin."""

from __future__ import annotations

import os
import tempfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .position_file import PositionFile

_KNOWN = 1 << 32
_CHECK_BYTES = 8
_AT_ONCE = 1 << 16


class RowForm(NamedTuple):
    """What a row looks like."""

    shape: list[int]
    """Of a row, or of each of its tokens."""
    per_token: bool
    dtype: torch.dtype


class RowFile:
    """Rows of one shape, or of one shape per token, at fixed positions in a file."""

    def __init__(self, name: Path, form: RowForm, starts: np.ndarray) -> None:
        self.form = form
        self.starts = starts
        self.item_bytes = int(np.prod(form.shape, dtype=np.int64)) * form.dtype.itemsize
        self.data = PositionFile(name.with_suffix(".bin"))
        self.checks = PositionFile(name.with_suffix(".check"))
        self._seen = bytearray(-(-len(starts) // 8))
        """A bit for each row that is known to be whole."""

    def knows(self, rows: list[int]) -> bool:
        """Whether all rows were written, by this process or another."""
        return all(self._has_seen(row) or self._check(row) for row in rows)

    def _has_seen(self, row: int) -> bool:
        return bool(self._seen[row >> 3] >> (row & 7) & 1)

    def _see(self, row: int) -> None:
        self._seen[row >> 3] |= 1 << (row & 7)

    def _start(self, row: int) -> int:
        """The position of a row in the file."""
        return (int(self.starts[row]) if self.form.per_token else row) * self.item_bytes

    def _size(self, row: int) -> int:
        """The bytes of a row, without padding."""
        tokens = int(self.starts[row + 1]) - int(self.starts[row]) if self.form.per_token else 1
        return tokens * self.item_bytes

    def _check(self, row: int) -> int:
        """The checksum of a row as it was written; 0 if it was not."""
        buffer = bytearray(_CHECK_BYTES)
        count = self.checks.read(memoryview(buffer), row * _CHECK_BYTES)
        return int.from_bytes(buffer, "little") if count == _CHECK_BYTES else 0

    def _set_check(self, row: int, check: int) -> None:
        self.checks.write(check.to_bytes(_CHECK_BYTES, "little"), row * _CHECK_BYTES)

    def write(self, rows: list[int], tensor: Tensor) -> None:
        """Write rows of (B, ...) or (B, T, ...), without padding."""
        for row, values in zip(rows, tensor, strict=True):
            data = _bytes(values)[: self._size(row)]
            self.data.write(data, self._start(row))
            self._set_check(row, zlib.crc32(data) | _KNOWN)
            self._see(row)

    def read(self, rows: list[int], width: int) -> Tensor | None:
        """The rows, padded with zeros to `width` tokens; None if the checksum of one is wrong."""
        shape = (len(rows), width, *self.form.shape) if self.form.per_token else (len(rows), *self.form.shape)
        tensor = torch.zeros(shape, dtype=self.form.dtype)
        whole = _bytes(tensor)
        size = len(whole) // max(1, len(rows))
        for number, row in enumerate(rows):
            if self._size(row) > size:
                return None
            data = whole[number * size : number * size + self._size(row)]
            count = self.data.read(data, self._start(row))
            # Checked once per process: a row may have been damaged before; later it is only replaced by its equal.
            if not self._has_seen(row):
                if count != len(data) or zlib.crc32(data) | _KNOWN != self._check(row):
                    return None
                self._see(row)
        return tensor


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def row_starts(lengths: np.ndarray, folder: Path) -> np.ndarray:
    """(N + 1,) tokens before each row, and of all rows; in a nameless file in `folder`, out of a process's memory.

    Where the system has no such files, or the disk is full: in memory.
    """
    lengths = np.asarray(lengths)
    if os.name == "posix":
        with suppress(OSError), tempfile.TemporaryFile(dir=folder) as file:
            tokens = 0
            file.write(bytes(8))
            for first in range(0, len(lengths), _AT_ONCE):
                ends = lengths[first : first + _AT_ONCE].cumsum(dtype=np.int64) + tokens
                file.write(ends.tobytes())
                tokens = int(ends[-1])
            file.flush()
            return np.memmap(file, np.int64, "r")
    return np.concatenate([[0], lengths.cumsum(dtype=np.int64)])
