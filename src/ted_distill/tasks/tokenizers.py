"""What tasks require of a tokenizer."""

from __future__ import annotations

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ..errors import InputError
from .reading.columns import row_list, values


def require_fast(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise `InputError` for a tokenizer that does not know the places of its tokens."""
    if not tokenizer.is_fast:
        raise InputError(
            f"tokenizer {tokenizer.name_or_path}: expected a fast tokenizer, which knows the place of each token in "
            f"the text, got {type(tokenizer).__name__}; save the model with the fast tokenizer of its family"
        )


def require_length(longest: int, shortest: int, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise `InputError` unless `longest`, the maximum tokens per row, is from `shortest` to the tokenizer's limit."""
    if not shortest <= longest <= tokenizer.model_max_length:
        raise InputError(
            f"max_seq_length: expected {shortest} to {tokenizer.model_max_length} tokens, which the tokenizer "
            f"{tokenizer.name_or_path} and its model allow, got {longest}; set --max_seq_length in this range"
        )


def require_tokens(features: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise `InputError` if the tokenizer has made nothing of a row: it may drop all characters of a text."""
    empty = np.flatnonzero(values(features, "length").to_numpy() == 0).tolist()
    if empty:
        raise InputError(
            f"text: expected tokens in every row, got none from the tokenizer {tokenizer.name_or_path} for "
            f"{row_list(empty)}; remove these rows"
        )
