"""Several labels a row -> zeros and ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from datasets import Dataset

from ...errors import InputError, raise_if_any, shown
from .columns import distinct_names, label_columns, row_list
from .label_lists import split_fields
from .labels import is_label, label_name, label_values, of_each, seen_names, unknown_labels, warn_of_several

_FLAGS = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}
"""What a column of its own says of a label, in small letters: pandas writes its truth values as True and False."""


def read_label_sets(
    rows: Dataset, column: str, names: list[str] | None, split: str, separator: str | None = None
) -> tuple[list[str], list[list[float] | None]]:
    """Label names, and each row's labels as C zeros and ones (None where missing).

    A row holds a list of names or whole numbers, or text that `split_fields` makes such a list of; or each label has
    its own column of zeros and ones or truth values, and `column` is their names separated by commas.

    Args:
        separator: what is between names in text [see `split_fields`].

    Raises:
        InputError: values of other kinds, a single class, or a label that is not among `names`.
    """
    columns = label_columns(column, rows.column_names)
    if len(columns) > 1:
        return distinct_names(columns, split), _matrix(rows, columns, split)
    found = _name_lists(label_values(rows, column), column, split, separator)
    visible = [row or [] for row in found]
    if names is None:
        names = seen_names(rows, column, visible, split)
        warn_of_several(names, split, "name what is between labels with --label_separator")
    raise_if_any(unknown_labels(visible, names, names, split))
    return names, [None if row is None else [float(name in row) for name in names] for row in found]


def _name_lists(raw: list[Any], column: str, split: str, separator: str | None) -> list[list[str] | None]:
    """The label names of each row, None where there are none known."""
    lists = [_as_list(value) for value in split_fields(raw, column, split, separator)]
    broken = [
        number
        for number, value in enumerate(lists)
        if value is not None and not (isinstance(value, list) and all(map(_may_be_listed, value)))
    ]
    if broken:
        raise InputError(
            f"{split}: expected lists of label names or whole numbers, or names separated by |, ; or commas, in column "
            f"{column!r}, got {shown(raw[broken[0]])} in {row_list(broken)}; fix them, or name another column with "
            "--label_column"
        )
    raise_if_any(_not_once(raw, lists, column, split))
    return [None if row is None or _holds_none(row) else _names(row) for row in lists]


def _as_list(value: Any) -> Any:
    if value is None or value != value:
        return None
    return [value] if isinstance(value, int | float) else value


def _may_be_listed(value: Any) -> bool:
    # True and False are whole numbers to Python, but say which labels there are, not what they are called.
    return value is not None and value == value and not isinstance(value, bool) and is_label(value)


def _holds_none(row: Iterable[Any]) -> bool:
    """Whether -100 is among the labels: then they are not known."""
    return any(label_name(value) is None and str(value).strip() for value in row)


def _names(row: Iterable[Any]) -> list[str]:
    return [name for name in map(label_name, row) if name is not None]


def _not_once(raw: list[Any], lists: list[Any], column: str, split: str) -> Iterable[str]:
    """The problem that a row has a label twice, or that rows hold a zero or one for each of two labels."""
    names = [_names(row or ()) for row in lists]
    wrong = [number for number, row in enumerate(names) if len(set(row)) < len(row)]
    distinct = {name for row in names for name in row}
    if not wrong and names and distinct <= {"0", "1"} and {len(row) for row in names} == {1}:
        wrong = list(range(len(names)))  # of one label, whether a row has it
    if not wrong and len({len(name) for name in distinct}) == 1 and all(map(_is_row_of_bits, distinct)):
        wrong = list(range(len(names)))
    if not wrong and {len(row) for row in names} == {2} and {name for row in names for name in row} == {"0", "1"}:
        wrong = list(range(len(names)))
    if wrong:
        yield (
            f"{split}: expected each label once per row in column {column!r}, got {shown(raw[wrong[0]])} in "
            f"{row_list(wrong)}; if these are zeros and ones, give each label its own column and name them with "
            "--label_column a,b,c"
        )


def _is_row_of_bits(name: str) -> bool:
    """Whether a name is zeros and ones of several labels, as `011`."""
    return len(name) > 1 and not {*name} - {"0", "1"}


def _matrix(rows: Dataset, columns: Sequence[str], split: str) -> list[list[float] | None]:
    """Zeros and ones of several columns, row by row; None where one is missing."""
    raw = [label_values(rows, name) for name in columns]
    by_column = [of_each(label_name, column) for column in raw]
    problems = []
    for name, column, found in zip(columns, raw, by_column, strict=True):
        broken = [number for number, value in enumerate(found) if value is not None and _flag(value) is None]
        if broken:
            problems.append(
                f"{split}: expected 0 or 1 in label column {name!r}, got {shown(column[broken[0]])} in "
                f"{row_list(broken)}; fix or remove them (true and false are read too)"
            )
    raise_if_any(problems)
    numbers = [[None if value is None else _flag(value) for value in column] for column in by_column]
    return [_complete(row) for row in zip(*numbers, strict=True)]


def _flag(name: str) -> float | None:
    return _FLAGS.get(name.casefold())


def _complete(row: Sequence[float | None]) -> list[float] | None:
    known = [value for value in row if value is not None]
    return known if len(known) == len(row) else None
