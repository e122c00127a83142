"""What is known about models in folders, so that one that is loaded again is neither tried out nor hashed again.

A run loads its teacher for every stage and method. Each loads its own, since a stage casts, changes or trains what it
is given; what was found out about the weights is the same as long as the files are, and is kept while the run works.
Only words and numbers are kept, never weights. Files are known by their content, see `identity.file_fingerprint`.
"""

from __future__ import annotations

import stat
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ...identity import file_fingerprint, pinning
from ...output import DamagedFileError, read_manifest
from .check import Findings

_UNREAD = {".md", ".log", ".h5", ".msgpack", ".ot", ".onnx", ".gguf", ".tflite"}
"""Extensions of files that no model and no tokenizer of PyTorch is read from."""


@dataclass
class Known:
    """What is known about a model as it is loaded from a folder."""

    findings: Findings
    limit: int | None
    """Tokens that it reads, if those are fewer than the task wants."""
    backbone: str | None = None
    head: str | None = None
    """Fingerprints of its weights, once they were wanted."""


_Weights: TypeAlias = list[tuple[int, int, torch.dtype]]


@dataclass
class KnownModels:
    """What is known about models, by what they were loaded from and how."""

    by_source: dict[Hashable, Known] = field(default_factory=dict)
    of_model: WeakKeyDictionary[nn.Module, tuple[Known, _Weights]] = field(default_factory=WeakKeyDictionary)
    """The same for models that are there, and their weights as they were loaded: what is made of one is another."""


_CURRENT: ContextVar[KnownModels | None] = ContextVar("known_models", default=None)


@contextmanager
def knowing_models() -> Iterator[None]:
    """Inside, what is found out about models is kept, and names on the Hub stand for one commit each; the outermost
    call decides how long.
    """
    if _CURRENT.get() is not None:
        yield
        return
    token = _CURRENT.set(KnownModels())
    try:
        with pinning():
            yield
    finally:
        _CURRENT.reset(token)


class Source:
    """Where a model is loaded from: its files as they were before, if they can be known.

    Args:
        name: a folder or a Hub id.
        code: whether code of its own is run, on which everything may depend.
    """

    def __init__(self, name: str, code: bool) -> None:
        self._memory = None if code else _CURRENT.get()
        self._folder = Path(name)
        self._states = self._read_states() if self._memory is not None else {}
        self._sums = self._read_sums() if self._states else None

    def is_at(self, commit: str | None) -> None:
        """Files of the Hub are known by their commit, once that is known."""
        if self._memory is not None and commit is not None:
            self._sums = ((str(self._folder), commit),)

    def _read_states(self) -> dict[str, tuple[int, ...]]:
        """What changes when a file is written, by name; nothing for a Hub id, or files that cannot be looked at."""
        try:
            found = {file.name: file.stat() for file in self._folder.iterdir() if file.suffix not in _UNREAD}
        except OSError:  # no folder, or a link to nothing
            return {}
        return {
            name: (of.st_ino, of.st_size, of.st_mtime_ns, of.st_ctime_ns)
            for name, of in sorted(found.items())
            if stat.S_ISREG(of.st_mode)
        }

    def _read_sums(self) -> tuple[tuple[str, str], ...] | None:
        """Names and fingerprints of the files; None if one cannot be read."""
        try:
            # Those of our own folders were compared with these by `check_inputs`.
            known = (read_manifest(self._folder) or {}).get("files", {})
            return tuple(
                (name, known.get(name, {}).get("sha256") or file_fingerprint(self._folder / name))
                for name in self._states
            )
        except (OSError, DamagedFileError):
            return None

    def known(self, how: Hashable) -> Known | None:
        """What is known about a model that was loaded from these files.

        Args:
            how: everything else that what is known depends on.
        """
        return None if self._memory is None or self._sums is None else self._memory.by_source.get((self._sums, how))

    def keep(self, model: nn.Module, how: Hashable, known: Known) -> None:
        """Keep what is known about a model that has just been loaded from the files, unless they have changed since."""
        if self._memory is not None and self._sums is not None and self._states == self._read_states():
            self._memory.by_source[self._sums, how] = known
            self._memory.of_model[model] = known, _weights(model)


def known_of(model: nn.Module) -> Known | None:
    """What is known about a model that is as it was loaded; None for any other, and once it was cast or trained."""
    memory = _CURRENT.get()
    known, weights = (memory.of_model.get(model) if memory is not None else None) or (None, None)
    return known if weights == _weights(model) else None


def _weights(model: nn.Module) -> _Weights:
    """Where each weight is, how often it was changed there, and its type."""
    return [(weight.data_ptr(), weight._version, weight.dtype) for weight in model.parameters()]
