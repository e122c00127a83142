"""Noisy copies of training rows, which no label fits: the teacher says what they are.

`swap` changes rows, before they are tokenised; `mask` and `replace` change tokens. Nothing here changes special tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetInfo
from transformers import PreTrainedTokenizerBase

Augmentation = Literal["mask", "replace", "swap"]
MASKED, REPLACED, SWAPPED = 0.15, 0.10, 0.5
"""Share of tokens that are hidden, of tokens that others replace, and of pairs that get another second text."""


def swapped_pairs(rows: Dataset, second: str, draw: np.random.Generator) -> Dataset:
    """The rows, half of them with the second text of another row.

    Args:
        second: the column of second texts.
    """
    chosen = np.flatnonzero(draw.random(len(rows)) < SWAPPED)
    # Handed on in a circle, so that no row keeps its own.
    circle = draw.permutation(chosen)
    texts = rows[second][:]
    taken = list(texts)
    for row, giver in zip(circle.tolist(), np.roll(circle, 1).tolist(), strict=True):
        taken[row] = texts[giver]
    feature = rows.features[second]
    return rows.remove_columns(second).add_column(second, taken, feature=feature)


def noisy_tokens(
    features: Dataset,
    kinds: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    seen: np.ndarray,
    draw: np.random.Generator,
) -> Dataset:
    """Features with some other tokens in `input_ids`.

    Args:
        kinds: with `replace`, 10 % of the tokens become other ones of `seen`; with `mask`, 15 % are hidden, after that.
        seen: (S,) distinct ids of tokens of the training features, in order, none of them special.
    """
    column = features.with_format("arrow")[:].column("input_ids").combine_chunks()
    ids = column.flatten().to_numpy(zero_copy_only=False).copy()
    plain = ~np.isin(ids, tokenizer.all_special_ids)
    if "replace" in kinds and len(seen) > 1:
        places = np.flatnonzero(plain & (draw.random(len(ids)) < REPLACED))
        # A step of at least one and less than the whole circle never leads back to the same token.
        steps = draw.integers(1, len(seen), size=len(places))
        ids[places] = seen[(np.searchsorted(seen, ids[places]) + steps) % len(seen)]
    if "mask" in kinds:
        ids[plain & (draw.random(len(ids)) < MASKED)] = tokenizer.mask_token_id
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    made = pa.ListArray.from_arrays(offsets, pa.array(ids, column.type.value_type))
    table = features.with_format("arrow")[:]
    noisy = table.set_column(table.column_names.index("input_ids"), "input_ids", made)
    return Dataset(noisy, info=DatasetInfo(features=features.features))


def plain_tokens(features: Dataset, tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """(S,) the distinct ids of `input_ids` that are not special, in order."""
    column = features.with_format("arrow")[:].column("input_ids").combine_chunks()
    return np.setdiff1d(column.flatten().to_numpy(zero_copy_only=False), tokenizer.all_special_ids)
