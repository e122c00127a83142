"""What the columns of a data file hold: texts, classes, numbers, lists, answers, or what identifies a row."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, List

from ...tasks.reading.columns import plain_number, values
from ...tasks.reading.label_lists import parsed_list
from ...tasks.squad.rows import standard_rows
from ..spread import spread_places

TEXT, CLASSES, WHOLE, NUMBERS, LISTS, ANSWERS, OTHER = (
    "text", "classes", "whole numbers", "numbers", "lists", "answers", "other values",
)  # fmt: skip
_LOOKED_AT = 2000
"""Rows whose values are looked at one by one; different values are counted in all rows."""
_FEW = 20
"""Up to this many rows, every value may be different although the column holds classes."""
_MONTH = r"(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?"
_ADDRESS = re.compile(
    r"https?://\S+|\S+@\S+\.\w+|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?!\d).*"
    rf"|{_MONTH} \d{{1,2}}(st|nd|rd|th)?,? \d{{4}}.*|\d{{1,2}}\.? {_MONTH},? \d{{4}}.*"
)
"""Addresses and dates: neither texts nor classes, however often they are repeated."""
_CODE = re.compile(r"[-\d/:.,+ ]+|(?=\S*\d)[\w.:/#-]+")
"""Numbers and identifiers: what no model should read."""
_IDENTIFIES = re.compile(r"(|id|idx|index|uid|uuid|guid|key|row|number|no|nr|unnamed.*|__.*__|.*[_-](id|idx|index))")


SAYS_CLASS = re.compile(r"(.*[_ -])?(label|labels|class|category|intent|topic|target)(_?id)?")
"""Names of columns of classes, also where these are written as numbers."""
_LONGEST_NAME, _REPEATED = 200, 20
"""Characters of a class's name, and how often each is there on average, for texts that are long for a name."""


@dataclass(frozen=True)
class Column:
    """One column of a data file.

    Attributes:
        kind: what it holds, one of the names above.
        distinct: different values; 0 for lists and answers.
        filled: rows with a value.
        words: of a text, or items of a list, on average.
        examples: a few of its values.
    """

    name: str
    kind: str
    distinct: int
    filled: int
    words: float
    examples: tuple[Any, ...]

    @property
    def is_flag(self) -> bool:
        """Whether it holds zeros and ones only, or truth values."""
        if self.kind == CLASSES:
            return self.distinct == 2 and {str(value).casefold() for value in self.examples} == {"true", "false"}
        return self.kind == WHOLE and {*self.examples} <= {0, 1} and self.distinct == 2


def look_at_columns(rows: Dataset) -> dict[str, Column]:
    """The columns of a file, in its order."""
    return {name: _look_at(rows, name) for name in rows.column_names}


def _look_at(rows: Dataset, name: str) -> Column:
    feature = rows.features[name]
    column = values(rows, name)
    filled = len(column) - column.null_count
    looked_at = [*map(plain_number, column.take(spread_places(len(column), _LOOKED_AT)).to_pylist())]
    seen = [value for value in looked_at if value is not None and value != ""]
    if isinstance(feature, ClassLabel):
        return Column(name, CLASSES, len(feature.names), filled, 1, tuple(feature.names[:5]))
    if _are_answers(seen):
        return Column(name, ANSWERS, 0, filled, 1, tuple(seen[:2]))
    if isinstance(feature, List) or _are_lists(seen):
        lists = [parsed_list(value) if isinstance(value, str) else value for value in seen]
        items = float(np.mean([len(row or ()) for row in lists])) if lists else 0
        return Column(name, LISTS if _are_plain(lists) else OTHER, 0, filled, items, tuple(lists[:5]))
    if not seen or isinstance(seen[0], (list, dict, bytes)):
        return Column(name, OTHER, 0, filled, 0, ())
    distinct = int(pc.count_distinct(column, mode="only_valid").as_py())
    words = float(np.mean([len(str(value).split()) for value in seen]))
    kind = _kind(name, seen, distinct, filled, words)
    return Column(name, kind, distinct, filled, words, tuple(dict.fromkeys(seen))[:5])


def _are_answers(seen: list[Any]) -> bool:
    """Whether values are what task `question_answering` reads as answers, at least one of them with a text."""
    if not seen or not isinstance(seen[0], (dict, list, str)) or not any("answer_start" in str(v) for v in seen[:20]):
        return False
    rows = {"question": [""], "context": [""]}
    return all(standard_rows({**rows, "a": [value]}, [0], ("question", "context", "a"), False)["answers"][0] is not None
               for value in seen[:20])  # fmt: skip


def _are_lists(seen: list[Any]) -> bool:
    """Whether all texts are lists; words in ( ) or { } are words unless there are several in one of them."""
    if not all(isinstance(value, str) and value.lstrip().startswith(("[", "(", "{")) for value in seen):
        return False
    lists = [parsed_list(value) for value in seen]
    brackets = {value.lstrip()[0] for value in seen}
    return bool(seen) and None not in lists and ("[" in brackets or any(len(row or ()) > 1 for row in lists))


def _are_plain(lists: list[Any]) -> bool:
    """Whether lists hold words or numbers, and not further lists or records."""
    return not any(isinstance(item, (list, dict)) for row in lists for item in row or ())


def _kind(name: str, seen: list[Any], distinct: int, filled: int, words: float) -> str:
    if isinstance(seen[0], bool):
        return CLASSES
    plain = name.strip().lower()
    identifies = bool(_IDENTIFIES.fullmatch(plain)) and not SAYS_CLASS.fullmatch(plain)
    if isinstance(seen[0], (int, float)):
        if any(isinstance(value, float) and not value.is_integer() for value in seen):
            return NUMBERS
        # A number for each row, such as 0, 1, 2, says nothing about it.
        return OTHER if identifies or (distinct == filled > _FEW) else WHOLE
    if not isinstance(seen[0], str):
        return OTHER  # dates
    if _mostly(_ADDRESS, seen):
        return OTHER
    if _are_classes(seen, distinct, filled, words):
        return OTHER if identifies else CLASSES
    return OTHER if _mostly(_CODE, seen) or (identifies and words < 2) else TEXT


def _mostly(pattern: re.Pattern[str], seen: list[str]) -> bool:
    return sum(bool(pattern.fullmatch(value.strip())) for value in seen) > 0.9 * len(seen)


def _are_classes(seen: list[str], distinct: int, filled: int, words: float) -> bool:
    """Whether texts are names of classes: short, and few different ones; or longer, and very few."""
    length = float(np.mean([len(value) for value in seen]))
    if max(map(len, seen)) > 80 or length > 40:
        few = distinct * _REPEATED <= filled and 1 < distinct <= filled**0.5
        return few and max(map(len, seen)) <= _LONGEST_NAME and length <= _LONGEST_NAME / 2
    if filled < _FEW:
        return words <= 2.5
    return distinct <= filled / 5 or (words <= 4 and distinct <= filled / 2)
