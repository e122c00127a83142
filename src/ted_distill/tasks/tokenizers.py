"""What tasks require of a tokenizer."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ..errors import InputError
from .reading.columns import row_list, values

_LOOKED_AT = 5000
"""Features among which unknown tokens are counted."""


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
    """Refuse rows of which the tokenizer makes nothing: it may drop all characters of a text, or know none of them.

    Raises:
        InputError: a row without tokens, or no token that is known.
    """
    empty = np.flatnonzero(values(features, "length").to_numpy() == 0).tolist()
    if empty:
        raise InputError(
            f"text: expected tokens in every row, got none from the tokenizer {tokenizer.name_or_path} for "
            f"{row_list(empty)}; remove these rows"
        )
    require_known(token_ids(features), tokenizer)


def require_known(ids: np.ndarray, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise `InputError` if all tokens (N,) of texts are unknown ones: to a model all these texts are the same."""
    if unknown_share(ids, tokenizer) == 1:
        raise InputError(
            f"text: expected words that the tokenizer {tokenizer.name_or_path} knows, got unknown ones alone "
            f"({tokenizer.unk_token}); use a model for the language and script of the texts, with its own tokenizer"
        )


def unknown_share(ids: np.ndarray, tokenizer: PreTrainedTokenizerBase) -> float:
    """Share of unknown ones among tokens (N,), special ones left out; 0 if the tokenizer has no token for them."""
    unknown, others = tokenizer.unk_token_id, _special_ids(tokenizer)
    if unknown is None or unknown in others:
        return 0.0
    words = int((~np.isin(ids, others)).sum())
    return int((ids == unknown).sum()) / words if words else 0.0


def _special_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Those of the special tokens other than the unknown one, unless they share its number, as in GPT-2."""
    named = tokenizer.special_tokens_map
    tokens = [token for name, token in named.items() if name != "unk_token" and isinstance(token, str)]
    return [number for number in tokenizer.convert_tokens_to_ids(tokens) if isinstance(number, int)]


def token_ids(features: Dataset) -> np.ndarray:
    """(N,) the tokens of some thousand features, one after another, spread evenly over all."""
    some = features.select(range(0, len(features), max(1, len(features) // _LOOKED_AT)))
    ids = values(some, "input_ids")
    return pc.list_flatten(ids).to_numpy()
