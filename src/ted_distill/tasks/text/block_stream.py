"""A stream of rows -> blocks of tokens in a shuffled order, from its beginning or from a place in its middle.

Rows are tokenised a thousand at a time. Processes that train together share that work, and exchange the tokens: which
block a text comes into depends on all the texts before it, so that all processes need all tokens, in one order.

A `Place` is all that is needed to go on: how many rows were read, the tokens that are in no block yet, and the blocks
that wait in the buffer. Nothing before it is tokenised again. Rows from files and from the Hub are found by the
position that `datasets` keeps; other rows are counted off.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import IterableDataset
from datasets.iterable_dataset import ExamplesIterable
from safetensors import safe_open
from safetensors.numpy import save_file
from torch.utils.data import get_worker_info
from transformers import PreTrainedTokenizerBase

from ...errors import InputError, shown

_ROWS = 1000
"""Rows that are tokenised at once, by all processes together."""


@dataclass(frozen=True)
class BlockSource:
    """Where the blocks of a stream come from, and what they look like."""

    rows: IterableDataset
    """With `text`."""
    tokenise: Callable[[dict[str, list[Any]], PreTrainedTokenizerBase, Any], dict[str, list[Any]]]
    """Texts, tokenizer, ends -> `input_ids`."""
    tokenizer: PreTrainedTokenizerBase
    ends: tuple[tuple[int, ...], tuple[int, ...]]
    """Tokens before and after each row."""
    size: int
    """Tokens of a block, with those before and after."""
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    has_positions: bool = True
    """Whether `datasets` finds the row that it was at; it does not if rows are shuffled in a buffer of their own."""


class Share(NamedTuple):
    """The part of one process in the tokenising."""

    processes: int
    process: int
    gather: Callable[[Any], list[Any]]
    """What this process has -> what all have; called by all of them equally often."""


class Place(NamedTuple):
    """Where a stream was, between two fillings of its buffer."""

    blocks: int
    """Blocks that came before."""
    fills: int
    """How often the buffer was filled."""
    rows: int
    """Rows that were read."""
    position: dict[str, Any] | None
    """Of these rows, as `datasets` says it; None if it says nothing."""
    left: np.ndarray
    """Tokens that are in no block yet."""
    buffer: list[np.ndarray]
    """Blocks that wait."""


@dataclass
class Walk:
    """How to go through a stream."""

    start: Place | None = None
    """Where to begin [at the first row]."""
    share: Share | None = None
    """This process's part of the tokenising [all of it]."""
    passed: Callable[[Place], None] = field(default=lambda place: None)
    """Is told of each place."""


class BlockStream(IterableDataset):
    """The blocks of a stream, `input_ids` and `length` of each; tokens at its end that fill no block are left out."""

    def __init__(self, source: BlockSource, seed: int = 0, buffer_size: int = 1) -> None:
        self.source = source
        self.seed = seed
        self.buffer_size = buffer_size
        super().__init__(ExamplesIterable(_examples, {"stream": self}))

    def shuffle(
        self, seed: int | None = None, generator: Any = None, buffer_size: int = 1000, **more: Any
    ) -> BlockStream:
        """The same blocks, in another order in each epoch: those of a buffer are mixed, and half of them given out."""
        return BlockStream(self.source, seed or 0, buffer_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self.feature, self.walk(Walk()))

    def feature(self, block: np.ndarray) -> dict[str, Any]:
        """What is trained on."""
        return {"input_ids": block.tolist(), "length": len(block)}

    def walk(self, how: Walk) -> Iterator[np.ndarray]:
        """The blocks from a place on."""
        worker = get_worker_info()
        if worker is not None and worker.id:
            return  # the first worker has the whole stream: blocks follow from all texts before them
        tokens = _Tokens(self.source, how)
        given, fills = (how.start.blocks, how.start.fills) if how.start else (0, 0)
        buffer = list(how.start.buffer) if how.start else []
        ended = False
        while not ended:
            how.passed(Place(given, fills, tokens.rows, tokens.position, tokens.left, buffer))
            buffer = [*buffer, *islice(tokens, self.buffer_size - len(buffer))]
            ended = len(buffer) < self.buffer_size
            order = np.random.default_rng((self.seed, int(self.epoch), fills)).permutation(len(buffer))
            out = len(buffer) if ended else len(buffer) - self.buffer_size // 2
            yield from (buffer[number] for number in order[:out])
            buffer = [buffer[number] for number in order[out:]]
            given, fills = given + out, fills + 1


class _Tokens:
    """An iterator over the blocks of a stream in their order, and where it is."""

    def __init__(self, source: BlockSource, how: Walk) -> None:
        start = how.start
        self.source = source
        self.share = how.share
        self.rows = start.rows if start else 0
        self.position = start.position if start else None
        self.left = start.left if start else np.zeros(0, np.int32)
        self._batches = self._read()

    def __iter__(self) -> Iterator[np.ndarray]:
        return self

    def __next__(self) -> np.ndarray:
        source = self.source
        room = source.size - len(source.before) - len(source.after)
        if len(self.left) < room:
            parts = [self.left]
            while sum(map(len, parts)) < room:
                batch = next(self._batches, None)
                if batch is None:
                    self.left = np.concatenate(parts)
                    raise StopIteration
                parts += self._tokenised(batch)
            self.left = np.concatenate(parts)
        block, self.left = self.left[:room], self.left[room:]
        return np.concatenate([source.before, block, source.after]).astype(np.int32)

    def _read(self) -> Iterator[list[Any]]:
        """Texts of the rows that were not read yet, a batch at a time; notes the place behind each."""
        rows, read = self.source.rows, self.rows
        if self.source.has_positions:
            # A copy of its own, as another pass through the same rows may have begun.
            rows = copy.deepcopy(rows)
            if self.position is not None:
                rows.load_state_dict(self.position)
        batches = rows.iter(batch_size=_ROWS)
        if self.position is None:
            batches = islice(batches, -(-read // _ROWS), None)
        for batch in batches:
            self.rows += len(batch["text"])
            self.position = rows.state_dict() if self.source.has_positions else None
            yield batch["text"]

    def _tokenised(self, texts: list[Any]) -> list[np.ndarray]:
        """Token ids of texts, in their order, each process having made a part."""
        if self.share is None:
            return [self._made(texts)]
        processes, process, gather = self.share
        bounds = np.linspace(0, len(texts), processes + 1).astype(int)
        mine: np.ndarray | str
        try:
            mine = self._made(texts[bounds[process] : bounds[process + 1]])
        except InputError as error:
            mine = str(error)  # all processes stop, as they wait for each other
        parts = gather(mine)
        for part in parts:
            if isinstance(part, str):
                raise InputError(part)
        return parts

    def _made(self, texts: list[Any]) -> np.ndarray:
        source = self.source
        if not texts:
            return np.zeros(0, np.int32)
        ids = source.tokenise({"text": [_text(text) for text in texts]}, source.tokenizer, source.ends)["input_ids"]
        return np.concatenate([np.asarray(row, dtype=np.int32) for row in ids])


def _text(value: Any) -> str:
    """The text of a row of a stream, which nobody has checked. Raises `InputError`."""
    if value is None:
        raise InputError("train: expected text in every row, got none in a row of the stream; fix or remove it")
    if isinstance(value, str) and "\0" in value:
        raise InputError(
            f"train: expected text without NUL characters, got some in {shown(value)}; fix or remove the row"
        )
    if isinstance(value, str | int | float):
        return str(value)
    raise InputError(f"train: expected text in every row, got {shown(value)}; fix or remove the row")


def _examples(stream: BlockStream) -> Iterator[tuple[int, dict[str, Any]]]:
    """What `datasets` reads where it makes another stream of this one."""
    return enumerate(stream)


# --- files ----------------------------------------------------------------------------------------------------


def write_place(place: Place, file: Path) -> None:
    """Write a place, so that `read_place` gives it back."""
    known = {"blocks": place.blocks, "fills": place.fills, "rows": place.rows, "position": place.position}
    waiting = np.stack(place.buffer) if place.buffer else np.zeros((0, 0), np.int32)
    arrays = {"left": np.ascontiguousarray(place.left), "buffer": waiting}
    save_file(arrays, file, metadata={"place": json.dumps(known)})


def read_place(file: Path) -> Place:
    """A place that `write_place` wrote."""
    with safe_open(file, "numpy") as found:
        known = json.loads(found.metadata()["place"])
        return Place(**known, left=found.get_tensor("left"), buffer=list(found.get_tensor("buffer")))
