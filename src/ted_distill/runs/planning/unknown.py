"""What cannot be found out, and asking for what may not be there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ...errors import InputError

Found = TypeVar("Found")

_SLOW = 5.0
"""Seconds after which a Hub name that was not found was not found for want of a connection."""


@dataclass(frozen=True)
class Unknown:
    """In the place of something that cannot be found out."""

    why: str

    def __str__(self) -> str:
        return f"unknown: {self.why}"


class Hub:
    """Asks for models and data; once the Hub did not answer it is not asked again: every name takes half a minute."""

    def __init__(self) -> None:
        self.silent = False

    def ask(self, name: str, read: Callable[[], Found]) -> Found | Unknown:
        """What `read` gives of a Hub name; of a folder or file too, where nothing may be missing.

        Raises:
            InputError: a folder or file is missing or wrong.
        """
        if name.startswith((".", "/", "~")) or Path(name).exists():
            return read()
        if self.silent:
            return Unknown(f"{name} was not looked for, as the Hub did not answer")
        began = time.monotonic()
        try:
            return read()
        except InputError as error:
            self.silent = time.monotonic() - began > _SLOW
            return Unknown("; ".join(error.problems))
