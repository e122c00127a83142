"""The padding token of a model and of its tokenizer, reconciled.

Batches hold the tokenizer's. A model that classifies by its last token finds that token by the padding token of its
config: where the two differ, or the config has none, it would classify by padding.
"""

from __future__ import annotations

from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ...fast.embeddings import token_table
from ...method.shapes import text_config
from ...tasks import Task
from ...tasks.reading.notices import notice
from ...tasks.text.language_modelling import LanguageModelling


def is_padded(task: Task) -> bool:
    """Whether rows of different lengths are in one batch."""
    return not isinstance(task, LanguageModelling)


def mend_pad_token(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, name: str, task: Task) -> None:
    """Before a model is made: replace a padding token that is missing or not in the vocabulary, on either side.

    Both need one where the task's rows are padded.
    """
    padded = is_padded(task)
    size = getattr(text_config(config), "vocab_size", None)
    found = getattr(text_config(config), "pad_token_id", None)
    known = isinstance(found, int) and found >= 0 and (not isinstance(size, int) or found < size)
    if padded and tokenizer.pad_token_id is None and known:
        token = tokenizer.convert_ids_to_tokens(found)
        if isinstance(token, str):
            tokenizer.pad_token = token
            notice(
                f"pad_token: expected one in the tokenizer of {name}, got none; taking the one in the model's config: "
                f"{token}"
            )
    elif padded and tokenizer.pad_token_id is None and isinstance(tokenizer.eos_token, str):
        tokenizer.pad_token = tokenizer.eos_token
        notice(
            f"pad_token: expected one in the tokenizer or the config of {name}, got none; taking the end-of-text "
            f"token, {tokenizer.eos_token}"
        )
        _set(config, tokenizer)
    # A token that the model has no row for is refused later, by name.
    elif tokenizer.pad_token_id not in (None, found) and not known and (padded or found is not None):
        _take_tokenizers(config, tokenizer, name)


def fit_pad_token(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """After a model that looks for the last token is made: its config's padding token becomes that of its tokenizer.

    Other models tell padding by the attention mask alone. Some of them count positions from their padding token
    (RoBERTa), so that it is part of the weights' meaning and stays.
    """
    found = getattr(text_config(model.config), "pad_token_id", None)
    if tokenizer.pad_token_id not in (None, found) and not _counts_from_padding(model):
        _take_tokenizers(model.config, tokenizer, name)


def pad_token_of(model: PreTrainedModel) -> int | None:
    """The padding token that a model expects; None if it has none in its table."""
    found = getattr(text_config(model.config), "pad_token_id", None)
    table = token_table(model)
    known = isinstance(found, int) and found >= 0 and (table is None or found < table.num_embeddings)
    return found if known else None


def _take_tokenizers(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    notice(
        f"pad_token_id: expected that of the tokenizer, {tokenizer.pad_token_id}, in the config of {name}, got "
        f"{getattr(text_config(config), 'pad_token_id', None)}; taking the tokenizer's"
    )
    _set(config, tokenizer)


def _set(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Name the tokenizer's padding token in a config, and in that of its text model."""
    inner = text_config(config)
    for part in (config, inner):
        if part is inner or hasattr(part, "pad_token_id"):
            part.pad_token_id = tokenizer.pad_token_id


def _counts_from_padding(model: PreTrainedModel) -> bool:
    """Whether a table of positions has a row for padding, after which it counts."""
    return any(
        getattr(module, "padding_idx", None) is not None and "position" in path
        for path, module in model.named_modules()
    )
