"""Questions and contexts as the windows of tokens that a model sees.

A context longer than a window is cut into several windows that share `doc_stride` tokens. Besides the model's inputs, a
window keeps the place of each token in the context, which is all that decoding needs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value
from transformers import PreTrainedTokenizerBase

from ...errors import InputError
from ..reading.mapped import mapped
from ..tokenizers import require_fast
from .rows import some

_QUESTIONS_AT_ONCE = 10_000


def window_features(with_token_type_ids: bool) -> Features:
    """Columns of a window, in small integers: a cached SQuAD 2.0 then takes a quarter of the space."""
    features = {
        "input_ids": List(Value("int32")),
        "attention_mask": List(Value("int8")),
        "start_positions": Value("int32"),
        "end_positions": Value("int32"),
        "example_index": Value("int32"),
        "cls_index": Value("int32"),
        "offset_start": List(Value("int32")),
        "offset_end": List(Value("int32")),
        "length": Value("int32"),
    }
    return Features(features | ({"token_type_ids": List(Value("int8"))} if with_token_type_ids else {}))


def encode_windows(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_seq_length: int, doc_stride: int, num_proc: int | None
) -> Dataset:
    """The windows of all rows, in order; see `cut_windows` for the columns.

    Raises:
        InputError: the tokenizer is not fast, or questions leave no room for the context.
    """
    require_fast(tokenizer)
    _require_room(rows, tokenizer, max_seq_length, doc_stride)
    with_token_type_ids = "token_type_ids" in tokenizer.model_input_names
    return mapped(
        rows,
        cut_windows,
        description="tokenise",
        num_proc=num_proc,
        with_indices=True,
        features=window_features(with_token_type_ids),
        tokenizer=tokenizer,
        max_seq_length=max_seq_length,
        doc_stride=doc_stride,
        with_token_type_ids=with_token_type_ids,
    )


def cut_windows(
    batch: dict[str, Any],
    numbers: list[int],
    tokenizer: PreTrainedTokenizerBase,
    max_seq_length: int,
    doc_stride: int,
    with_token_type_ids: bool,
) -> dict[str, list[Any]]:
    """The map function of `encode_windows`.

    Returns:
        One entry per window: `input_ids`, `attention_mask`, `token_type_ids` if asked for; `offset_start` and
        `offset_end`, characters of the context, -1 at tokens outside it; `example_index`, the row number; `cls_index`;
        `start_positions` and `end_positions`, the tokens of the row's first answer, or `cls_index` if the window does
        not hold all of it; `length`, the number of tokens.
    """
    encoded = tokenizer(
        [question.lstrip() for question in batch["question"]],
        batch["context"],
        truncation="only_second",
        max_length=max_seq_length,
        stride=doc_stride,
        padding=False,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_attention_mask=True,
        return_token_type_ids=with_token_type_ids,
    )
    sample = np.asarray(encoded["overflow_to_sample_mapping"])
    offsets = [_context_offsets(pairs, encoded.sequence_ids(n)) for n, pairs in enumerate(encoded["offset_mapping"])]
    cls_index = [_cls_index(ids, tokenizer.cls_token_id) for ids in encoded["input_ids"]]
    answers = _answer_spans(batch["answers"], sample, offsets)
    positions = [_answer_tokens(*args) for args in zip(offsets, answers, cls_index, strict=True)]

    names = ["input_ids", "attention_mask"] + (["token_type_ids"] if with_token_type_ids else [])
    return {name: encoded[name] for name in names} | {
        "start_positions": [start for start, _ in positions],
        "end_positions": [end for _, end in positions],
        "example_index": [numbers[row] for row in sample],
        "cls_index": cls_index,
        "offset_start": [pairs[:, 0] for pairs in offsets],
        "offset_end": [pairs[:, 1] for pairs in offsets],
        "length": [len(ids) for ids in encoded["input_ids"]],
    }


def _require_room(rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_seq_length: int, doc_stride: int) -> None:
    """A window must hold the question, the special tokens, and more of the context than the last window had."""
    room = max_seq_length - tokenizer.num_special_tokens_to_add(pair=True) - doc_stride
    too_long: list[str] = []
    longest = 0
    for start in range(0, len(rows), _QUESTIONS_AT_ONCE):
        part = rows[start : start + _QUESTIONS_AT_ONCE]
        questions = [question.lstrip() for question in part["question"]]
        # Without a warning about the tokenizer's limit: these ids reach no model.
        ids = tokenizer(questions, add_special_tokens=False, padding=False, truncation=False, verbose=False)[
            "input_ids"
        ]
        lengths = np.array([len(tokens) for tokens in ids])
        longest = max(longest, int(lengths.max()))
        too_long += [part["id"][row] for row in np.flatnonzero(lengths >= room)]
    if too_long:
        raise InputError(
            f"max_seq_length: expected room for the context, got none for {some(len(too_long), 'question', too_long)}: "
            f"of {max_seq_length} tokens, doc_stride takes {doc_stride} and the longest question {longest}; shorten or "
            "remove these questions, raise max_seq_length or lower doc_stride"
        )


def _context_offsets(pairs: list[tuple[int, int]], sequence_ids: list[int | None]) -> np.ndarray:
    """(T, 2) first and last character + 1 of each token in the context, -1 at the question and special tokens."""
    in_context = np.fromiter((number == 1 for number in sequence_ids), dtype=bool, count=len(sequence_ids))
    return np.where(in_context[:, None], np.asarray(pairs, dtype=np.int32).reshape(-1, 2), -1)


def _cls_index(ids: list[int], cls_token_id: int | None) -> int:
    # Not always the first token; for families without it, "no answer" is the first token.
    return ids.index(cls_token_id) if cls_token_id in ids else 0


def _answer_spans(
    answers: list[dict[str, list[Any]]], sample: np.ndarray, offsets: list[np.ndarray]
) -> list[tuple[int, int] | None]:
    """For each window, the characters [start, end) of its row's first answer; None if there is no answer.

    Without white space around it, and cut to the characters that tokens of the row cover: some tokenizers drop
    characters, and an answer that starts with one would otherwise be in no window.
    """
    covered = {row: (np.iinfo(np.int32).max, 0) for row in sample.tolist()}
    for row, pairs in zip(sample.tolist(), offsets, strict=True):
        context = pairs[pairs[:, 0] >= 0]
        if len(context):
            low, high = covered[row]
            covered[row] = (min(low, int(context[:, 0].min())), max(high, int(context[:, 1].max())))
    spans: dict[int, tuple[int, int] | None] = {}
    for row, (low, high) in covered.items():
        spans[row] = None
        if answers[row]["text"]:
            text, start = answers[row]["text"][0], answers[row]["answer_start"][0]
            start += len(text) - len(text.lstrip())
            spans[row] = max(start, low), min(start + len(text.strip()), high)
    return [spans[row] for row in sample.tolist()]


def _answer_tokens(offsets: np.ndarray, answer: tuple[int, int] | None, cls_index: int) -> tuple[int, int]:
    """First and last token with characters of the answer, if the window holds all of it."""
    in_context = offsets[:, 0] >= 0
    if answer is None or not in_context.any():
        return cls_index, cls_index
    start, end = answer
    if start < offsets[in_context, 0].min() or end > offsets[in_context, 1].max():
        return cls_index, cls_index
    # Tokens that overlap the answer, not only tokens that begin or end with it: a token may include the space before
    # its word (SentencePiece, byte-level BPE), and an answer may be part of a word.
    tokens = np.flatnonzero(in_context & (offsets[:, 0] < end) & (offsets[:, 1] > start))
    return (int(tokens[0]), int(tokens[-1])) if len(tokens) else (cls_index, cls_index)
