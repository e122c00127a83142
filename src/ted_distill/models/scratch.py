"""A model of random weights and a tokenizer made from the training text: a teacher where none can be downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig, PreTrainedTokenizerFast, set_seed

from ..errors import InputError, nearest, reason_of
from ..tasks import MaskedLM, Task

END = "<|endoftext|>"
_AROUND = ("<s>", "</s>")
_MASKED = [*_AROUND, "<pad>", "<mask>"]
_VOCAB_SIZE = 8000
_SPECIAL = "special_tokens"
_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "cls_token_id", "sep_token_id", "mask_token_id")
"""Fields of a config that name tokens; those of a family are of another vocabulary."""


def scratch_config(values: dict[str, Any]) -> PretrainedConfig:
    """The config of a recipe's `from_scratch`: `model_type`, `vocab_size`, and fields of that family's config.

    Raises:
        InputError: no such family, or fields or values that its config does not have.
    """
    values = dict(values)
    special = values.pop(_SPECIAL, [])
    if not isinstance(special, list) or not all(isinstance(token, str) and token for token in special):
        raise InputError(f"from_scratch: expected {_SPECIAL} to be a list of texts, such as [<sep>], got {special!r}")
    family = str(values.pop("model_type", ""))
    if family not in CONFIG_MAPPING:
        raise InputError(
            f"from_scratch: expected a model_type of transformers, such as gpt2, llama or bert, got "
            f"{family or 'nothing'}{nearest(family, CONFIG_MAPPING)}"
        )
    known = CONFIG_MAPPING[family]()
    unknown = [key for key in values if not hasattr(known, key)]
    if unknown:
        raise InputError(
            f"from_scratch: expected fields of the config of {family}, got {', '.join(unknown)}; fix or remove them"
        )
    # Configs of transformers check the types of values, and their errors have no common class.
    try:
        values = {"vocab_size": _VOCAB_SIZE, **values}
        return AutoConfig.for_model(family, **{**_without_tokens(known, values["vocab_size"]), **values})
    except Exception as error:
        raise InputError(
            f"from_scratch: expected values that the config of {family} accepts, got an error "
            f"({reason_of(error)}); change them"
        ) from error


def _without_tokens(config: PretrainedConfig, vocab_size: int) -> dict[str, int]:
    """Fields that name tokens which a smaller vocabulary does not have, each with one that it has: a model of the
    family could not be made with them. `make_from_scratch` sets them to the tokens of its tokenizer.
    """
    named = {name: getattr(config, name, None) for name in _TOKENS}
    return {name: 0 for name, token in named.items() if isinstance(token, int) and token >= vocab_size}


def make_from_scratch(task: Task, values: dict[str, Any], folder: Path, seed: int) -> None:
    """Write a tokenizer trained on the task's training text, and a model of random weights, into `folder`.

    The tokenizer is a byte-level BPE like GPT-2's; for masked language modelling it has RoBERTa's special tokens.

    Args:
        values: see `scratch_config`; `special_tokens` are further tokens that occur in the text as they are.
    """
    config = scratch_config(values)
    masked = isinstance(task, MaskedLM)
    length = getattr(config, "max_position_embeddings", None) or 1024
    tokenizer = train_tokenizer(_texts(task), config.vocab_size, length, values.get(_SPECIAL, []), masked=masked)
    for name in _TOKENS:
        if hasattr(config, name):
            with suppress(Exception):  # some families want a number, which then is of no token
                setattr(config, name, getattr(tokenizer, name))
    config.vocab_size = len(tokenizer)
    set_seed(seed)
    model = task.auto_model.from_config(config)
    if model.can_generate():
        for name in _TOKENS[:3]:
            setattr(model.generation_config, name, getattr(tokenizer, name))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def train_tokenizer(
    texts: Iterator[list[str]], vocab_size: int, length: int, special_tokens: list[str], *, masked: bool
) -> PreTrainedTokenizerFast:
    """A byte-level BPE of `vocab_size` tokens."""
    names = _MASKED if masked else [END]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[*names, *special_tokens],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if not masked:
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END, model_max_length=length
        )
    begin, end = ((token, names.index(token)) for token in _AROUND)
    tokenizer.post_processor = processors.RobertaProcessing(end, begin, add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", cls_token="<s>", eos_token="</s>", sep_token="</s>",
        pad_token="<pad>", mask_token="<mask>", model_max_length=length,
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def _texts(task: Task) -> Iterator[list[str]]:
    """Training text, some rows at a time."""
    rows = task.rows["train"]
    if "text" not in (rows.column_names or []):
        raise InputError(
            f"from_scratch: expected a task with running text to train a tokenizer on, got {task.name}; give a teacher"
        )
    for batch in rows.iter(batch_size=1000):
        yield [text for text in batch["text"] if text]
