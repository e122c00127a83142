"""The best answer spans of many windows at once, in numpy.

Shapes: N windows, T tokens, n = `n_best_size`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_CHUNK_ELEMENTS = 2**21
"""Elements of a chunk's largest array: 16 MiB in float64, so that memory does not grow with the data."""


class Spans(NamedTuple):
    """Spans of tokens as arrays (S,), ordered by window, then from the best to the worst score."""

    window: np.ndarray
    start: np.ndarray
    """First token, as an index into its window."""
    end: np.ndarray
    """Last token."""
    start_logit: np.ndarray
    end_logit: np.ndarray


def windows_a_chunk(tokens: int, n_best_size: int) -> int:
    """How many windows of up to `tokens` tokens to search together."""
    return max(1, _CHUNK_ELEMENTS // max(tokens, n_best_size**2, 1))


def best_spans(
    start_logits: np.ndarray, end_logits: np.ndarray, candidates: np.ndarray, n_best_size: int, max_answer_length: int
) -> Spans:
    """Up to n spans of each window with the highest start logit + end logit.

    A span goes from one of the n best start tokens to the same or a later token of the n best end tokens, and has at
    most `max_answer_length` tokens. Of equal scores the earlier token wins, whatever the padding.

    Args:
        start_logits, end_logits: (N, T), finite at the candidates.
        candidates: (N, T), True at the tokens of the context, which answers are made of.
    """
    starts, start_best = _top(start_logits, candidates, n_best_size)
    ends, end_best = _top(end_logits, candidates, n_best_size)
    lengths = ends[:, None, :] - starts[:, :, None] + 1
    scores = start_best[:, :, None] + end_best[:, None, :]
    scores[(lengths < 1) | (lengths > max_answer_length)] = -np.inf

    scores = scores.reshape(len(scores), -1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :n_best_size]
    window, rank = np.nonzero(np.take_along_axis(scores, order, axis=1) > -np.inf)
    # `order` counts pairs: all ends of the first start, then of the second.
    start_rank, end_rank = np.divmod(order[window, rank], ends.shape[1])
    return Spans(
        window=window,
        start=starts[window, start_rank],
        end=ends[window, end_rank],
        start_logit=start_best[window, start_rank],
        end_logit=end_best[window, end_rank],
    )


def _top(logits: np.ndarray, candidates: np.ndarray, n_best_size: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, n) token indices and float64 logits, best first; -inf where a window has fewer candidates."""
    values = np.where(candidates, logits, -np.inf).astype(np.float64)
    order = np.argsort(-values, axis=1, kind="stable")[:, :n_best_size]
    return order, np.take_along_axis(values, order, axis=1)
