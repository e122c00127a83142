"""Tiny random models of real Hugging Face classes, a tokenizer, and a few rows of data, all made on the spot."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AlbertConfig,
    AutoModel,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    LlamaConfig,
    ModernBertConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
    XLMRobertaConfig,
)

WORDS = [
    "the",
    "a",
    "film",
    "book",
    "song",
    "meal",
    "was",
    "is",
    "very",
    "not",
    "good",
    "bad",
    "fine",
    "awful",
    "great",
] + ["dull", "who", "wrote", "sang", "cooked", "ate", "Ada", "Bo", "Cy"]
SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
VOCABULARY = {word: index for index, word in enumerate(SPECIAL + WORDS + [".", "?", ","])}

CLASSES: dict[str, Any] = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
"""The labels of the reviews, as a config has them."""

_SMALL = {"vocab_size": 40, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
_ROOM = {"max_position_embeddings": 70}

FAMILIES: dict[str, PretrainedConfig] = {
    "bert": BertConfig(**_SMALL, **_ROOM),
    "roberta": RobertaConfig(**_SMALL, **_ROOM, pad_token_id=0, type_vocab_size=1),
    "xlm-roberta": XLMRobertaConfig(**_SMALL, **_ROOM, pad_token_id=0, type_vocab_size=1),
    "distilbert": DistilBertConfig(vocab_size=40, dim=16, n_heads=2, hidden_dim=24, max_position_embeddings=70),
    "electra": ElectraConfig(**_SMALL, **_ROOM, embedding_size=12),
    "albert": AlbertConfig(**_SMALL, **_ROOM, embedding_size=8),
    "deberta-v2": DebertaV2Config(
        **_SMALL,
        **_ROOM,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        share_att_key=True,
        norm_rel_ebd="layer_norm",
        position_buckets=8,
        position_biased_input=False,
        type_vocab_size=0,
    ),
    "modernbert": ModernBertConfig(
        **_SMALL,
        **_ROOM,
        pad_token_id=0,
        cls_token_id=1,
        sep_token_id=2,
        bos_token_id=1,
        eos_token_id=2,
        global_attn_every_n_layers=2,
        local_attention=8,
    ),
}

_CAUSAL = {**_SMALL, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "max_position_embeddings": 70}

DECODERS: dict[str, PretrainedConfig] = {
    "gpt2": GPT2Config(
        vocab_size=40, n_embd=16, n_head=2, n_inner=24, n_positions=70, bos_token_id=1, eos_token_id=2, pad_token_id=0
    ),
    "llama": LlamaConfig(**_CAUSAL, num_key_value_heads=1),
    "qwen2": Qwen2Config(**_CAUSAL, num_key_value_heads=1),
    "qwen3": Qwen3Config(**_CAUSAL, num_key_value_heads=1, head_dim=8),
}
"""Those that predict the next token."""


USUAL = ("bert", "deberta-v2", "albert", "gpt2", "modernbert")
"""Families unlike each other: the default suite tries these, where a test of all of them takes long."""


def usual_first(families: Iterable[str]) -> list[Any]:
    """Families as parameters of a test; those that are not among the usual ones are for the long suite."""
    return [family if family in USUAL else pytest.param(family, marks=pytest.mark.long) for family in families]


def tiny_config(family: str, blocks: int = 2, width: int = 16, **changes: object) -> PretrainedConfig:
    """A config of the family with `blocks` blocks."""
    config = {**FAMILIES, **DECODERS}[family]
    # ModernBERT derives a list of layer types from the number of blocks, so the config is made anew.
    values = {key: value for key, value in config.to_diff_dict().items() if key not in ("layer_types", "model_type")}
    names = {"distilbert": ("n_layers", "dim"), "gpt2": ("n_layer", "n_embd")}.get(family)
    sizes = dict(zip(names, (blocks, width), strict=True)) if names else {}
    values |= sizes or {"num_hidden_layers": blocks, "hidden_size": width}
    return type(config)(**(values | changes))


def tiny_tokenizer(token_type_ids: bool = True) -> PreTrainedTokenizerFast:
    """Whole words of `WORDS`, as `[CLS] a [SEP] b [SEP]`."""
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    names = ["input_ids", "token_type_ids", "attention_mask"] if token_type_ids else ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        mask_token="[MASK]",
        model_max_length=64,
        model_input_names=names,
    )


def save_tiny(
    folder: Path,
    auto_class: type,
    family: str = "bert",
    blocks: int = 2,
    width: int = 16,
    seed: int = 0,
    **changes: object,
) -> Path:
    """A random model of `auto_class` with its tokenizer, in a folder."""
    torch.manual_seed(seed)
    model: PreTrainedModel = auto_class.from_config(tiny_config(family, blocks, width, **changes))
    model.save_pretrained(folder)
    tiny_tokenizer(token_type_ids=family in ("bert", "electra", "albert", "deberta-v2")).save_pretrained(folder)
    return folder


def save_minilm(home: Path) -> None:
    """A tiny model under the Hub's name of MiniLM, and with its six blocks."""
    save_tiny(home / "sentence-transformers/all-MiniLM-L6-v2", AutoModel, blocks=6)


def padded_batch(tokens: int, rows: int = 3) -> dict[str, torch.Tensor]:
    """Random rows, each about a third shorter than the one before."""
    torch.manual_seed(tokens)
    mask = torch.ones(rows, tokens, dtype=torch.long)
    for row in range(rows):
        mask[row, tokens - tokens * row // 3 :] = 0
    return {"input_ids": torch.randint(5, 40, (rows, tokens)), "attention_mask": mask}


def write_reviews(folder: Path, rows: int = 48, name: str = "reviews") -> Path:
    """Sentences with labels `bad` and `good`, as JSON lines."""
    things, good, bad = WORDS[2:6], ["good", "fine", "great"], ["bad", "awful", "dull"]
    lines = []
    for row in range(rows):
        words = good if row % 2 else bad
        text = f"the {things[row % 4]} was {'very ' * (row % 3)}{words[row // 2 % 3]}."
        lines.append(json.dumps({"text": text, "label": "good" if row % 2 else "bad"}))
    file = folder / f"{name}.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def write_questions(folder: Path, rows: int = 24, name: str = "questions") -> Path:
    """Questions on short passages in the official SQuAD 2.0 form; every third has no answer."""
    people, verbs, things = ["Ada", "Bo", "Cy"], ["wrote", "sang", "ate"], ["book", "song", "meal"]
    paragraphs = []
    for row in range(rows):
        person, verb, thing = people[row % 3], verbs[row // 3 % 3], things[row // 3 % 3]
        context = f"{person} {verb} the {thing}. the {thing} was very good. {people[(row + 1) % 3]} was not fine."
        answers = [] if row % 3 == 2 else [{"text": person, "answer_start": 0}]
        asked = verb if answers else "cooked"
        qa = {
            "id": f"q{row}",
            "question": f"who {asked} the {thing}?",
            "answers": answers,
            "is_impossible": not answers,
        }
        paragraphs.append({"context": context, "qas": [qa]})
    file = folder / f"{name}.json"
    file.write_text(
        json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}), encoding="utf-8"
    )
    return file


def write_entities(folder: Path, rows: int = 24, name: str = "entities") -> Path:
    """Sentences whose names of people are entities, as JSON lines with `tokens` and `ner_tags`."""
    people, verbs, things = ["Ada", "Bo", "Cy"], ["wrote", "sang", "ate"], ["book", "song", "meal"]
    lines = []
    for row in range(rows):
        words = [people[row % 3], verbs[row // 3 % 3], "the", things[row // 2 % 3], "."]
        tags = ["B-person", "O", "O", "B-thing", "O"]
        if row % 4 == 0:
            words, tags = ["the", "very", *words], ["O", "O", "B-person", "O", "O", "B-thing", "O"]
        if row % 5 == 0:
            words, tags = (
                [*words, "who", people[row // 5 % 3], people[(row + 1) % 3]],
                [*tags, "O", "B-person", "I-person"],
            )
        lines.append(json.dumps({"tokens": words, "ner_tags": tags}))
    file = folder / f"{name}.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def write_text(folder: Path, rows: int = 60, name: str = "text") -> Path:
    """Lines of one running text."""
    things, words = WORDS[2:6], ["good", "bad", "fine", "awful", "great", "dull"]
    lines = [f"the {things[row % 4]} was {'very ' * (row % 3)}{words[row // 2 % 6]}." for row in range(rows)]
    file = folder / f"{name}.txt"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file
