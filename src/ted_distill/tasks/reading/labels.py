"""Labels of any kind of value -> class numbers, label sets or scores."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from datasets import ClassLabel, Dataset

from ...errors import InputError, raise_if_any
from .columns import label_columns, listed, row_list, shown, values

HIDDEN = -1
"""Marks a row whose label is not public, as in the test splits of GLUE."""


def read_classes(
    rows: Dataset, column: str, names: list[str] | None, split: str, numbered: bool = False
) -> tuple[list[str], list[int | None]]:
    """Label names, and each row's class number: None where missing, -1 where hidden.

    Args:
        names: the label names, if known [those of a `ClassLabel` feature, or those in the rows, sorted].
        numbered: the data may hold numbers in place of `names`.

    Raises:
        InputError: values that are not classes, a single class, or a label that is not among `names`.
    """
    _require_one_column(rows, column, split)
    raw = _values(rows, column)
    raise_if_any(_no_classes(raw, column, split))
    found = [label_name(value) for value in raw]
    visible = [[name] if name not in (None, str(HIDDEN)) else [] for name in found]
    if names is None:
        names = _seen_names(rows, column, visible, split)
    numbers = class_numbers(names, numbered)
    raise_if_any(_unknown(visible, numbers, names, split))
    return names, [None if name is None else numbers.get(name, HIDDEN) for name in found]


def read_label_sets(
    rows: Dataset, column: str, names: list[str] | None, split: str
) -> tuple[list[str], list[list[float] | None]]:
    """Label names, and each row's labels as C zeros and ones (None where missing).

    A row holds a list of names or whole numbers, or names separated by `|` or `,`; or each label has its own column of
    zeros and ones, and `column` is their names separated by commas.

    Raises:
        InputError: values of other kinds, a single class, or a label that is not among `names`.
    """
    columns = label_columns(column, rows.column_names)
    if len(columns) > 1:
        return columns, _matrix(rows, columns, split)
    found = _name_lists(_values(rows, column), column, split)
    visible = [row or [] for row in found]
    if names is None:
        names = _seen_names(rows, column, visible, split)
    raise_if_any(_unknown(visible, names, names, split))
    return names, [None if row is None else [float(name in row) for name in names] for row in found]


def read_scores(rows: Dataset, column: str, split: str) -> list[float | None]:
    """Each row's score (None where missing), also from numbers in text.

    Raises:
        InputError: values that are not finite numbers.
    """
    _require_one_column(rows, column, split)
    raw = _values(rows, column)
    scores = [_score(value) for value in raw]
    broken = [row for row, score in enumerate(scores) if score is not None and not math.isfinite(score)]
    if broken:
        raise InputError(
            f"{split}: expected finite numbers in column {column!r}, got {shown(raw[broken[0]])} in "
            f"{row_list(broken)}; fix or remove them, or use --task sequence_classification for class names"
        )
    return scores


def label_name(value: Any) -> str | None:
    """The name of a label: stripped text, "3" for 3 and 3.0, "True" for True, None if it is missing."""
    if value is None or value != value:  # NaN, a missing number, is not equal to itself.
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


def class_numbers(names: Sequence[str], numbered: bool = False) -> dict[str, int]:
    """Label name -> class number; with `numbered`, the number itself is a name too."""
    numbers = {str(number): number for number in range(len(names))} if numbered else {}
    return numbers | {name: number for number, name in enumerate(names)}


# --- values ---------------------------------------------------------------------------------------------------


def _values(rows: Dataset, column: str) -> list[Any]:
    """The values of a column, with names for those of `ClassLabel` features (alone or in lists)."""
    found = values(rows, column).to_pylist()
    declared = _declared_names(rows, column)
    if declared is None:
        return found
    names = dict(enumerate(declared))
    return [
        [names.get(value, value) for value in row] if isinstance(row, list) else names.get(row, row) for row in found
    ]


def _declared_names(rows: Dataset, column: str) -> list[str] | None:
    feature = rows.features[column]
    feature = getattr(feature, "feature", feature)
    return list(feature.names) if isinstance(feature, ClassLabel) else None


def _seen_names(rows: Dataset, column: str, visible: Iterable[Iterable[str]], split: str) -> list[str]:
    names = _declared_names(rows, column) or _sorted_names(name for row in visible for name in row)
    if len(names) < 2:
        raise InputError(
            f"{split}: expected two or more classes in column {column!r}, got {listed(names) or 'no label'}; "
            "name another column with --label_column"
        )
    return names


def _sorted_names(names: Iterable[str]) -> list[str]:
    """Distinct names in order: as numbers if all are, else as text."""
    distinct = set(names)
    return sorted(distinct, key=int if all(re.fullmatch(r"-?\d+", name) for name in distinct) else None)


def _name_lists(raw: list[Any], column: str, split: str) -> list[list[str] | None]:
    """The label names of each row, None where the value is neither a list nor text."""
    separator = "|" if any(isinstance(value, str) and "|" in value for value in raw) else ","
    lists = [value.split(separator) if isinstance(value, str) else value for value in raw]
    lists = [[value] if isinstance(value, int) else value for value in lists]
    for number, value in enumerate(lists):
        if isinstance(value, dict) or (isinstance(value, float) and not math.isnan(value)):
            raise InputError(
                f"{split}: expected lists of label names, or names separated by | or commas, in column {column!r}, got "
                f"{shown(raw[number])} in row {number + 1}; fix it, or name another column with --label_column"
            )
    found = [[label_name(name) for name in value] if isinstance(value, list) else None for value in lists]
    named = [[name for name in row if name is not None] if row is not None else None for row in found]
    twice = [number for number, row in enumerate(named) if row and len(set(row)) < len(row)]
    if twice:
        raise InputError(
            f"{split}: expected each label once per row in column {column!r}, got {shown(raw[twice[0]])} in "
            f"{row_list(twice)}; if these are zeros and ones, give each label its own column and name them with "
            "--label_column a,b,c"
        )
    return named


def _matrix(rows: Dataset, columns: Sequence[str], split: str) -> list[list[float] | None]:
    """Zeros and ones of several columns, row by row; None where one is missing."""
    by_column = [_values(rows, name) for name in columns]
    problems = []
    for name, column in zip(columns, by_column, strict=True):
        broken = [number for number, value in enumerate(column) if value not in (None, 0, 1)]
        if broken:
            problems.append(
                f"{split}: expected 0 or 1 in label column {name!r}, got {shown(column[broken[0]])} in "
                f"{row_list(broken)}; fix or remove them"
            )
    raise_if_any(problems)
    return [None if None in row else [float(value) for value in row] for row in zip(*by_column, strict=True)]


def _score(value: Any) -> float | None:
    """A number, None for no value, NaN for any other value."""
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


# --- problems -------------------------------------------------------------------------------------------------


def _require_one_column(rows: Dataset, column: str, split: str) -> None:
    if column not in rows.column_names:
        raise InputError(
            f"{split}: expected one label column, got {column!r}; for several use --task multi_label_classification"
        )


def _no_classes(raw: Sequence[Any], column: str, split: str) -> Iterable[str]:
    strange = [number for number, value in enumerate(raw) if not isinstance(value, str | int | float | None)]
    if strange:
        yield (
            f"{split}: expected one label per row in column {column!r}, got {shown(raw[strange[0]])} in "
            f"{row_list(strange)}; for lists of labels use --task multi_label_classification"
        )
    broken = [number for number, value in enumerate(raw) if isinstance(value, float) and value % 1 > 0]
    if broken:
        yield (
            f"{split}: expected class names or whole numbers in column {column!r}, got {raw[broken[0]]} in "
            f"{row_list(broken)}; for scores use --task regression"
        )


def _unknown(visible: Sequence[list[str]], known: Iterable[str], names: Sequence[str], split: str) -> Iterable[str]:
    known = set(known)
    strangers = [number for number, row in enumerate(visible) if not known.issuperset(row)]
    if strangers:
        first = _sorted_names({name for number in strangers for name in visible[number]} - known)
        yield (
            f"{split}: expected the labels {listed(names)}, got {listed(map(shown, first), 5)} in "
            f"{row_list(strangers)}; fix or remove them, or name another column with --label_column"
        )
