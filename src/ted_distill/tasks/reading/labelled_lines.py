"""Lines of a txt file that fastText reads: labels, each with a mark before it, and then a text."""

from __future__ import annotations

from collections.abc import Sequence

_MARK = "__label__"
LABELLED_LINES = (
    f"expected running text, got lines that begin with {_MARK} (fastText); to classify them convert them to a csv or "
    'jsonl file with columns "text" and "label" (lists of labels where a line has several)'
)
"""What is said of a file with such lines."""


def are_labelled_lines(lines: Sequence[str | None]) -> bool:
    """Whether nearly all lines that are not blank begin with a label."""
    filled = [line for line in lines if line and line.strip()]
    return sum(line.lstrip().startswith(_MARK) for line in filled) > 0.9 * len(filled) > 0
