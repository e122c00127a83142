"""From the logits of windows to answers to questions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from datasets import Dataset

from ..base import Split
from .span_search import best_spans, windows_a_chunk

_NO_ANSWER_ODDS = 1e9
"""Null odds of a question without any candidate: JSON has no infinity."""


class QuestionAnswers(NamedTuple):
    """The answers to one question. An answer is a dict of `text`, `start_logit` and `end_logit`."""

    id: str
    answers: list[dict[str, Any]]
    """The best answers of all windows, best first, each text once; empty only if no window has a candidate."""
    null: dict[str, Any]
    """No answer: the logits of the CLS token in the window where they are lowest."""
    null_odds: float
    """Score of no answer minus that of the best answer; a score is start logit + end logit."""


class _Candidates(NamedTuple):
    """Spans of all windows in the order of their rows, then from best to worst: arrays (S,)."""

    row: np.ndarray
    start: np.ndarray
    """First character of the context."""
    end: np.ndarray
    """One past the last character."""
    start_logit: np.ndarray
    end_logit: np.ndarray


def answer_questions(
    logits: list[np.ndarray], split: Split, n_best_size: int, max_answer_length: int
) -> Iterator[QuestionAnswers]:
    """The answers to each question of the split, in the order of its rows.

    Args:
        logits: one (T, 2) array per window, start and end; padding may follow the window's tokens.

    Raises:
        ValueError: the numbers of arrays and windows differ, or an array is shorter than its window.
    """
    if len(logits) != len(split.features):
        raise ValueError(
            f"decode: expected one array of logits per window, got {len(logits)} for {len(split.features)} windows; "
            "decode the features that were predicted on"
        )
    candidates, nulls = _all_candidates(logits, split.features, len(split.rows), n_best_size, max_answer_length)
    bounds = np.searchsorted(candidates.row, np.arange(len(split.rows) + 1)).tolist()
    # Python numbers, which JSON needs; slicing lists is faster than reading single elements of arrays.
    spans = list(zip(*(column.tolist() for column in candidates[1:]), strict=True))
    for row, (id_, context) in enumerate(zip(split.rows["id"], split.rows["context"], strict=True)):
        answers: dict[str, dict[str, Any]] = {}
        for start, end, start_logit, end_logit in spans[bounds[row] : bounds[row + 1]]:
            if len(answers) == n_best_size:
                break
            # A token may begin with the space before its word, or be only a space.
            text = context[start:end].strip()
            if text and text not in answers:
                answers[text] = {"text": text, "start_logit": start_logit, "end_logit": end_logit}
        start_logit, end_logit = nulls[row].tolist()
        best = next(iter(answers.values()), None)
        odds = start_logit + end_logit - (best["start_logit"] + best["end_logit"]) if best else _NO_ANSWER_ODDS
        null = {"text": "", "start_logit": start_logit, "end_logit": end_logit}
        yield QuestionAnswers(id_, list(answers.values()), null, odds)


def _all_candidates(
    logits: list[np.ndarray], features: Dataset, rows: int, n_best_size: int, max_answer_length: int
) -> tuple[_Candidates, np.ndarray]:
    """The candidates, and (rows, 2) start and end logit of no answer."""
    columns = features.select_columns(["offset_start", "offset_end", "example_index", "cls_index"]).with_format("arrow")
    parts: list[_Candidates] = []
    nulls = np.full((rows, 2), np.inf)
    step = windows_a_chunk(max((len(window) for window in logits), default=1), n_best_size)
    for first in range(0, len(logits), step):
        table = columns[first : first + step]
        row, cls_index = (table[name].to_numpy().astype(np.int64) for name in ("example_index", "cls_index"))
        offset_start, real = _padded(table["offset_start"])
        offset_end, _ = _padded(table["offset_end"])
        windows = _stacked(logits[first : first + step], real, first)
        _lower(nulls, row, windows[np.arange(len(row)), cls_index])
        spans = best_spans(windows[..., 0], windows[..., 1], offset_start >= 0, n_best_size, max_answer_length)
        parts.append(
            _Candidates(
                row=row[spans.window],
                start=offset_start[spans.window, spans.start],
                end=offset_end[spans.window, spans.end],
                start_logit=spans.start_logit,
                end_logit=spans.end_logit,
            )
        )
    every = _Candidates(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    order = np.lexsort((-(every.start_logit + every.end_logit), every.row))
    return _Candidates(*(column[order] for column in every)), nulls


def _lower(nulls: np.ndarray, row: np.ndarray, values: np.ndarray) -> None:
    """Put the (N, 2) values into `nulls` where their sum is lower than in any window of the row so far."""
    order = np.lexsort((values.sum(axis=1), row))
    rows, firsts = np.unique(row[order], return_index=True)
    lowest = values[order[firsts]]
    lower = lowest.sum(axis=1) < nulls[rows].sum(axis=1)
    nulls[rows[lower]] = lowest[lower]


def _padded(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """(N, T) values of a column of lists, -1 after their ends, and (N, T) whether a list has an entry there."""
    lists = column.combine_chunks()
    lengths = lists.value_lengths().to_numpy()
    real = np.arange(lengths.max())[None, :] < lengths[:, None]
    values = np.full(real.shape, -1, dtype=np.int64)
    values[real] = lists.flatten().to_numpy()
    return values, real


def _stacked(logits: list[np.ndarray], real: np.ndarray, first: int) -> np.ndarray:
    """(N, T, 2) logits as float64, 0 where `real` is False."""
    windows = np.zeros((*real.shape, 2))
    lengths = real.sum(axis=1).tolist()
    for number, (window, length) in enumerate(zip(logits, lengths, strict=True)):
        if window.shape[0] < length or window.shape[1:] != (2,):
            raise ValueError(
                f"decode: expected logits ({length} or more, 2) for window {first + number}, got {window.shape}; "
                "decode the features that were predicted on"
            )
        windows[number, :length] = window[:length]
    return windows
