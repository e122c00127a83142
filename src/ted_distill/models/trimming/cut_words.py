"""How many words of texts two tokenizers cut differently."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from tokenizers import Encoding, Tokenizer

from ...errors import InputError, reason_of
from ...tasks.reading.corpus import Text

_WORD = re.compile(r"\S+")
_AT_ONCE = 1000


@dataclass(frozen=True)
class CutWords:
    """Counts over texts.

    Attributes:
        words: those between blanks.
        changed: words that are cut into other pieces.
        unknown: those of them that hold something unknown now, and did not before.
    """

    words: int
    changed: int
    unknown: int

    @property
    def changed_share(self) -> float:
        """Of all words."""
        return self.changed / max(self.words, 1)

    @property
    def unknown_share(self) -> float:
        """Of all words."""
        return self.unknown / max(self.words, 1)


def encoded(tokenizer: Tokenizer, texts: Sequence[Text]) -> list[Encoding]:
    """The tokens of texts, with special ones; words that come one by one are cut one by one.

    Raises:
        InputError: the tokenizer does not take one of the texts.
    """
    found: dict[int, Encoding] = {}
    for in_words in (False, True):
        places = [place for place, text in enumerate(texts) if isinstance(text, tuple) is in_words]
        given = [list(text) if isinstance(text := texts[place], tuple) else text for place in places]
        # Errors of the library have no common class.
        try:
            found |= dict(zip(places, tokenizer.encode_batch(given, is_pretokenized=in_words), strict=True))
        except Exception as error:
            raise InputError(
                f"tokenizer: expected one that cuts every text, got an error ({reason_of(error)}); leave out such texts"
            ) from error
    return [found[place] for place in range(len(texts))]


def in_batches(texts: Iterable[Text]) -> Iterator[tuple[Text, ...]]:
    """Texts in numbers that fit into memory with their tokens."""
    waiting = iter(texts)
    while batch := tuple(islice(waiting, _AT_ONCE)):
        yield batch


def cut_words(before: Tokenizer, after: Tokenizer, unknown: str | None, texts: Iterable[Text]) -> CutWords:
    """Count the words that `after` cuts into other pieces than `before`, as often as they occur.

    Args:
        unknown: the token for what is unknown.
    """
    words = changed = newly_unknown = 0
    for batch in in_batches(text if isinstance(text, str) else " ".join(text) for text in texts):
        for text, old, new in zip(batch, encoded(before, batch), encoded(after, batch), strict=True):
            assert isinstance(text, str)
            spans = [match.span() for match in _WORD.finditer(text)]
            words += len(spans)
            changed += len(_touched(spans, _tokens(old) ^ _tokens(new)))
            was_unknown = _touched(spans, _unknown_tokens(old, before, unknown))
            newly_unknown += len(_touched(spans, _unknown_tokens(new, after, unknown)) - was_unknown)
    return CutWords(words, changed, newly_unknown)


def _tokens(encoding: Encoding) -> set[tuple[int, int, str]]:
    """Start, end and text of each token that stands for something."""
    places = zip(encoding.offsets, encoding.tokens, strict=True)
    return {(start, end, token) for (start, end), token in places if end > start}


def _unknown_tokens(encoding: Encoding, tokenizer: Tokenizer, unknown: str | None) -> set[tuple[int, int, str]]:
    """Those tokens that stand for something unknown: by number, as Unigram gives them the text that they stand for."""
    number = None if unknown is None else tokenizer.token_to_id(unknown)
    places = zip(encoding.offsets, encoding.ids, strict=True)
    return {(start, end, "") for (start, end), token in places if end > start and token == number}


def _touched(words: Sequence[tuple[int, int]], tokens: set[tuple[int, int, str]]) -> set[tuple[int, int]]:
    """The words that share a character with one of the tokens."""
    covered = {place for start, end, _ in tokens for place in range(start, end)}
    return {word for word in words if not covered.isdisjoint(range(*word))} if covered else set()
