"""Short rows of ordinary tokens to try a model out on."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedTokenizerBase

from ..errors import InputError
from ..method.filters import Batch
from ..tasks.padding import padded

_WORDS, _MORE_WORDS = 5, 24
"""Words of the short rows and of the long one."""
_DIFFERENT = 97
"""Different words that are used."""


class ProbeRows:
    """Rows of ordinary tokens, between the special tokens that the tokenizer puts around a text.

    Args:
        table: the model's embeddings, which may lack tokens of the tokenizer.
        limit: tokens that the model reads, if that is known.

    Raises:
        InputError: the tokenizer does not make tokens of text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, table: nn.Embedding | None, limit: int | None) -> None:
        try:
            encoded = tokenizer("a", return_token_type_ids=True, verbose=False)
            ids, kinds = list(encoded["input_ids"]), list(encoded.get("token_type_ids") or [0])
        # Tokenizers of forms want boxes, those of tables a table; and with remote code anything may happen.
        except Exception as error:
            raise InputError(
                f"tokenizer {tokenizer.name_or_path}: expected one that makes tokens of text, got an error "
                f"({type(error).__name__}: {str(error)[:200]}); use a model of another family"
            ) from error
        special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
        size = None if table is None else table.num_embeddings
        known = sorted(number for number in set(tokenizer.get_vocab().values()) if size is None or number < size)
        ordinary = [number for number in known if number not in special] or known
        self._words = ordinary[:: max(len(ordinary) // _DIFFERENT, 1)]
        places = [place for place, number in enumerate(ids) if number not in special] or [len(ids) // 2]
        self._before, self._after = ids[: places[0]], ids[places[-1] + 1 :]
        self._kind = kinds[min(places[0], len(kinds) - 1)]
        self._pad = tokenizer.pad_token_id or 0
        room = min(limit or _MORE_WORDS * 100, tokenizer.model_max_length) - len(self._before) - len(self._after)
        self._more = max(min(_MORE_WORDS, room), 1)
        self._few = max(min(_WORDS, self._more - 1), 1)

    def pair(self) -> Batch:
        """Two short rows of the same length, which differ in their last word."""
        return self._batch([self._row(self._few), self._row(self._few, last=1)])

    def beside_longer(self) -> Batch:
        """The first of these beside a longer row, so that it is padded."""
        return self._batch([self._row(self._few), self._row(self._more, last=1)])

    @property
    def last_word(self) -> int:
        """Where the rows of `pair` differ."""
        return len(self._before) + self._few - 1

    def row(self, length: int) -> Batch:
        """One row of so many tokens."""
        return self._batch([self._row(length - len(self._before) - len(self._after))])

    def _row(self, words: int, last: int = 0) -> list[int]:
        places = list(range(words))
        if words > 0:
            places[-1] += last
        ids = [self._words[place % len(self._words)] for place in places]
        return [*self._before, *ids, *self._after]

    def _batch(self, rows: list[list[int]]) -> Batch:
        length = max(map(len, rows))
        return {
            "input_ids": padded(rows, length, self._pad),
            "attention_mask": padded([[1] * len(row) for row in rows], length, 0),
            "token_type_ids": padded([[self._kind] * len(row) for row in rows], length, 0),
        }
