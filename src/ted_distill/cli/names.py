"""Commands that take names before their flags, such as `ted trim CHECKPOINT OUT --texts FILE`."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from ..errors import InputError
from .flags import parse_flags


def parse_names(
    usage: str, title: str, kinds: tuple[type, ...], words: list[str], *, counts: Container[int], what: str
) -> tuple[list[str], tuple[Any, ...]] | None:
    """Names and arguments of a command; None if help was printed.

    Args:
        usage: the command and its names, such as `trim CHECKPOINT OUT`.
        kinds: dataclasses of its flags.
        counts: how many names there may be.
        what: these names in words, for the message.

    Raises:
        InputError: unknown flags, wrong values, or another number of names.
    """
    count = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    names, flags = words[:count], words[count:]
    parsed = parse_flags(usage, title, kinds, flags if words else ["--help"])
    if parsed is None:
        return None
    if len(names) not in counts:
        given = " ".join(names) or "nothing"
        order = usage.partition(" ")[2].replace("[", "").replace("]", "")
        raise InputError(f"expected {what} before the flags, got {given}; write {order} first")
    return names, parsed
