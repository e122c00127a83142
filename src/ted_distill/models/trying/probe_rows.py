"""Short rows of ordinary tokens to try a model out on."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedTokenizerBase

from ...errors import InputError, reason_of
from ...method.filters import Batch
from ...tasks.padding import padded

_WORDS, _MORE_WORDS = 5, 24
"""Words of the short rows and of the long one."""
_DIFFERENT = 97
"""Different words that are used."""


class ProbeRows:
    """Rows of ordinary tokens, between the special tokens that the tokenizer puts around a text.

    Args:
        table: the model's embeddings, which may lack tokens of the tokenizer.
        pairs: rows are pairs of texts, such as a question and its context.

    Raises:
        InputError: the tokenizer does not make tokens of text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, table: nn.Embedding | None, pairs: bool = False) -> None:
        ids, kinds = _tokens(tokenizer, pairs)
        special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
        size = None if table is None else table.num_embeddings
        known = sorted(number for number in set(tokenizer.get_vocab().values()) if size is None or number < size)
        ordinary = [number for number in known if number not in special] or known
        self._words = ordinary[:: max(len(ordinary) // _DIFFERENT, 1)]
        # The words replace those of the text, or of the second text of a pair.
        around = special - {tokenizer.unk_token_id}
        end = max((place for place, number in enumerate(ids) if number not in around), default=len(ids) // 2)
        start = max((place for place, number in enumerate(ids[:end]) if number in around), default=-1) + 1
        self._around = (ids[:start], ids[end + 1 :])
        self._kinds = (kinds[:start], kinds[start : start + 1] or [0], kinds[end + 1 :])
        self._pad = tokenizer.pad_token_id or 0
        self._special = len(self._around[0]) + len(self._around[1])
        self.cut(tokenizer.model_max_length)

    @property
    def longest(self) -> int:
        """Tokens of the longer row of `beside_longer`."""
        return self._special + self._more

    def cut(self, limit: int) -> None:
        """Make all rows short enough for a model that reads `limit` tokens."""
        self._more = max(min(_MORE_WORDS, limit - self._special), 1)
        self._few = max(min(_WORDS, self._more - 1), 1)

    def alike(self) -> Batch:
        """Three short rows of the same length: one, the same with another last word, and with another first word."""
        return self._batch([self._row(self._few), self._row(self._few, last=1), self._row(self._few, first=1)])

    def beside_longer(self) -> Batch:
        """The first of these beside a longer row, so that it is padded."""
        return self._batch([self._row(self._few), self._row(self._more, last=1)])

    @property
    def last_word(self) -> int:
        """Where the second row of `alike` differs."""
        return self.first_word + self._few - 1

    @property
    def first_word(self) -> int:
        """Where the third row of `alike` differs."""
        return len(self._around[0])

    def row(self, length: int) -> Batch:
        """One row of this many tokens."""
        return self._batch([self._row(length - self._special)])

    def _row(self, words: int, first: int = 0, last: int = 0) -> list[int]:
        places = list(range(words))
        if words > 0:
            # Words that no other place of a short row has.
            places[0] += _WORDS * first
            places[-1] += _WORDS * last
        ids = [self._words[place % len(self._words)] for place in places]
        return [*self._around[0], *ids, *self._around[1]]

    def _batch(self, rows: list[list[int]]) -> Batch:
        length = max(map(len, rows))
        return {
            "input_ids": padded(rows, length, self._pad),
            "attention_mask": padded([[1] * len(row) for row in rows], length, 0),
            "token_type_ids": padded([self._kinds_of(row) for row in rows], length, 0),
        }

    def _kinds_of(self, row: list[int]) -> list[int]:
        before, of_words, after = self._kinds
        return [*before, *of_words * (len(row) - self._special), *after]


def _tokens(tokenizer: PreTrainedTokenizerBase, pairs: bool) -> tuple[list[int], list[int]]:
    """Ids and kinds of the tokens of a text, or of a pair of texts. Raises `InputError`."""
    try:
        encoded = tokenizer("a", "a" if pairs else None, return_token_type_ids=True, verbose=False)
        ids = list(encoded["input_ids"])
        return ids, list(encoded.get("token_type_ids") or [0] * len(ids))
    # Tokenizers of forms want boxes, those of tables a table; and with remote code anything may happen.
    except Exception as error:
        raise InputError(
            f"tokenizer {tokenizer.name_or_path}: expected one that makes tokens of text, got an error "
            f"({type(error).__name__}: {reason_of(error)}); use a model of another family"
        ) from error
