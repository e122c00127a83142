"""Scores and texts as reports write them; `wording` has sizes, counts and lists."""

from __future__ import annotations

from collections.abc import Sequence


def score(value: float | None) -> str:
    """A score: `83.21`; nothing for None."""
    return "" if value is None else f"{value:.2f}"


def interval(bounds: Sequence[float] | None) -> str:
    """`81.00 to 85.50`; empty for no interval, and for one without a width: draws of rows that are all right, or all
    wrong, are all the same, and say nothing of other rows.
    """
    return "" if bounds is None or bounds[0] == bounds[1] else f"{bounds[0]:.2f} to {bounds[1]:.2f}"


def percent(share: float | None) -> str:
    """`62 %`."""
    return "" if share is None else f"{100 * share:.0f} %"


def capital(text: str) -> str:
    """A text as the beginning of a sentence."""
    return text[:1].upper() + text[1:]


def cut(text: str, length: int) -> str:
    """The beginning of a long text."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
