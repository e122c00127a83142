"""Numbers and lists as reports write them."""

from __future__ import annotations

from collections.abc import Sequence


def score(value: float | None) -> str:
    """A score: `83.21`; nothing for None."""
    return "" if value is None else f"{value:.2f}"


def interval(bounds: Sequence[float] | None) -> str:
    """`81.00 to 85.50`."""
    return "" if bounds is None else f"{bounds[0]:.2f} to {bounds[1]:.2f}"


def percent(share: float | None) -> str:
    """`62 %`."""
    return "" if share is None else f"{100 * share:.0f} %"


def parameters(count: int | None) -> str:
    """`22.7 million`, or all digits of a small number."""
    if count is None:
        return ""
    return f"{count / 1e6:.1f} million" if count >= 1e6 else f"{count:,}"


def short(count: int | None) -> str:
    """`22.7 M`, or all digits of a small number: for tables."""
    return parameters(count).replace(" million", " M")


def size(count: int | None) -> str:
    """`86.7 MB`."""
    if count is None:
        return ""
    unit, of = next((unit, of) for unit, of in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 0)) if count >= of)
    return f"{count / of:.1f} {unit}" if of else f"{count} B"


def speed(rows: float | None) -> str:
    """`1,240`, three digits of it being measured."""
    return "" if rows is None else f"{rows:,.0f}" if rows >= 100 else f"{rows:g}"


def listed(names: Sequence[str]) -> str:
    """`KD, LWD and TED`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def counted(number: int, name: str) -> str:
    """`1 row`, `12 rows`."""
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def capital(text: str) -> str:
    """A text as the beginning of a sentence."""
    return text[:1].upper() + text[1:]


def cut(text: str, length: int) -> str:
    """The beginning of a long text."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
