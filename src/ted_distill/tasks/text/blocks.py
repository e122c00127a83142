"""Running text -> blocks of tokens to train on, and windows with a stride to score on.

Rows are joined into one sequence of tokens: as documents, with an end-of-text token after each, or unchanged if they
are lines of one text. The sequence is cut into blocks; nothing is padded, and nothing is lost but the end of a stream
that fills no block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, IterableDataset, List, Value
from transformers import PreTrainedTokenizerBase

from ...errors import InputError
from ..reading.mapped import mapped
from .block_stream import BlockSource, BlockStream


class Ends(NamedTuple):
    """Tokens before and after each row."""

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()


def document_ends(tokenizer: PreTrainedTokenizerBase) -> Ends:
    """The tokens around a document: beginning-of-text, if the tokenizer makes one, and end-of-text.

    Raises:
        InputError: the tokenizer has no end-of-text token.
    """
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    if end is None:
        raise InputError(
            f"tokenizer {tokenizer.name_or_path}: expected an end-of-text token to put between documents, got none; "
            "set tokenizer.eos_token, or give rows that are lines of one text and --row_separator none"
        )
    begin = tokenizer.bos_token_id
    begins = begin is not None and tokenizer("").input_ids[:1] == [begin] and begin != tokenizer.cls_token_id
    return Ends((begin,) if begins else (), (end,))


def token_sequence(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, ends: Ends, num_proc: int | None = None
) -> np.ndarray:
    """(N,) token ids of the `text` of all rows, joined; cached by `datasets`."""
    tokens = mapped(rows, _tokenise, description="tokenise", num_proc=num_proc, tokenizer=tokenizer, ends=tuple(ends))
    column = tokens.with_format("arrow")[:].column("input_ids").combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False)


def blocks(tokens: np.ndarray, size: int, before: Sequence[int] = (), after: Sequence[int] = ()) -> Dataset:
    """Blocks of `size` tokens, including `before` and `after`; the last one has what is left.

    Raises:
        InputError: fewer than two tokens.
    """
    room = size - len(before) - len(after)
    return windows(tokens, size, room, before, after).remove_columns("scored_from")


def windows(
    tokens: np.ndarray, size: int, stride: int, before: Sequence[int] = (), after: Sequence[int] = ()
) -> Dataset:
    """Windows of `size` tokens that start every `stride` tokens, up to the one that reaches the end.

    `scored_from` is the first position of a window that was in no earlier one: the tokens before it are only context,
    so that every token is scored once.

    Raises:
        InputError: fewer than two tokens, or a stride outside its range.
    """
    room = size - len(before) - len(after)
    if len(tokens) < 2:
        raise InputError(f"text: expected at least two tokens, got {len(tokens)}; give more text")
    if not 1 <= stride <= room:
        raise InputError(
            f"stride: expected 1 to {room} tokens, for windows of {size}, got {stride}; set it in this range"
        )
    starts = np.arange(0, max(len(tokens) - (room - stride), 1), stride)
    pieces = [tokens[start : start + room] for start in starts]
    if before or after:
        pieces = [np.concatenate([before, piece, after]).astype(tokens.dtype) for piece in pieces]
    lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
    offsets = np.concatenate([[0], lengths.cumsum()])
    ids = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(pieces), pa.int32()))
    scored_from = np.where(starts == 0, 0, room - stride) + len(before)
    table = pa.table({"input_ids": ids, "length": lengths, "scored_from": scored_from})
    features = Features({"input_ids": List(Value("int32")), "length": Value("int64"), "scored_from": Value("int64")})
    return Dataset(table.cast(features.arrow_schema))


def stream_blocks(
    rows: IterableDataset,
    tokenizer: PreTrainedTokenizerBase,
    ends: Ends,
    size: int,
    before: Sequence[int] = (),
    after: Sequence[int] = (),
    has_positions: bool = True,
) -> BlockStream:
    """The blocks of a stream of rows with `text`, made as they are needed; see `BlockSource`."""
    around = tuple(before), tuple(after)
    return BlockStream(BlockSource(rows, _tokenise, tokenizer, (ends.before, ends.after), size, *around, has_positions))


def _tokenise(
    rows: dict[str, list[Any]], tokenizer: PreTrainedTokenizerBase, ends: tuple[tuple[int, ...], tuple[int, ...]]
) -> dict[str, list[Any]]:
    """Token ids of a batch of rows."""
    before, after = map(list, ends)
    # Without a warning that a text is longer than the model can read: it will be cut.
    found = tokenizer(rows["text"], add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    return {"input_ids": [before + ids + after if ids else ids for ids in found]}
