"""Commands that take names before their flags, such as `ted trim CHECKPOINT OUT --texts FILE`."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any

from ..errors import InputError
from .flags import parse_flags

_FOLDER = re.compile(r"(?:-o|(?:--)?output[-_]dir)(?:=(.*))?", re.DOTALL)
"""The folder to write, as stages and recipes call it."""


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
    if "OUT" in usage:
        words = _with_folder_as_name(words)
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


def _with_folder_as_name(words: list[str]) -> list[str]:
    """The words with the folder of `--output_dir FOLDER` or `-o FOLDER` after the names, where it is without a flag.

    Raises:
        InputError: the flag is the last word.
    """
    for place, word in enumerate(words):
        if not (match := _FOLDER.fullmatch(word)):
            continue
        folder, rest = match[1], words[place + 1 :]
        if folder is None:
            if not rest:
                raise InputError(f"{word}: expected a value, got nothing")
            folder, *rest = rest
        others = [*words[:place], *rest]
        names = next((at for at, one in enumerate(others) if one.startswith("-")), len(others))
        return [*others[:names], folder, *others[names:]]
    return words
