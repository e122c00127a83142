"""Hidden states and logits of a frozen model on disk: computed once for each row.

A frozen model's outputs are the same in every epoch, for every student and every method, so Stage I and Stage II read
them from files after the first time. The hidden states are kept as they are before any filter, so the same files work
for the filters of both stages and the unfiltered teacher of plain layer-wise distillation. Only real tokens are kept.

A cache belongs to one model and one set of features: its folder's name is a hash of the model's identity and number
type, of the token ids, and of which tokens are kept. One file holds the logits, one the hidden states of each block:

    logits.bin  logits.json  logits.check  block_2.bin  block_2.json  block_2.check  queries_6.bin ...

The checksum of a row, written after it, is its CRC-32: a row that was cut off or changed counts as missing. Files are
read and written by position rather than mapped into memory, where gigabytes of them would count as the process's
memory, and where a full disk kills the process. Where each row begins is written into a file without a name, which is
read as needed, so that a process needs a bit of memory for each row and file, however long the rows are.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from .. import identity
from ..method.filters import Batch, RunModel, Signals
from ..output import read_if_sound, write_sealed
from ..output.disk import existing
from ..wording import size
from .row_file import RowFile, RowForm, row_starts

logger = logging.getLogger(__name__)

ROW = "row"
"""Key of a batch: the numbers of its rows in the features they are from."""
CACHE_NAME = "states-cache"
"""The folder of caches inside that of a run or a stage."""
_FILE = r"(logits|(block|queries|keys|values)_\d+)"
_OURS = re.compile(rf"{_FILE}\.(bin|json|check)|\.{_FILE}\.[0-9a-f]+\.json|\.nfs[0-9a-f]+")


class StatesCache:
    """A frozen model's outputs for features: `cache(batch, blocks, run)` reads them, or calls `run` and keeps them.

    Hidden states are read back bit for bit, in the number type that they had.

    Several processes that share the frozen model's weights run it together or not at all: see `agree`.

    Args:
        folder: for one model and one set of features; see `cache_folder`.
        lengths: (N,) tokens kept of each feature.
        one_a_row: keep one hidden state of each row: that of its first token, or the mean of all.
        with_hidden_states: False if they do not fit on the disk; then only the logits are kept.
    """

    agree: Callable[[bool], bool] | None = None
    """Whether something is true in all processes, each of which calls it with every batch; None if each may run its
    frozen model by itself."""

    def __init__(
        self,
        folder: Path,
        lengths: np.ndarray,
        one_a_row: bool = False,
        with_hidden_states: bool = True,
    ) -> None:
        self.folder = folder
        self.one_a_row = one_a_row
        self.with_hidden_states = with_hidden_states
        self._files: dict[str, RowFile] = {}
        self._cannot_read = self._cannot_write = False
        self.bytes_to_come = 0
        """Room on the disk that the rows still missing will take, if it is known."""
        folder.mkdir(parents=True, exist_ok=True)
        self.starts = row_starts(lengths, folder)

    @property
    def lengths(self) -> np.ndarray:
        """(N,) tokens kept of each feature."""
        return np.diff(self.starts)

    def __call__(
        self, batch: Batch, blocks: Sequence[int], run: RunModel, relation_block: int | None = None
    ) -> Signals:
        """Logits and hidden states (B, T, D) of `blocks`; those read from the files are zero at padding.

        Args:
            relation_block: also the queries, keys and values (B, T, D) of this block.
        """
        found: list[Tensor] | None = None
        rows: list[int] = []
        names = ["logits", *(f"block_{block}" for block in blocks)]
        if ROW in batch:
            rows = batch[ROW].tolist()
            if relation_block is not None:
                names += [f"{kind}_{relation_block}" for kind in ("queries", "keys", "values")]
            found = self._found(rows, names, batch["input_ids"].shape[1])
        kept = found is not None
        if self.agree is not None and not self.agree(kept):
            found = None
        if found is None:
            signals = run(batch)
            if rows and not kept:
                self._keep(rows, names, signals)
            return signals
        logits, *others = (tensor.to(batch["input_ids"].device, non_blocking=True) for tensor in found)
        return Signals(logits, others[: len(blocks)], others[len(blocks) :])

    def _found(self, rows: list[int], names: Sequence[str], tokens: int) -> list[Tensor] | None:
        """The same as `_find`; None from the first error on, such as that of a network's disk."""
        try:
            return None if self._cannot_read else self._find(rows, names, tokens)
        except OSError as error:
            self._cannot_read = self._cannot_write = True
            self._say("read from", error)
            return None

    def _find(self, rows: list[int], names: Sequence[str], tokens: int) -> list[Tensor] | None:
        """The rows of every file, padded to `tokens`; None if a file lacks one of them."""
        found: list[Tensor] = []
        for name in names:
            file = self._files.get(name) or self._open(name)
            if file is None or not file.knows(rows):
                return None
            width = 1 if self.one_a_row and name != "logits" else tokens
            tensor = file.read(rows, width)
            if tensor is None:
                return None
            found.append(tensor)
        return found

    def _keep(self, rows: list[int], names: Sequence[str], signals: Signals) -> None:
        if self._cannot_write:
            return
        tensors = [signals.logits.float()]
        if self.with_hidden_states:
            # In their own type: some families keep part of a cast model in float32, and float16 would not hold it.
            tensors += [*signals.states, *signals.vectors]
        try:
            for name, tensor in zip(names, tensors, strict=False):
                file = self._files.get(name) or self._open(name) or self._create(name, tensor)
                file.write(rows, tensor.detach().cpu().contiguous())
        except OSError as error:
            self._cannot_write = True
            self._say("write into", error)

    def _say(self, doing: str, error: OSError) -> None:
        logger.warning(
            "cache_dir: expected to %s %s, got an error (%s); running the frozen model in every epoch",
            doing, self.folder, error.strerror,
        )  # fmt: skip

    def _open(self, name: str) -> RowFile | None:
        """The file, if it was created before."""
        form = read_if_sound(self.folder / f"{name}.json")
        if not form:
            return None
        return self._file(name, RowForm(form["shape"], form["per_token"], getattr(torch, form["dtype"])))

    def _create(self, name: str, tensor: Tensor) -> RowFile:
        """A file for rows like those of (B, ...) or (B, T, ...) `tensor`."""
        per_token = tensor.dim() > 2 and not (name != "logits" and self.one_a_row)
        shape = list(tensor.shape[2:] if per_token else tensor.shape[1:])
        form = {"shape": shape, "per_token": per_token, "dtype": str(tensor.dtype).removeprefix("torch.")}
        partial = self.folder / f".{name}.{uuid.uuid4().hex}.json"
        write_sealed(partial, form)
        partial.replace(self.folder / f"{name}.json")
        return self._file(name, RowForm(shape, per_token, tensor.dtype))

    def _file(self, name: str, form: RowForm) -> RowFile:
        self._files[name] = RowFile(self.folder / name, form, self.starts)
        return self._files[name]


# --- which cache, and does it fit -----------------------------------------------------------------------------


def open_cache(
    cache_dir: Path,
    cache_limit: float,
    model: str,
    features: Dataset,
    blocks: int,
    hidden_size: int,
    dtype: torch.dtype,
    filter_token: str | None = None,
) -> StatesCache:
    """The cache of a model's hidden states and logits for features, or only of the logits if hidden states do not fit.

    Args:
        cache_limit: gigabytes that all caches in `cache_dir` may take together; half of the free disk is a limit too.
        model: fingerprint of the model's identity.
        blocks: the number of blocks whose hidden states are wanted.
        filter_token: `first` or `mean`: one state is kept for each row; None: one for each token.
    """
    lengths = np.asarray(features.with_format("numpy")["length"][:])
    folder = cache_folder(cache_dir, model, features, dtype, filter_token)
    tokens = len(lengths) if filter_token else int(lengths.sum())
    needed = tokens * hidden_size * dtype.itemsize * blocks
    others = _size(cache_dir, but=folder)
    free = (shutil.disk_usage(existing(cache_dir)).free + _size(folder)) // 2
    fits = needed <= min(cache_limit * 1e9 - others, free)
    if blocks and not fits:
        logger.warning(
            "cache_limit: expected room for hidden states of %d features (%s), got less (%g GB, %s taken; half of the "
            "free disk: %s); running the frozen model in every epoch",
            len(lengths), size(needed), cache_limit, size(others), size(free),
        )  # fmt: skip
    elif blocks:
        logger.info("hidden states of %d features: up to %s in %s", len(lengths), size(needed), folder)
    cache = StatesCache(folder, lengths, filter_token is not None, fits)
    cache.bytes_to_come = max(0, needed - _size(folder)) if fits else 0
    return cache


def remove_caches(cache_dir: Path) -> None:
    """Delete the caches in a folder, and the folder if nothing else is in it."""
    for folder in cache_dir.glob("*"):
        if folder.is_dir() and all(_OURS.fullmatch(file.name) for file in folder.iterdir()):
            shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        cache_dir.rmdir()


def cache_folder(cache_dir: Path, model: str, features: Dataset, dtype: torch.dtype, filter_token: str | None) -> Path:
    """The folder for this model's hidden states for exactly these token ids."""
    names = [name for name in ("input_ids", "token_type_ids", "length") if name in features.column_names]
    tokens = identity.rows_fingerprint(features.select_columns(names))
    return cache_dir / identity.fingerprint([model, str(dtype), filter_token, tokens])[:24]


def _size(folder: Path, but: Path | None = None) -> int:
    """Bytes on disk below a folder; sparse files count only their allocated bytes."""
    total = 0
    for file in folder.rglob("*"):
        # Another process may be creating its own, which it renames.
        with suppress(FileNotFoundError):
            if file.is_file() and (but is None or but not in file.parents):
                total += _allocated(file.stat())
    return total


def _allocated(found: os.stat_result) -> int:
    return found.st_blocks * 512 if hasattr(found, "st_blocks") else found.st_size
