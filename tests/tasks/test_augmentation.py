"""Noisy copies of rows: drawn by a seed, other tokens in their place, special tokens untouched."""

from __future__ import annotations

import numpy as np
from datasets import Dataset

from ted_distill.tasks.augmentation import noisy_tokens, plain_tokens, swapped_pairs
from tiny import SPECIAL, VOCABULARY, WORDS, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
MASK = TOKENIZER.mask_token_id
SPECIAL_IDS = [VOCABULARY[token] for token in SPECIAL]


def features(rows: int = 400, words: int = 12) -> Dataset:
    """`[CLS] ... [UNK] ... [SEP]`, rows of different lengths."""
    draw = np.random.default_rng(0)
    texts = [" ".join([*draw.choice(WORDS, row % words + 1), "unheard", "film"]) for row in range(rows)]
    encoded = TOKENIZER(texts)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    return Dataset.from_dict({"input_ids": encoded["input_ids"], "length": lengths, "labels": list(range(rows))})


def noisy(kinds: list[str], seed: int = 1) -> tuple[np.ndarray, np.ndarray, Dataset]:
    """Tokens before and after, of all rows in one line, and the rows."""
    before = features()
    after = noisy_tokens(before, kinds, TOKENIZER, plain_tokens(before, TOKENIZER), np.random.default_rng(seed))
    return np.concatenate(before["input_ids"][:]), np.concatenate(after["input_ids"][:]), after


def test_mask_hides_15_percent_of_the_tokens_and_no_special_one() -> None:
    before, after, rows = noisy(["mask"])
    plain = ~np.isin(before, SPECIAL_IDS)
    assert (after[~plain] == before[~plain]).all()
    changed = after != before
    assert (after[changed] == MASK).all()
    assert 0.13 < changed[plain].mean() < 0.17
    assert rows["length"][:] == [len(ids) for ids in rows["input_ids"]] == features()["length"][:]
    assert rows["labels"][:] == features()["labels"][:]
    assert rows.features == features().features


def test_replace_puts_other_tokens_of_the_training_rows_in_place_of_10_percent() -> None:
    before, after, _ = noisy(["replace"])
    plain = ~np.isin(before, SPECIAL_IDS)
    assert (after[~plain] == before[~plain]).all()
    seen = plain_tokens(features(), TOKENIZER)
    assert not set(seen) & set(SPECIAL_IDS)
    assert set(after) <= {*seen, *SPECIAL_IDS}
    # Every place that was drawn has another token, and nearly every token of the training rows is put somewhere.
    assert 0.085 < (after != before)[plain].mean() < 0.115
    assert len(set(after[after != before])) > 0.9 * len(seen)


def test_noise_is_drawn_by_the_seed() -> None:
    first, same, other = (noisy(["mask", "replace"], seed)[1] for seed in (1, 1, 2))
    assert (first == same).all()
    assert (first != other).any()


def test_tokens_that_are_all_the_same_have_no_other_to_be_replaced_by() -> None:
    rows = Dataset.from_dict({"input_ids": [[1, 7, 7, 7, 2]] * 50})
    seen = plain_tokens(rows, TOKENIZER)
    assert (
        noisy_tokens(rows, ["replace"], TOKENIZER, seen, np.random.default_rng(0))["input_ids"][:]
        == (rows["input_ids"][:])
    )


def test_swap_gives_half_of_the_pairs_the_second_text_of_another_row() -> None:
    rows = Dataset.from_dict(
        {"text": [f"a{row}" for row in range(400)], "text_pair": [f"b{row}" for row in range(400)]}
    )
    swapped = swapped_pairs(rows, "text_pair", np.random.default_rng(1))
    assert swapped["text"][:] == rows["text"][:]
    assert sorted(swapped["text_pair"][:]) == sorted(rows["text_pair"][:])
    others = np.array(swapped["text_pair"][:]) != np.array(rows["text_pair"][:])
    assert 0.42 < others.mean() < 0.58
    again, other = (swapped_pairs(rows, "text_pair", np.random.default_rng(seed)) for seed in (1, 2))
    assert again["text_pair"][:] == swapped["text_pair"][:] != other["text_pair"][:]
