"""Hidden states and logits of a frozen model on disk: what it says about a row is computed once.

A frozen model says the same in every epoch, to every student and for every method, so Stage I and Stage II read it
from files after the first time. Kept are its hidden states before any filter: the same files serve the filters of
both stages and the unfiltered teacher of plain layer-wise distillation. Real tokens only.

A cache belongs to one model and one set of features: its folder's name is a hash of the model's weights and number
type, of the token ids, and of which tokens are kept. One file holds the logits, one the hidden states of each block:

    logits.bin  logits.json  logits.check  block_2.bin  block_2.json  block_2.check ...

The check of a row, written after the row, is its CRC-32: a row that was cut off is not known. Files are read and
written by position and not mapped into memory, where gigabytes of them would count as the process's own.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from ..method.filters import BlockStates, ReadStates

logger = logging.getLogger(__name__)

FEATURE = "feature"
"""Key of a batch: numbers of its rows in the features they come from."""
_KNOWN = 1 << 32


class StatesCache:
    """What a frozen model says about features: `cache(batch, blocks, read)` looks it up, or asks `read` and keeps it.

    Args:
        folder: one model's and one set of features' own; see `cache_folder`.
        lengths: (N,) tokens kept of each feature.
        dtype: type of the hidden states as the model gives them; they come back bit for bit.
        first_token_only: hidden states are of the first token alone.
        with_hidden_states: False where they do not fit on the disk: the logits alone are kept.
    """

    def __init__(
        self,
        folder: Path,
        lengths: np.ndarray,
        dtype: torch.dtype,
        first_token_only: bool = False,
        with_hidden_states: bool = True,
    ) -> None:
        self.folder = folder
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self.dtype = dtype
        self.first_token_only = first_token_only
        self.with_hidden_states = with_hidden_states
        self._files: dict[str, _RowFile] = {}
        self._broken = False
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, batch: dict[str, Tensor], blocks: Sequence[int], read: ReadStates) -> BlockStates:
        """Logits and hidden states (B, T, D) of a batch; zeros stand at padding if they come from the files."""
        if FEATURE not in batch:
            return read(batch)
        rows = batch[FEATURE].tolist()
        width = 1 if self.first_token_only else batch["input_ids"].shape[1]
        found = self._find(rows, blocks, width, batch["input_ids"].shape[1])
        if found is None:
            found = read(batch)
            self._keep(rows, found)
            return found
        device = batch["input_ids"].device
        states = {block: states.to(device, non_blocking=True) for block, states in found.hidden_states.items()}
        return BlockStates(found.logits.to(device, non_blocking=True), states)

    def _find(self, rows: list[int], blocks: Sequence[int], width: int, tokens: int) -> BlockStates | None:
        names = ["logits", *(f"block_{block}" for block in blocks)]
        files = [self._files.get(name) or self._open(name) for name in names]
        if not all(file is not None and file.knows(rows) for file in files):
            return None
        widths = [tokens] + [width] * len(blocks)
        tensors = [file.read(rows, width) for file, width in zip(files, widths, strict=True) if file is not None]
        if any(tensor is None for tensor in tensors):
            return None
        logits, *states = (tensor for tensor in tensors if tensor is not None)
        return BlockStates(logits, dict(zip(blocks, states, strict=True)))

    def _keep(self, rows: list[int], found: BlockStates) -> None:
        if self._broken:
            return
        tensors = {"logits": found.logits.float()}
        if self.with_hidden_states:
            tensors |= {f"block_{block}": states.to(self.dtype) for block, states in found.hidden_states.items()}
        try:
            for name, tensor in tensors.items():
                file = self._files.get(name) or self._open(name) or self._create(name, tensor, len(rows))
                file.write(rows, tensor.detach().cpu().contiguous())
        except OSError as error:
            self._broken = True
            logger.warning("%s cannot be written (%s): the model is run in every epoch", self.folder, error.strerror)

    def _open(self, name: str) -> _RowFile | None:
        """The file, if it was created before."""
        description = self.folder / f"{name}.json"
        try:
            form = json.loads(description.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return self._file(name, _RowForm(form["shape"], form["per_token"], getattr(torch, form["dtype"])))

    def _create(self, name: str, tensor: Tensor, rows: int) -> _RowFile:
        """A file for rows like those of (B, ...) or (B, T, ...) `tensor`."""
        per_token = tensor.dim() > 2 and not (name != "logits" and self.first_token_only)
        shape = list(tensor.shape[2:] if per_token else tensor.shape[1:])
        form = {"shape": shape, "per_token": per_token, "dtype": str(tensor.dtype).removeprefix("torch.")}
        partial = self.folder / f".{name}.{os.getpid()}.json"
        partial.write_text(json.dumps(form), encoding="utf-8")
        partial.replace(self.folder / f"{name}.json")
        return self._file(name, _RowForm(shape, per_token, tensor.dtype))

    def _file(self, name: str, form: _RowForm) -> _RowFile:
        self._files[name] = _RowFile(self.folder / name, form, self.lengths)
        return self._files[name]


class _RowForm(NamedTuple):
    shape: list[int]
    """Of a row, or of each of its tokens."""
    per_token: bool
    dtype: torch.dtype


class _RowFile:
    """Rows of one shape, or of one shape a token, at fixed places of a file."""

    def __init__(self, name: Path, form: _RowForm, lengths: np.ndarray) -> None:
        self.form = form
        self.lengths = lengths if form.per_token else np.ones_like(lengths)
        self.item_bytes = int(np.prod(form.shape, dtype=np.int64)) * form.dtype.itemsize
        ends = self.lengths.cumsum() * self.item_bytes
        self.starts = ends - self.lengths * self.item_bytes
        self.descriptor = os.open(name.with_suffix(".bin"), os.O_RDWR | os.O_CREAT, 0o644)
        checks = name.with_suffix(".check")
        with checks.open("a+b") as file:
            file.truncate(8 * len(lengths))
        self.checks = np.memmap(checks, dtype=np.uint64, mode="r+", shape=(len(lengths),))
        self.seen = np.zeros(len(lengths), dtype=bool)

    def __del__(self) -> None:
        os.close(self.descriptor)

    def knows(self, rows: list[int]) -> bool:
        """Whether all rows were written."""
        return bool((self.checks[rows] != 0).all())

    def write(self, rows: list[int], tensor: Tensor) -> None:
        """Write rows of (B, ...) or (B, T, ...), without padding."""
        for row, values in zip(rows, tensor, strict=True):
            data = _bytes(values[: self.lengths[row]] if self.form.per_token else values)
            os.pwrite(self.descriptor, data, int(self.starts[row]))
            self.checks[row] = zlib.crc32(data) | _KNOWN
            self.seen[row] = True

    def read(self, rows: list[int], width: int) -> Tensor | None:
        """The rows, padded with zeros to `width` tokens; None if one is not what was written."""
        shape = (len(rows), width, *self.form.shape) if self.form.per_token else (len(rows), *self.form.shape)
        tensor = torch.zeros(shape, dtype=self.form.dtype)
        for row, values in zip(rows, tensor, strict=True):
            data = _bytes(values[: self.lengths[row]] if self.form.per_token else values)
            count = os.preadv(self.descriptor, [data], int(self.starts[row]))
            # Looked at once in a process: files do not change later, but may have been cut off before.
            if not self.seen[row]:
                if count != len(data) or zlib.crc32(data) | _KNOWN != int(self.checks[row]):
                    self.checks[row] = 0
                    return None
                self.seen[row] = True
        return tensor


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data


# --- which cache, and does it fit -----------------------------------------------------------------------------


def open_cache(
    cache_dir: Path,
    cache_limit: float,
    weights_sha256: str,
    features: Dataset,
    blocks: int,
    hidden_size: int,
    dtype: torch.dtype,
    first_token_only: bool = False,
) -> StatesCache:
    """The cache of a model's hidden states on features; of its logits alone where the former do not fit.

    Args:
        cache_limit: gigabytes that all caches in `cache_dir` may take together; half of the free disk is another limit.
        weights_sha256: `filters.fingerprint` of the model, and whatever else changes what it says.
        blocks: how many blocks' hidden states are wanted.
    """
    lengths = np.asarray(features.with_format("numpy")["length"][:])
    folder = cache_folder(cache_dir, weights_sha256, features, dtype, first_token_only)
    tokens = len(lengths) if first_token_only else int(lengths.sum())
    needed = tokens * hidden_size * dtype.itemsize * blocks
    others = _size(cache_dir, but=folder)
    free = (shutil.disk_usage(_existing(cache_dir)).free + _size(folder)) // 2
    fits = needed <= min(cache_limit * 1e9 - others, free)
    if blocks and not fits:
        logger.warning(
            "hidden states of %d features would take %.1f GB, and cache_limit (%g GB, %.1f taken) or half of the free "
            "disk (%.1f GB) is less: the model is run in every epoch", len(lengths), needed / 1e9, cache_limit,
            others / 1e9, free / 1e9,
        )  # fmt: skip
    elif blocks:
        logger.info("hidden states of %d features: up to %.2f GB in %s", len(lengths), needed / 1e9, folder)
    return StatesCache(folder, lengths, dtype, first_token_only, fits)


def cache_folder(
    cache_dir: Path, weights_sha256: str, features: Dataset, dtype: torch.dtype, first_token_only: bool
) -> Path:
    """The folder that only this model's hidden states on these token ids can have."""
    digest = hashlib.sha256(f"{weights_sha256} {dtype} {first_token_only} {len(features)}".encode())
    names = [name for name in ("input_ids", "token_type_ids", "length") if name in features.column_names]
    for batch in features.select_columns(names).with_format("arrow").iter(batch_size=4096):
        for name in names:
            column = batch.column(name).combine_chunks()
            values = column.flatten() if name != "length" else column
            digest.update(f"{name} {len(values)}".encode())
            digest.update(np.ascontiguousarray(values.to_numpy(zero_copy_only=False)).astype(np.int64).tobytes())
    return cache_dir / digest.hexdigest()[:24]


def _size(folder: Path, but: Path | None = None) -> int:
    """Bytes on disk below a folder; files with holes count what they take."""
    files = [file for file in folder.rglob("*") if file.is_file() and (but is None or but not in file.parents)]
    return sum(file.stat().st_blocks * 512 for file in files)


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
