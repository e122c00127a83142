"""The embeddings of a model's tokens: whether each token has one, how large they are, and keeping them as they are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, IterableDataset
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import InputError, shown
from ..fast.embeddings import token_table
from ..tasks import Task
from ..tasks.reading.columns import values
from ..wording import listed

_LOOKED_AT = 1000
"""Rows of a stream that are looked at."""


def check_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Task, name: str) -> None:
    """Refuse a tokenizer with tokens that its model has no embedding for.

    A special token that the tokenizer puts nowhere by itself, such as one for images, is allowed if no text holds it.

    Raises:
        InputError: names some of them.
    """
    table = token_table(model)
    if table is None:
        return
    beyond = {token: number for token, number in tokenizer.get_vocab().items() if number >= table.num_embeddings}
    if not beyond:
        return
    named = set(tokenizer.convert_tokens_to_ids(list(_named(tokenizer))))
    added = tokenizer.added_tokens_decoder
    missing = [token for token, number in beyond.items() if number in named or not _is_special(added.get(number))]
    missing = missing or [token for token in beyond if _occurs(token, task)]
    if missing:
        raise InputError(
            f"tokenizer: expected an embedding in {name} for each of its tokens, got {table.num_embeddings:,} "
            f"embeddings and tokens with numbers up to {max(beyond.values()):,} (without one: "
            f"{listed(map(shown, missing), 5)}); call model.resize_token_embeddings(len(tokenizer)) and save it, "
            "or use the tokenizer that the model was made with"
        )


def check_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Task, name: str) -> None:
    """Refuse texts with an end of their own for a classifier that reads the last end of each row (BART, T5).

    transformers refuses them in the batch that holds one, which may be that of the last test row.

    Raises:
        InputError: names the token.
    """
    end = tokenizer.eos_token
    reads_ends = getattr(model.config, "is_encoder_decoder", False) and hasattr(model, "classification_head")
    if reads_ends and end and not tokenizer.split_special_tokens and _occurs(str(end), task):
        raise InputError(
            f"text: expected rows without {end}, by which {name} ({type(model).__name__}) finds the end of a row, got "
            "some that hold it; remove it from the texts, or use a model without a decoder"
        )


def freeze_tokens(model: PreTrainedModel) -> None:
    """Keep the embeddings of tokens as they are while the rest of a model is trained."""
    if (table := token_table(model)) is not None:
        table.requires_grad_(False)


def embedding_parameters(model: nn.Module) -> int:
    """How many of a model's parameters are in tables of embeddings, each table counted once."""
    tables = {
        id(module.weight): module.weight.numel() for module in model.modules() if isinstance(module, nn.Embedding)
    }
    return sum(tables.values())


def _named(tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """Tokens with a part to play: padding, beginning, end, and so on."""
    names = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
    return (str(token) for name in names if (token := getattr(tokenizer, f"{name}_token", None)) is not None)


def _is_special(token: object) -> bool:
    return bool(getattr(token, "special", False))


def _occurs(token: str, task: Task) -> bool:
    """Whether a text of the data holds a token as it is; of a stream, its first rows."""
    for rows in task.rows.values():
        if isinstance(rows, IterableDataset):
            if any(token in (row["text"] or "") for row in islice(rows, _LOOKED_AT)):
                return True
        elif any(_holds(rows, name, token) for name in rows.column_names):
            return True
    return False


def _holds(rows: Dataset, name: str, token: str) -> bool:
    column = values(rows, name)
    while pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = pc.list_flatten(column)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return False
    return bool(pc.any(pc.match_substring(column, token)).as_py())
