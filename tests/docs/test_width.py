"""Prose is wrapped as the code is: a change then shows as the lines that it changed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
WIDTH = 120


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """Lines by number, without code, tables, equations, pictures, and what a script writes."""
    text = page.read_text(encoding="utf-8")
    made = r"^```.*?^```|^<!-- (?:study|int8|bench|epochs|changes|grid)\b.*?^<!-- end -->|^\$\$.*?\$\$$"
    text = re.sub(made, lambda found: "\n" * found[0].count("\n"), text, flags=re.MULTILINE | re.DOTALL)
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith(("|", "#", "![", "    ", "<")):
            yield number, line


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "recipes.md"], ids=lambda page: page.name)
def test_no_line_of_prose_is_longer_than_a_line_of_code(page: Path) -> None:
    assert [number for number, line in prose(page) if len(line) > WIDTH] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_line_of_prose_is_a_comment_of_myst(page: Path) -> None:
    """A line that begins with % does not appear on the site."""
    assert [number for number, line in prose(page) if line.startswith("%")] == []
