"""Quotes around the fields of tsv files, which are characters like any other there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import shown
from .notices import notice

_QUOTED = re.compile(r'"(?:[^"]|"")*"')
"""A field in quotes as pandas and Excel write it."""


def say_quotes(columns: Mapping[str, Sequence[Any]], where: str) -> None:
    """Say that quotes are read as characters where a program seems to have put them around the fields of a tsv file.

    It puts them around every field of a column that has quotation marks, and doubles those inside.

    Args:
        columns: the first rows of each column.
        where: the file.
    """
    for name, fields in columns.items():
        marked = [field for field in fields if isinstance(field, str) and '"' in field]
        doubled = next((field for field in marked if '""' in field[1:-1]), None)
        if doubled is not None and all(map(_QUOTED.fullmatch, marked)):
            notice(
                f"{where}: expected fields without quotes around them, as a quotation mark is a character like any "
                f"other in a tsv file, got some with those inside doubled in column {name!r} ({shown(doubled)}); to "
                "have quotes taken away, give the file the extension .csv (and --delimiter tab if need be)"
            )
            return
