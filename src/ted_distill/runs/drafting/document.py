"""A recipe as a commented document: keys, each under the reason for its value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Any

import yaml

GIVEN = "As given."
_WIDTH = 112


@dataclass(frozen=True)
class Line:
    """A key, its value, and why it has it; units included."""

    key: str
    value: Any
    why: str = ""


@dataclass(frozen=True)
class Section:
    """A group of keys under a title; with a name, a section of the recipe."""

    lines: Sequence[Line]
    title: str = ""
    name: str | None = None
    notes: Sequence[str] = field(default_factory=tuple)
    """Said after the keys."""


def write_document(header: Iterable[str], sections: Iterable[Section]) -> str:
    """The text of a recipe. Every value is read back from it as it is."""
    parts = ["".join(f"{f'# {line}'.rstrip()}\n" for line in header)]
    parts += [_section(section) for section in sections if section.lines or section.notes]
    return "\n".join(parts)


def _section(section: Section) -> str:
    indent = "  " if section.name else ""
    text = "".join(_comment(section.title)) if section.title else ""
    if section.name:
        text += f"{section.name}:\n"
    for line in section.lines:
        text += "".join(_comment(line.why, indent)) + indented(_entry(line.key, line.value), indent)
    return text + "".join(part for note in section.notes for part in _comment(note))


def _comment(text: str, indent: str = "") -> list[str]:
    one_line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    together = one_line.replace(" %", "\xa0%")  # a number stays with its unit
    lines = wrap(together, _WIDTH - len(indent) - 2, break_long_words=False, break_on_hyphens=False)
    return [f"{indent}# {line}\n".replace("\xa0%", " %") for line in lines]


def _entry(key: str, value: Any) -> str:
    if isinstance(value, dict) and value:
        return yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=10**6)
    dumped = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    name = yaml.safe_dump(key, allow_unicode=True, width=10**6).removesuffix("...\n").strip()
    return f"{name}: {dumped.removesuffix('...' + chr(10)).strip()}\n"


def indented(text: str, indent: str) -> str:
    """The lines of a text, each after `indent`."""
    return "".join(f"{indent}{line}\n" for line in text.splitlines())
