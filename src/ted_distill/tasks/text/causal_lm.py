"""Causal language modelling: each token predicts the next (GPT-2, Llama, Qwen and their like)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from ...errors import InputError, raise_if_any
from ...method.filters import Batch
from ..base import Metrics
from ..reading.columns import row_list
from ..resampling import Draws, sampled_sums
from ..tokenizers import require_fast
from .blocks import windows
from .language_modelling import LanguageModelling


class CausalLM(LanguageModelling):
    """Predict the next token of running text.

    Scored on windows of `max_seq_length` tokens that start every `stride` tokens: each token is scored once, with at
    least `max_seq_length - stride` tokens before it, except at the start of the text.
    """

    auto_model = AutoModelForCausalLM
    default_max_seq_length = 1024
    pipeline_tag = "text-generation"

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """Windows to score on: `input_ids`, `length`, and `scored_from`. Raises `InputError` if there is no text."""
        size = self.size(tokenizer)
        stride = self.arguments.stride or max(1, size // 2)
        if not 1 <= stride < size:
            raise InputError(
                f"stride: expected 1 to {size - 1} tokens, as the first of a window of {size} has none to be predicted "
                f"from, got {stride}; set it in this range"
            )
        return windows(self.tokens(rows, tokenizer), size, stride)

    def collate(self, features: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> Batch:
        """(B, T) `input_ids`, `attention_mask`, and `labels`: the same ids, -100 at padding and at context."""
        batch = super().collate(features, tokenizer)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        for row, feature in enumerate(features):
            labels[row, : feature.get("scored_from", 0)] = -100
        return batch | {"labels": labels}

    def targets(self, batch: Batch) -> Tensor:
        """(B, T) the next token, -100 at the last position."""
        labels = batch["labels"]
        return torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], -100)], dim=1)

    @property
    def score_names(self) -> tuple[str, ...]:
        """Those of language modelling, and `word_perplexity`."""
        return (*super().score_names, "word_perplexity")

    lower_is_better = (*LanguageModelling.lower_is_better, "word_perplexity")

    @property
    def metric_between_tokenizers(self) -> str | None:
        """The perplexity of a word: each tokenizer has its own number of tokens, but a text has as many words."""
        return "word_perplexity"

    # The score below only adds to that of language modelling, whose main one it keeps.
    sampled_score = LanguageModelling.sampled_score

    def score(self, predictions: list[np.ndarray], rows: Dataset) -> Metrics:
        """Also `word_perplexity`: exp of the nats per word between spaces, which can be compared between tokenizers."""
        scores = super().score(predictions, rows)
        words = sum(len(text.split()) for text in rows["text"])
        nats = scores["loss"] * sum(map(len, predictions))
        return scores | {"word_perplexity": float(np.exp(min(nats / max(words, 1), 700.0)))}


class LastWord(CausalLM):
    """Predict the last word of each passage, as in LAMBADA.

    `accuracy`: a word is right if each of its tokens is the most likely one.
    `perplexity` is exp of the nats per word. For scoring only: passages are short, and not joined.
    """

    metric = "accuracy"
    running_text = False
    hub = ("EleutherAI/lambada_openai", "default")

    @property
    def metric_between_tokenizers(self) -> str | None:
        """The task's own: it is of words."""
        return self.metric

    def keeps_order(self, rows: Dataset | IterableDataset) -> bool:
        """Never: passages are not joined."""
        return False

    @property
    def inferred(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def describe_labels(self, rows: Dataset) -> str | None:
        """Nothing: passages have no labels."""
        return None

    def hub_dataset(self) -> tuple[str, str | None] | None:
        """LAMBADA's test split in OpenAI's version, if this is the task `lambada`."""
        return self.hub if self.name == "lambada" else None

    def validation_splits(self) -> dict[str, str]:
        """That of LAMBADA is called `test`."""
        return {"validation": "test"} if self.name == "lambada" else super().validation_splits()

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """One feature per passage; `scored_from` is where its last word begins.

        Raises:
            InputError: passages of fewer than two words or longer than `max_seq_length`; a tokenizer that is not fast.
        """
        require_fast(tokenizer)
        size = self.size(tokenizer)
        begin = tokenizer("").input_ids[:1] if tokenizer.bos_token_id is not None else []
        begin = begin if begin == [tokenizer.bos_token_id] else []
        features: dict[str, list[Any]] = {"input_ids": [], "length": [], "scored_from": []}
        short, long = [], []
        for number, text in enumerate(rows["text"]):
            context, blank, word = text.rstrip().rpartition(" ")
            # The whole passage at once: a tokenizer may treat the beginning of a text unlike that of a word.
            tokens = tokenizer(context + blank + word, add_special_tokens=False, return_offsets_mapping=True)
            places = [place for place, (_, end) in enumerate(tokens["offset_mapping"]) if end > len(context)]
            if not context.strip() or not places:
                short.append(number)
                continue
            ids = begin + tokens["input_ids"]
            if len(ids) > size:
                long.append(number)
            features["input_ids"].append(ids)
            features["length"].append(len(ids))
            features["scored_from"].append(len(begin) + places[0])
        problems = []
        if short:
            problems.append(
                f"text: expected two or more words per passage, got fewer in {row_list(short)}; remove them"
            )
        if long:
            problems.append(
                f"max_seq_length: expected passages of up to {size} tokens, got longer ones in {row_list(long)}; "
                "raise it or remove them"
            )
        raise_if_any(problems)
        return Dataset.from_dict(features)

    @property
    def score_names(self) -> tuple[str, ...]:
        """`accuracy` and `perplexity` of whole words."""
        return ("accuracy", "perplexity")

    def score(self, predictions: list[np.ndarray], rows: Dataset) -> Metrics:
        """`accuracy`: percent of passages whose last word is right in all its tokens; `perplexity` per word."""
        right = [bool(tokens[:, 1].all()) for tokens in predictions]
        nats = [-float(tokens[:, 0].sum()) for tokens in predictions]
        return {"accuracy": 100 * float(np.mean(right)), "perplexity": float(np.exp(min(float(np.mean(nats)), 700.0)))}

    def sampled_score(self, predictions: list[np.ndarray], rows: Dataset, draws: Draws) -> np.ndarray:
        """See `Task.sampled_score`: accuracy over the passages drawn."""
        right = np.array([[tokens[:, 1].all()] for tokens in predictions], dtype=np.float64)
        return 100 * sampled_sums(right, draws)[:, 0] / draws.rows
