"""What of the training texts no model of a stage sees: the ends of long rows, and words that its tokenizer lacks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ...tasks.base import Task
from ...tasks.reading.columns import values
from ...tasks.tokenizers import token_ids, unknown_share

MANY_CUT = 0.05
"""Share of rows at the greatest length above which there is a notice."""
_MANY_UNKNOWN = 0.2
"""Share of unknown tokens above which there is a notice: rare characters and emoji are fewer."""


def cut_share(features: Dataset, longest: int) -> float:
    """Share of the features that have the greatest number of tokens: they are cut there, or just fill it."""
    return float(np.mean(values(features, "length").to_numpy() >= longest))


def cut_warnings(task: Task, features: Dataset, tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """A sentence if many rows are cut; of rows whose words have labels, the task says which of these are lost."""
    longest = task.longest(tokenizer)
    if task.whole_row_logits and (share := cut_share(features, longest)) >= MANY_CUT:
        yield (
            f"max_seq_length: {100 * share:.0f} % of the training rows are cut at {longest} tokens, or just fill them; "
            "raise it if the model can read more"
        )


def unknown_warnings(features: Dataset, tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """A warning if the tokenizer lacks much of the texts."""
    if (share := unknown_share(token_ids(features), tokenizer)) >= _MANY_UNKNOWN:
        yield (
            f"text: expected words that the model's tokenizer knows, got {100 * share:.0f} % unknown ones "
            f"({tokenizer.unk_token}), all of which are one word to the model; use a model for the language and script "
            "of the texts"
        )
