"""Tables with a word a row and its tag beside it, such as Kaggle's of named entities: neither texts nor sentences."""

from __future__ import annotations

import re

import pyarrow.compute as pc
from datasets import Dataset, Value

from ...errors import InputError
from .columns import values
from .label_lists import parsed_list
from .tags import are_only_of_entities

_MOST_WORDS = 1.1
"""On average, where a row is a word: some are written with a blank."""
_LOOKED_AT = 2000
"""Rows whose words are counted."""
_WORD_NAMES = {"word", "words", "token", "tokens", "form", "text"}
_SENTENCE = re.compile(r"(?i).*(sent|doc|id|line|paragraph|#).*")


def refuse_word_rows(rows: Dataset, words: str, tags: str, split: str) -> None:
    """Raise `InputError` if these columns hold a word and its tag, and no lists of them."""
    if not all(name in rows.column_names and _is_text(rows, name) and _are_words(rows, name) for name in (words, tags)):
        return
    others = [name for name in rows.column_names if name not in (words, tags)]
    sentence = next((name for name in others if _SENTENCE.fullmatch(name)), None)
    raise InputError(
        f"{split}: expected a sentence a row, or a txt or conll file, got a word a row in column {words!r} and its tag "
        f"in {tags!r}; {_how_to_join(words, tags, sentence)}"
    )


def _how_to_join(words: str, tags: str, sentence: str | None) -> str:
    """What to do with words of which a column names the sentence, or none does."""
    if sentence is None:
        return (
            "no column says which sentence a word is of: give a conll file (a word and its tag per line without names "
            "above, a blank line between sentences), or json lines with lists"
        )
    return (
        f"with pandas: df = pandas.read_csv(FILE, keep_default_na=False); key = df[{sentence!r}]; "
        f"df.groupby(key.mask(key == '').ffill(), sort=False)[[{words!r}, {tags!r}]].agg(list)"
        ".to_json('sentences.jsonl', orient='records', lines=True)"
    )


def refuse_words_with_entities(rows: Dataset, split: str) -> None:
    """The same for any two columns, if one holds tags that are parts of entities. Raises `InputError`."""
    texts = [name for name in rows.column_names if _is_text(rows, name)]
    tags = next((name for name in reversed(texts) if _are_entities(rows, name)), None)
    words = [name for name in texts if name != tags and _are_words(rows, name)]
    if tags is not None and words:
        first = max(words, key=lambda name: (name.casefold() in _WORD_NAMES, len(pc.unique(values(rows, name)))))
        refuse_word_rows(rows, first, tags, split)


def _is_text(rows: Dataset, name: str) -> bool:
    return bool(rows.features[name] == Value("string"))


def _are_words(rows: Dataset, name: str) -> bool:
    counts = [len(text.split()) for text in rows[:_LOOKED_AT][name] if text and parsed_list(text) is None]
    return bool(counts) and sum(counts) <= _MOST_WORDS * len(counts)


def _are_entities(rows: Dataset, name: str) -> bool:
    return are_only_of_entities([tag for tag in pc.unique(values(rows, name)).to_pylist() if tag])
