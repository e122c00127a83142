"""A model with some rows of its table of token embeddings, and of whatever else has a row for each token."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from ...errors import InputError, reason_of
from ...fast.embeddings import token_table
from ..as_computed import built_like
from .trimmed_tokenizer import collecting

_SIZES = "vocab_size", "decoder_vocab_size"
_IDS = "_token_id", "_token_ids", "_token_index", "suppress_tokens", "bad_words_ids"
"""How the fields of configs end that hold numbers of tokens."""


def table_size(model: PreTrainedModel) -> int:
    """The number of rows of the table of token embeddings.

    Raises:
        InputError: the model has none, or one whose size its config does not know.
    """
    table = token_table(model)
    kind = type(model).__name__
    if table is None:
        raise InputError(f"model: expected a table of token embeddings, got {kind}, which has none; leave it whole")
    size = table.num_embeddings
    if not any(getattr(part, name, None) == size for part in _parts(model.config) for name in _SIZES):
        raise InputError(
            f"model: expected a config whose vocab_size is the {size:,} rows of the embeddings, got "
            f"{getattr(model.config, 'vocab_size', None)} in {kind}; it cannot be trimmed"
        )
    return int(size)


def named_ids(model: PreTrainedModel) -> set[int]:
    """The numbers of tokens that a model's config and generation config name and that have an embedding."""
    found: set[int] = set()
    _change_ids(model.config, collecting(found))
    _change_ids(getattr(model, "generation_config", None), collecting(found))
    return {number for number in found if 0 <= number < table_size(model)}


def trim_model(model: PreTrainedModel, kept: list[int]) -> PreTrainedModel:
    """The same model for tokens of new numbers.

    Args:
        kept: for each new number of a token, its former one: fewer than the model has.

    Raises:
        InputError: weights that are not laid out by token.
    """
    before, numbers = table_size(model), {old: new for new, old in enumerate(kept)}

    def change(number: int) -> int:
        # Numbers that have no embedding mean nothing, before and after.
        return numbers.get(number, number)

    config = copy.deepcopy(model.config)
    for part in _parts(config):
        for name in _SIZES:
            if getattr(part, name, None) == before:
                setattr(part, name, len(kept))
    _change_ids(config, change)
    # Code that comes with a model may raise anything.
    try:
        small = built_like(model, config)
    except Exception as error:
        raise InputError(
            f"model: expected {type(model).__name__} with {len(kept):,} tokens, got an error ({reason_of(error)}); it "
            "cannot be trimmed"
        ) from error
    rows, state = torch.tensor(kept), model.state_dict()
    small.load_state_dict(
        {name: _kept_part(name, state.get(name), weight, before, rows) for name, weight in small.state_dict().items()}
    )
    if getattr(model, "generation_config", None) is not None:
        small.generation_config = copy.deepcopy(model.generation_config)
        _change_ids(small.generation_config, change)
        # Saved as it is: of one that was changed, transformers refuses settings that it only warns of otherwise.
        small.generation_config._original_object_hash = hash(small.generation_config)
    return small


def _kept_part(name: str, found: Tensor | None, wanted: Tensor, before: int, rows: Tensor) -> Tensor:
    """The rows of a weight that are kept; of one that has none for tokens, all of it."""
    shapes = (tuple(found.shape) if found is not None else None), tuple(wanted.shape)
    if found is None or found.dim() != wanted.dim():
        raise InputError(f"model: expected a weight {name} of shape {shapes[1]}, got {shapes[0]}; it cannot be trimmed")
    for axis, (had, has) in enumerate(zip(found.shape, wanted.shape, strict=True)):
        if had == has:
            continue
        if (had, has) != (before, len(rows)):
            raise InputError(
                f"model: expected weights with a row for each of {before:,} tokens, got {name} of shape {shapes[0]}; "
                "it cannot be trimmed"
            )
        found = found.index_select(axis, rows.to(found.device))
    return found.clone()


def _parts(config: Any) -> list[PretrainedConfig]:
    """A config and those inside it."""
    inner = [part for part in vars(config).values() if isinstance(part, PretrainedConfig)]
    return [config, *(deeper for part in inner for deeper in _parts(part))]


def _change_ids(config: Any, change: Callable[[int], int]) -> None:
    """Replace the numbers of tokens in the fields of a config, or of a generation config."""
    for part in _parts(config) if config is not None else []:
        for name, value in list(vars(part).items()):
            if name.endswith(_IDS) and value is not None:
                setattr(part, name, _changed(value, change))


def _changed(value: Any, change: Callable[[int], int]) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return change(value)
    return [_changed(item, change) for item in value] if isinstance(value, (list, tuple)) else value
