"""How long rows are in the teacher's tokens, and how many tokens of them are worth reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from ...tasks import QuestionAnswering, Task
from ..spread import spread_places

LOOKED_AT = 2000
"""Rows that are tokenised, spread evenly over the training rows."""
SHARE = 99
"""Per cent of rows that are to be read to their end."""
MOST = 512
"""Tokens beyond which attention costs more than the rest of a row is usually worth."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of rows, special tokens included, and what follows from them."""

    tokens: np.ndarray
    """(N,) of the rows that were looked at."""
    limit: int | None
    """Tokens that the model can read."""

    @property
    def chosen(self) -> int:
        """A length for 99 % of the rows, up to 512 and to what the model can read."""
        return min(self.holding(SHARE), MOST, self.limit or MOST)

    def holding(self, share: int) -> int:
        """A multiple of 8 that this share of the rows, in per cent, does not fill.

        Of rows that just fill it nobody could say whether they were cut.
        """
        return (int(np.percentile(self.tokens, share, method="higher")) // 8 + 1) * 8

    @property
    def typical(self) -> int:
        """The median."""
        return int(np.median(self.tokens))

    def share_cut(self, length: int) -> float:
        """Share of the rows that are longer."""
        return float((self.tokens > length).mean())


def row_lengths(task: Task, tokenizer: PreTrainedTokenizerBase, limit: int | None) -> Lengths | None:
    """Lengths of training rows without any cut; None for running text, whose rows are joined."""
    if task.running_text:
        return None
    rows = task.rows["train"]
    chosen = spread_places(len(rows), LOOKED_AT).tolist()
    return Lengths(_lengths(task, rows[chosen], tokenizer), limit)


def _lengths(task: Task, rows: Mapping[str, Sequence[Any]], tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    # Without a warning about the tokenizer's limit: these ids reach no model.
    options: dict[str, Any] = {"truncation": False, "padding": False, "verbose": False}
    if isinstance(task, QuestionAnswering):
        encoded = tokenizer([text.lstrip() for text in rows["question"]], list(rows["context"]), **options)
    elif "tokens" in rows:
        encoded = tokenizer([list(words) for words in rows["tokens"]], is_split_into_words=True, **options)
    else:
        pairs = list(rows["text_pair"]) if "text_pair" in rows else None
        encoded = tokenizer(list(rows["text"]), pairs, **options)
    return np.array([len(ids) for ids in encoded["input_ids"]])
