"""Probabilities of classes as labels: columns such as `probs_good` and `probs_bad`, named together by `probs_*`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from datasets import Dataset, List, Value

from ...errors import InputError, raise_if_any, shown
from ...wording import listed
from .columns import distinct_names, plain_name, plain_number, row_list, values

PROBABILITIES = "probabilities"
"""Column of rows and features, and key of a batch: (C,) or (B, C) probabilities of the classes."""
SUM_TOLERANCE = 1e-3
"""How far the probabilities of a row may be from a sum of 1: files hold rounded numbers."""
_ANY = "*"


def is_pattern(label: str | None, available: Sequence[str]) -> bool:
    """Whether a label column is a pattern with one `*` and not itself the name of a column."""
    return label is not None and label.count(_ANY) == 1 and label not in available


def matching(pattern: str, available: Sequence[str]) -> dict[str, str]:
    """Class name -> column: what stands for `*` in the columns that fit, in their order.

    Raises:
        InputError: two names differ only by blanks around them, or by their Unicode form.
    """
    start, end = pattern.split(_ANY)
    fitting = [name for name in available if name.startswith(start) and name.endswith(end)]
    names = {name: name[len(start) : max(len(start), len(name) - len(end))] for name in fitting}
    columns = [name for name in fitting if plain_name(names[name])]
    return dict(zip(distinct_names([names[name] for name in columns], shown(pattern)), columns, strict=True))


def read_probabilities(
    rows: Dataset, pattern: str, names: list[str] | None, split: str
) -> tuple[list[str], np.ndarray]:
    """Class names, and each row's probabilities (N, C), float64.

    Args:
        names: the class names, if known; one without a column has probability 0 [those of the columns, in their order].

    Raises:
        InputError: fewer than two columns fit, a column is of no class, or values are no probabilities.
    """
    columns = matching(pattern, rows.column_names)
    if len(columns) < 2:
        got = listed(columns.values()) or "none"
        raise InputError(
            f"{split}: expected two or more columns that fit {shown(pattern)}, got {got} "
            f"(columns: {listed(rows.column_names)}); name them by another pattern with --label_column"
        )
    names = list(columns) if names is None else names
    if strangers := [column for name, column in columns.items() if name not in names]:
        raise InputError(
            f"{split}: expected probabilities of the classes {listed(names)}, got columns {listed(strangers)}; rename "
            "or remove them"
        )
    problems: list[str] = []
    found = np.zeros((len(rows), len(names)))
    for name, column in columns.items():
        numbers, broken = _numbers(rows, column)
        found[:, names.index(name)] = numbers
        if broken:
            problems.append(
                f"{split}: expected probabilities from 0 to 1 in column {column!r}, got other values in "
                f"{row_list(broken)}; fix or remove them"
            )
    raise_if_any(problems)
    sums = found.sum(axis=1)
    # A little more room than said, for sums such as 0.999 that no float holds.
    if wrong := np.flatnonzero(np.abs(sums - 1) > SUM_TOLERANCE * (1 + 1e-9)).tolist():
        raise InputError(
            f"{split}: expected probabilities {pattern} that sum to 1 in each row, got {sums[wrong[0]]:.6g} in "
            f"{row_list(wrong)}; fix or remove them"
        )
    return names, found


def with_probabilities(rows: Dataset, probabilities: list[list[float]]) -> Dataset:
    """The rows with their probabilities as a further column."""
    return rows.add_column(PROBABILITIES, probabilities, feature=List(Value("float32")))


def with_uniform_probabilities(rows: Dataset, classes: int) -> Dataset:
    """The rows with a placeholder in place of probabilities that they do not have."""
    return with_probabilities(rows, [[1 / classes] * classes] * len(rows))


def _numbers(rows: Dataset, column: str) -> tuple[np.ndarray, list[int]]:
    """(N,) values as numbers, NaN for others, and the numbers of the rows that hold no probability."""
    found = np.array([_number(plain_number(value)) for value in values(rows, column).to_pylist()])
    return found, np.flatnonzero(~((found >= 0) & (found <= 1))).tolist()


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return float("nan")
    try:
        return float(value)
    except (ValueError, OverflowError):
        return float("nan")
