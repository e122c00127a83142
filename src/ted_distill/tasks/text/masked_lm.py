"""Masked language modelling: predict hidden tokens (BERT, RoBERTa and their like)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from datasets import Dataset, List, Value
from torch import Tensor
from transformers import AutoModelForMaskedLM, DataCollatorForLanguageModeling, PreTrainedTokenizerBase

from ...errors import InputError
from ...method.filters import Batch
from .blocks import Ends, blocks
from .language_modelling import LanguageModelling

_SCORING_SEED = 42


class MaskedLM(LanguageModelling):
    """Predict the hidden tokens of running text: a share of `mlm_probability`.

    Of 10 hidden tokens 8 are masked, 1 is replaced by another token, and 1 is unchanged.
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
        hidden = [hide.torch_mask_tokens(torch.tensor([ids])) for ids in text["input_ids"]]
        ids, labels = ([pair[part][0].tolist() for pair in hidden] for part in (0, 1))
        if all(label == -100 for row in labels for label in row):
            raise InputError(
                "mlm_probability: expected hidden tokens in the text to score on, got none; raise it, or give more text"
            )
        feature = List(Value("int32"))
        text = text.remove_columns("input_ids").add_column("input_ids", ids, feature=feature)
        return text.add_column("labels", labels, feature=feature)

    def collate(self, features: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> Batch:
        """(B, T) `input_ids`, `attention_mask` and, for features to score on, `labels`: -100 at tokens not hidden."""
        batch = super().collate(features, tokenizer)
        if "labels" not in features[0]:
            return batch
        labels = torch.full_like(batch["input_ids"], -100)
        for row, feature in enumerate(features):
            labels[row, : len(feature["labels"])] = torch.as_tensor(np.asarray(feature["labels"]))
        return batch | {"labels": labels}

    def augment(self, batch: Batch, tokenizer: PreTrainedTokenizerBase, seed: int) -> Batch:
        """A training batch with tokens hidden in `input_ids`, and `labels`: -100 at tokens not hidden."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        not_hidden = torch.ones_like(ids, device="cpu")
        for row, (of_row, length) in enumerate(zip(ids.tolist(), mask.sum(dim=1).tolist(), strict=True)):
            special = tokenizer.get_special_tokens_mask(of_row[:length], already_has_special_tokens=True)
            not_hidden[row, :length] = torch.tensor(special)
        hide = self._hide(tokenizer, seed)
        hidden, labels = hide.torch_mask_tokens(ids.cpu(), special_tokens_mask=not_hidden)
        return batch | {"input_ids": hidden.to(ids.device), "labels": labels.to(ids.device)}

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
        probability = self.arguments.mlm_probability
        if not 0 < probability < 1:
            raise InputError(f"mlm_probability: expected a number between 0 and 1, got {probability}; 0.15 is usual")
        hide = DataCollatorForLanguageModeling(tokenizer, mlm_probability=probability, seed=seed)
        hide.create_rng()
        return hide
