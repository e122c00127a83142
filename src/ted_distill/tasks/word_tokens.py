"""Words -> tokens, and which token stands for which word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase


def tokenise_words(
    rows: dict[str, list[Any]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> dict[str, list[Any]]:
    """Features of a batch of rows.

    Words are joined by spaces and tokenised as one text, so that every kind of tokenizer gets text like that it was
    trained on; a token belongs to the word that has its last character.
    """
    encoded = tokenizer(
        [" ".join(words) for words in rows["tokens"]],
        truncation=True,
        max_length=max_length,
        return_attention_mask=True,
        return_token_type_ids="token_type_ids" in tokenizer.model_input_names,
        return_offsets_mapping=True,
    )
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in encoded]
    places = [
        _first_tokens(words, offsets) for words, offsets in zip(rows["tokens"], encoded["offset_mapping"], strict=True)
    ]
    labels = []
    for ids, of_row, tags in zip(encoded["input_ids"], places, rows["tags"], strict=True):
        of_tokens = [-100] * len(ids)
        for place, tag in zip(of_row, tags, strict=True):
            if place >= 0:
                of_tokens[place] = tag
        labels.append(of_tokens)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    own = {"labels": labels, "length": lengths, "first_tokens": places}
    return {name: encoded[name] for name in names} | own


def _first_tokens(words: Sequence[str], offsets: Sequence[tuple[int, int]]) -> list[int]:
    """The place of each word's first token; -1 for a word without one."""
    lengths = np.array([len(word) for word in words])
    ends = np.cumsum(lengths + 1) - 1
    starts = ends - lengths
    places = [-1] * len(words)
    for token, (start, end) in enumerate(offsets):
        if end <= start:  # a special token
            continue
        word = int(np.searchsorted(starts, end - 1, side="right")) - 1
        if word >= 0 and end - 1 < ends[word] and places[word] < 0:
            places[word] = token
    return places
