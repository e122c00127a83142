"""Whether the first line of a csv or tsv file names its columns, or is a row like any other."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from datasets import Dataset

from ...errors import InputError, shown
from ...wording import and_list
from .columns import USUAL_LABELS, USUAL_PAIRS, USUAL_TEXTS
from .file_options import FileOptions
from .notices import notice

LOOKED_AT = 10_000
"""Rows in which names are looked for: a class may be rare."""
_USUAL = {*USUAL_TEXTS, *USUAL_LABELS, *(name for pair in USUAL_PAIRS for name in pair)}
_DIGITS = re.compile(r"\d+")
_FEWEST_WORDS = 3
"""From this number of words on, a name is as long as texts are."""


def check_header(rows: Dataset, options: FileOptions, where: str) -> None:
    """See `check_names`, for the rows of a whole file."""
    first = rows[:LOOKED_AT]
    check_names(
        {name: ["" if value is None else str(value) for value in first[name]] for name in first}, options, where
    )


def check_names(columns: Mapping[str, Sequence[str]], options: FileOptions, where: str) -> None:
    """Refuse names of columns that are a row of the data, all of them; say so if one of them may be.

    Names that arguments give to columns, and usual ones, are names whatever is in the columns.

    Args:
        columns: the first rows of each column, as text.
        where: the file, for what is said without refusing it.

    Raises:
        InputError: every name looks like the values below it, and at least one surely is such a value.
    """
    named = {name: [*filter(None, values)] for name, values in columns.items() if name.strip()}
    if not named or not all(named.values()) or any(name in _USUAL or _is_read(name, options) for name in named):
        return
    repeated = [name for name, values in named.items() if name in {*values}]
    shaped = [name for name, values in named.items() if name in repeated or _has_shape(name, values)]
    if shaped and all(name in shaped or _is_long(name, values) for name, values in named.items()):
        raise InputError(
            f"line 1: expected names of columns, got {and_list([*map(shown, [*named][:4])])}, which "
            f"{'look' if len(named) > 1 else 'looks'} like the values in the lines below; put a line with names first, "
            'such as "text,label" (if these are names, give them with --text_column and --label_column)'
        )
    # A column may be called after one of its classes, such as `spam`.
    if alike := [name for name in repeated if re.search(r"[^\W\d_]", name)]:
        notice(
            f"{where}: line 1: expected names of columns, got {and_list([*map(shown, alike[:4])])}, also among the "
            "values below; if the first line is a row of the data, put a line with names before it, or it is lost"
        )


def _is_read(name: str, options: FileOptions) -> bool:
    return options.read is not None and options.may_read(name)


def _has_shape(name: str, values: Sequence[str]) -> bool:
    """Whether a name with digits is one of the values but for the digits: a number among numbers, an identifier."""
    return bool(_DIGITS.search(name)) and _DIGITS.sub("0", name) in {_DIGITS.sub("0", value) for value in values}


def _is_long(name: str, values: Sequence[str]) -> bool:
    """Whether a name is a text as long as half of those below it, or longer."""
    words = sum(len(value.split()) for value in values) / len(values)
    return len(name.split()) >= max(_FEWEST_WORDS, words / 2)
