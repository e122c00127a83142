"""Numbers, lengths of time and lists as people read them: one format for each kind of thing, wherever it is shown.

What is missing (None) is an empty text, as in a cell of a table. Counts that are compared digit by digit, such as the
parameters in the table of a run, are written out where they are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .errors import QUOTED, shown

_UNITS = (("GB", 1e9, 1), ("MB", 1e6, 1), ("kB", 1e3, 0))
"""Name, bytes, decimals."""


def size(count: float | None) -> str:
    """Bytes in decimal units: `1.2 GB`, `86.7 MB`, `345 kB`, `12 B`."""
    if count is None:
        return ""
    for unit, of, decimals in _UNITS:
        # The unit of the rounded number: 999,960 kB are 1.0 GB, not 1000.0 MB.
        if round(count / of, 3) >= 1:
            return f"{count / of:,.{decimals}f} {unit}"
    return f"{count:.0f} B"


def parameters(count: int | None) -> str:
    """A number of parameters: `22.7 M`, or all digits below a million."""
    if count is None:
        return ""
    return f"{count / 1e6:,.1f} M" if count >= 1e6 else f"{count:,}"


def digits(value: float | None) -> str:
    """Three significant digits, as more are seldom measured: `0.412`, `43.6`, `1,234`, `3.1e-05`."""
    if value is None:
        return ""
    return f"{value:,.0f}" if 100 <= abs(value) < 1e9 else f"{value:.3g}"


def clock(seconds: float) -> str:
    """Time that runs, for a display that counts it: `0:05`, `1:40`, `2:03:04`. Its width hardly changes."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def duration(seconds: float) -> str:
    """How long something takes, for a report: `12.3 ms`, `9.5 s`, `1.7 min`, `2.0 h`, `3.5 days`."""
    # The unit of the rounded number: 0.9997 s are 1.0 s, not 1,000 ms.
    if round(1000 * seconds) < 1000:
        return f"{digits(1000 * seconds)} ms"
    if round(seconds) < 90:
        return f"{_with_decimal(seconds)} s"
    if round(seconds / 60) < 90:
        return f"{_with_decimal(seconds / 60)} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def _with_decimal(value: float) -> str:
    """One decimal below 10, none from there on."""
    return f"{value:.1f}" if round(value, 1) < 10 else f"{value:.0f}"


def noun(number: int, name: str) -> str:
    """A noun in the form that goes with a number: `row` for 1, `rows`, `classes`."""
    if number == 1:
        return name
    return f"{name}es" if name.endswith("s") else f"{name}s"


def counted(number: int, name: str) -> str:
    """`1 row`, `2,000 rows`, `2 processes`."""
    return f"{number:,} {noun(number, name)}"


def listed(names: Iterable[object], most: int | None = 20) -> str:
    """Names as messages list them: `a, b, c`, the first `most` only (None: all), each in one line of 60 characters.

    Names that are longer, empty, not printable, with blanks around them or with commas are quoted.
    """
    every = [str(name) for name in names]
    first = [name if _needs_no_quotes(name) else shown(name) for name in every[:most]]
    return ", ".join([*first, *(["..."] if len(every) > len(first) else [])])


def _needs_no_quotes(name: str) -> bool:
    return name.isprintable() and 0 < len(name) <= QUOTED and name == name.strip() and "," not in name


def and_list(names: Sequence[str]) -> str:
    """Names in a sentence: `KD, LWD and TED`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def told_together(said: Mapping[str, str]) -> dict[str, str]:
    """Names and what is said of each -> the same with one entry for names of which the same is said."""
    names: dict[str, list[str]] = {}
    for name, text in said.items():
        names.setdefault(text, []).append(name)
    return {and_list(found): text for text, found in names.items()}
