"""Masked language modelling: predict hidden tokens (BERT, RoBERTa and their like)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset, List, Value
from torch import Tensor
from transformers import AutoModelForMaskedLM, DataCollatorForLanguageModeling, PreTrainedTokenizerBase

from ...errors import InputError
from ...method.filters import Batch
from .blocks import Ends, blocks
from .language_modelling import LanguageModelling

_SCORING_SEED = 42


class MaskedLM(LanguageModelling):
    """Predict the hidden tokens of running text: a share of `mlm_probability`.

    Of 10 hidden tokens 8 are masked, 1 is replaced by another token, and 1 is unchanged. Where chance hides none of a
    block, which short ones are, one is masked all the same: without a label a block teaches nothing.
    Training hides other tokens in every epoch, scoring always the same. `perplexity` is that of the hidden tokens.
    """

    auto_model = AutoModelForMaskedLM
    default_max_seq_length = 512
    pipeline_tag = "fill-mask"

    def around(self, tokenizer: PreTrainedTokenizerBase) -> Ends:
        """`[CLS]` and `[SEP]`, or the tokenizer's own such tokens."""
        made = tokenizer("").input_ids
        return Ends(tuple(made[: len(made) // 2]), tuple(made[len(made) // 2 :]))

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """Blocks to score on, with hidden tokens chosen once: `labels` are -100 elsewhere."""
        text = blocks(self.tokens(rows, tokenizer), self.size(tokenizer), *self.around(tokenizer))
        hide = self._hide(tokenizer, _SCORING_SEED)
        hidden = [_hide_tokens(hide, torch.tensor(ids)) for ids in text["input_ids"]]
        ids, labels = ([pair[part].tolist() for pair in hidden] for part in (0, 1))
        if all(label == -100 for row in labels for label in row):
            raise InputError(
                "mlm_probability: expected hidden tokens in the text to score on, got none; raise it, or give more text"
            )
        feature = List(Value("int32"))
        text = text.remove_columns("input_ids").add_column("input_ids", ids, feature=feature)
        return text.add_column("labels", labels, feature=feature)

    def encode_training(
        self, rows: Dataset | IterableDataset, tokenizer: PreTrainedTokenizerBase
    ) -> Dataset | IterableDataset:
        """Blocks of tokens. Raises `InputError` if there is no text, or none with tokens that can be hidden."""
        text = super().encode_training(rows, tokenizer)
        special = set(tokenizer.all_special_ids)
        if isinstance(text, Dataset) and all(special.issuperset(ids) for ids in text["input_ids"]):
            raise InputError(
                f"text: expected words that the tokenizer {tokenizer.name_or_path} knows, got none, so that nothing "
                "can be hidden and predicted; give other text, or a model for its language"
            )
        return text

    def collate(self, features: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> Batch:
        """(B, T) `input_ids`, `attention_mask` and, for features to score on, `labels`: -100 at tokens not hidden."""
        batch = super().collate(features, tokenizer)
        if "labels" not in features[0]:
            return batch
        labels = torch.full_like(batch["input_ids"], -100)
        for row, feature in enumerate(features):
            labels[row, : len(feature["labels"])] = torch.as_tensor(np.asarray(feature["labels"]))
        return batch | {"labels": labels}

    def augment(self, batch: Batch, tokenizer: PreTrainedTokenizerBase, seeds: Sequence[int]) -> Batch:
        """A training batch with tokens hidden in `input_ids`, and `labels`: -100 at tokens not hidden."""
        ids, device = batch["input_ids"].cpu().clone(), batch["input_ids"].device
        labels = torch.full_like(ids, -100)
        hide = self._hide(tokenizer, 0)
        for row, (seed, length) in enumerate(zip(seeds, batch["attention_mask"].sum(dim=1).tolist(), strict=True)):
            hide.generator.manual_seed(seed)
            ids[row, :length], labels[row, :length] = _hide_tokens(hide, ids[row, :length])
        return batch | {"input_ids": ids.to(device), "labels": labels.to(device)}

    def selected(self, batch: Batch) -> Tensor:
        """(B * T,) the hidden tokens."""
        return batch["labels"].flatten() != -100

    def _hide(self, tokenizer: PreTrainedTokenizerBase, seed: int) -> DataCollatorForLanguageModeling:
        """What hides tokens. Raises `InputError`."""
        if tokenizer.mask_token is None:
            raise InputError(
                f"tokenizer {tokenizer.name_or_path}: expected a mask token, which masked_lm needs, got none; use a "
                "model with one"
            )
        share = self.arguments.mlm_probability
        hide = DataCollatorForLanguageModeling(tokenizer, mlm_probability=share, seed=seed)
        hide.create_rng()
        return hide


def _hide_tokens(hide: DataCollatorForLanguageModeling, ids: Tensor) -> tuple[Tensor, Tensor]:
    """(T,) ids with tokens hidden, at least one if any is not special, and labels."""
    special = torch.tensor(hide.tokenizer.get_special_tokens_mask(ids.tolist(), already_has_special_tokens=True))
    hidden, labels = (row[0] for row in hide.torch_mask_tokens(ids[None].clone(), special_tokens_mask=special[None]))
    if (labels == -100).all() and (special == 0).any():
        # Drawn after all others, so that those are the same where chance hides some.
        place = torch.multinomial((special == 0).float(), 1, generator=hide.generator)
        labels[place] = ids[place]
        hidden[place] = hide.tokenizer.mask_token_id
    return hidden, labels
