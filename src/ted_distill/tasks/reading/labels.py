"""Labels of any kind of value -> class numbers or scores."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from datasets import ClassLabel, Dataset

from ...errors import InputError, raise_if_any, shown
from ...wording import and_list, listed
from .columns import distinct_names, plain_name, plain_number, row_list, values
from .label_lists import SEPARATORS, blank_between_numbers, parsed_list
from .notices import notice

HIDDEN = -1
"""Marks a row whose label is not public, as in the test splits of GLUE."""
NO_LABEL = -100
"""Marks a row, or a word, that has no label: as if there were none."""
_BETWEEN = (*SEPARATORS, "/", "+", "&", " ")
"""What may be between several labels in a field: those that are looked for, and others that must be named."""
LARGEST_SCORE = 1e18
"""Squared errors of larger ones are beyond float32."""

_Found = TypeVar("_Found")
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


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
    raw = label_values(rows, column)
    raise_if_any(_no_classes(raw, column, split))
    found = _without_nan(of_each(label_name, raw))
    visible = [[name] if name not in (None, str(HIDDEN)) else [] for name in found]
    if names is None:
        hidden = [number for number, name in enumerate(found) if name == str(HIDDEN)]
        names = seen_names(rows, column, visible, split, hidden)
        warn_of_several(names, split)
    numbers = class_numbers(names, numbered)
    raise_if_any(unknown_labels(visible, numbers, names, split))
    return names, [None if name is None else numbers.get(name, HIDDEN) for name in found]


def _without_nan(found: list[str | None]) -> list[str | None]:
    """Names where a missing number may be the text `nan`; beside names in words it is one (of a language, say)."""
    names = {name for name in found if name is not None}
    texts = {name for name in names if name.lower() == "nan"}
    if not texts or not all(_NUMBER.fullmatch(name) for name in names - texts):
        return found
    return [None if name in texts else name for name in found]


def read_scores(rows: Dataset, column: str, split: str) -> list[float | None]:
    """Each row's score (None where missing), also from numbers in text. Any finite number is one, -100 too.

    Raises:
        InputError: values that are not finite numbers, or whose squares are too large for float32.
    """
    _require_one_column(rows, column, split)
    raw = label_values(rows, column)
    scores = [_score(value) for value in raw]
    broken = [row for row, score in enumerate(scores) if score is not None and not abs(score) <= LARGEST_SCORE]
    if broken:
        first = raw[broken[0]]
        if isinstance(first, str) and re.fullmatch(r"\s*[-+]?\d+,\d+\s*", first):
            raise InputError(
                f"{split}: expected numbers with a decimal point in column {column!r}, got {shown(first)} in "
                f"{row_list(broken)}; write {_without_comma(first.strip())}"
            )
        raise InputError(
            f"{split}: expected finite numbers in column {column!r}, at most {LARGEST_SCORE:g}, got "
            f"{shown(raw[broken[0]])} in {row_list(broken)}; fix or remove them, or use --task sequence_classification "
            "for class names"
        )
    return scores


def _without_comma(number: str) -> str:
    """How to write a number that has a comma, which may be that of thousands if three digits follow."""
    point, none = number.replace(",", "."), number.replace(",", "")
    # No comma of thousands comes after a zero, or after more than three digits.
    if re.fullmatch(r"[-+]?[1-9]\d{0,2},\d{3}", number):
        return f"{none} if the comma is for thousands, or {point} if it is the decimal point"
    return point


def label_name(value: Any) -> str | None:
    """The name of a label: plain text, "3" for 3 and 3.0, "True" for True, None if it is missing or -100."""
    if value is None or value != value:  # NaN, a missing number, is not equal to itself.
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    name = plain_name(str(value))
    return None if name in ("", str(NO_LABEL)) else name


def is_label(value: Any) -> bool:
    """Whether a value names a label or says that there is none: text, a whole number, a truth value, NaN or None."""
    if isinstance(value, str):
        return is_text(value)
    if isinstance(value, float):
        return value != value or value.is_integer()
    return value is None or isinstance(value, int)


def is_text(text: str) -> bool:
    """Whether text holds only characters that files of text hold: no NUL and no half of a character."""
    return "\0" not in text and not re.search(r"[\ud800-\udfff]", text)


def is_word(value: Any) -> bool:
    """Whether a value is a word, or a missing one: text, or a number, which a file may not tell from it."""
    return value is None or (isinstance(value, str | int | float) and value not in (math.inf, -math.inf))


def class_numbers(names: Sequence[str], numbered: bool = False) -> dict[str, int]:
    """Label name -> class number; with `numbered`, the number itself is a name too."""
    numbers = {str(number): number for number in range(len(names))} if numbered else {}
    return numbers | {name: number for number, name in enumerate(names)}


def sorted_names(names: Iterable[str]) -> list[str]:
    """Distinct names in order: as numbers if all are, else as text."""
    distinct = set(names)
    if all(re.fullmatch(r"-?\d{1,4000}", name) for name in distinct):
        return sorted(distinct, key=lambda name: (int(name), name))  # 1 and 01 are two names of one number
    return sorted(distinct)


def warn_of_alike(names: Iterable[str], split: str) -> None:
    """Say which classes differ only by capital letters, blanks or invisible characters, as those of a slip do."""
    by_letters: dict[str, list[str]] = {}
    for name in names:
        by_letters.setdefault(_letters(name), []).append(name)
    alike = [group for group in by_letters.values() if len(group) > 1]
    by_case = [group for group in alike if len({name.casefold() for name in group}) == 1]
    others = [group for group in alike if group not in by_case]
    for groups, what in ((by_case, "capital letters"), (others, "capital letters, blanks or invisible characters")):
        if groups:
            named = listed((and_list([*map(shown, group)]) for group in groups), 5)
            notice(f"{split}: the classes {named} differ only by {what}; they stay different classes")


def _letters(name: str) -> str:
    """A name in small letters, without blanks and invisible characters."""
    return "".join(c for c in name.casefold() if not c.isspace() and unicodedata.category(c) != "Cf")


def warn_of_several(
    names: Sequence[str], split: str, what_to_do: str = "for several labels use --task multi_label_classification"
) -> None:
    """Say which classes are several others with a separator between them: most likely several labels in a field."""
    known = {*names}
    numbers = blank_between_numbers(names)
    for name in names:
        for separator in _BETWEEN:
            parts = [*map(plain_name, name.split(separator))]
            if len(parts) > 1 and (known.issuperset(parts) or (numbers and separator == " ")):
                notice(
                    f"{split}: the class {shown(name)} looks like the labels {and_list([*map(shown, parts)])} of one "
                    f"row; it stays a class of its own ({what_to_do})"
                )
                return


# --- values ---------------------------------------------------------------------------------------------------


def of_each(function: Callable[[Any], _Found], found: Iterable[Any]) -> list[_Found]:
    """A function of each value, called once for those that are the same: labels are few, and rows are many."""
    known: dict[tuple[type, Any], _Found] = {}
    results = []
    for value in found:
        if isinstance(value, list | dict):  # which have no hash
            results.append(function(value))
            continue
        key = type(value), value  # 1, 1.0 and True are equal, but have other names
        if key not in known:
            known[key] = function(value)
        results.append(known[key])
    return results


def label_values(rows: Dataset, column: str) -> list[Any]:
    """The values of a column, with names for those of `ClassLabel` features (alone or in lists)."""
    found = values(rows, column).to_pylist()
    if _holds_decimals(rows.features[column]):
        found = [[*map(plain_number, row)] if isinstance(row, list) else plain_number(row) for row in found]
    declared = declared_names(rows, column)
    if declared is None:
        return found
    names = dict(enumerate(declared))
    return [
        [names.get(value, value) for value in row] if isinstance(row, list) else names.get(row, row) for row in found
    ]


def _holds_decimals(feature: Any) -> bool:
    return str(getattr(getattr(feature, "feature", feature), "dtype", "")).startswith("decimal")


def declared_names(rows: Dataset, column: str) -> list[str] | None:
    """The names of a `ClassLabel` feature, alone or in lists; None for other columns.

    Raises:
        InputError: two names differ only by blanks around them, or by their Unicode form.
    """
    feature = rows.features[column]
    feature = getattr(feature, "feature", feature)
    return distinct_names(feature.names, f"column {shown(column)}") if isinstance(feature, ClassLabel) else None


def seen_names(
    rows: Dataset, column: str, visible: Iterable[Iterable[str]], split: str, hidden: Sequence[int] = ()
) -> list[str]:
    """The classes that a column declares or, if it declares none, that rows have.

    Args:
        visible: the labels of each row that are known.
        hidden: numbers of the rows whose label is not public.

    Raises:
        InputError: there are fewer than two.
    """
    names = declared_names(rows, column) or sorted_names(name for row in visible for name in row)
    if len(names) < 2:
        raise InputError(
            f"{split}: expected two or more classes in column {column!r}, got "
            + (f"one class, {shown(names[0])}" if names else "no label")
            + (
                f" and -1, which marks hidden labels, in {row_list(hidden)}; if -1 is a class, name the classes in "
                "words, else give a split with labels"
                if hidden
                else "; name another column with --label_column"
            )
        )
    warn_of_alike(names, split)
    return names


def _score(value: Any) -> float | None:
    """A number, None for no value, NaN for any other value."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool) or (isinstance(value, str) and not _NUMBER.fullmatch(value)):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


# --- problems -------------------------------------------------------------------------------------------------


def _require_one_column(rows: Dataset, column: str, split: str) -> None:
    if column not in rows.column_names:
        raise InputError(
            f"{split}: expected one label column, got {column!r}; for several use --task multi_label_classification"
        )


def _no_classes(raw: Sequence[Any], column: str, split: str) -> Iterable[str]:
    lists = of_each(_is_list, raw)
    several = [number for number, is_list in enumerate(lists) if is_list]
    if several:
        yield (
            f"{split}: expected one label per row in column {column!r}, got {shown(raw[several[0]])} in "
            f"{row_list(several)}; for lists of labels use --task multi_label_classification"
        )
    labels = of_each(is_label, raw)
    broken = [number for number in range(len(raw)) if not lists[number] and not labels[number]]
    if broken:
        yield (
            f"{split}: expected class names or whole numbers in column {column!r}, got {shown(raw[broken[0]])} in "
            f"{row_list(broken)}; fix or remove them, or for scores use --task regression"
        )


def _is_list(value: Any) -> bool:
    """Whether a value is a list, or text that is one; a word in brackets is a word, and so is one in ( ) or { }."""
    if not isinstance(value, str) or not value.strip().startswith(("[", "(", "{")):
        return isinstance(value, list)
    found = parsed_list(value)
    if found is None or value.strip()[0] != "[":
        return found is not None and len(found) > 1
    return found != [value.strip()[1:-1].strip()]


def unknown_labels(
    visible: Sequence[list[str]], known: Iterable[str], names: Sequence[str], split: str
) -> Iterable[str]:
    """The problem that rows have labels that are not known."""
    known = set(known)
    strangers = [number for number, row in enumerate(visible) if not known.issuperset(row)]
    if strangers:
        first = sorted_names({name for number in strangers for name in visible[number]} - known)
        yield (
            f"{split}: expected the labels {listed(names)}, got {listed(map(shown, first), 5)} in "
            f"{row_list(strangers)}; fix or remove them, or name another column with --label_column"
        )
