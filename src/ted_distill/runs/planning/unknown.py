"""Facts that cannot be found out, and questions to the Hub, which may not answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ...errors import InputError
from ...models.pretrained import is_refused_by_hub

Found = TypeVar("Found")

_SLOW = 5.0
"""Seconds; if a Hub name is not found within this time, the cause is taken to be the connection."""


@dataclass(frozen=True)
class Unknown:
    """Takes the place of a fact that cannot be found out."""

    why: str

    def __str__(self) -> str:
        return f"unknown: {self.why}"


class Hub:
    """Asks for models and data. A Hub that did not answer is not asked again, since every name takes half a minute."""

    def __init__(self) -> None:
        self.silent = False

    def ask(self, name: str, read: Callable[[], Found]) -> Found | Unknown:
        """The result of `read` for a Hub name, or for a folder or file, which must exist.

        Raises:
            InputError: a folder or file is missing or wrong, or the Hub has answered that there is no such name.
        """
        if name.startswith((".", "/", "~")) or Path(name).exists():
            return read()
        if self.silent:
            return Unknown(f"{name} was not looked up, as the Hub did not answer")
        began = time.monotonic()
        try:
            return read()
        except InputError as error:
            if is_refused_by_hub(error):
                raise
            self.silent = time.monotonic() - began > _SLOW
            return Unknown("; ".join(error.problems))
