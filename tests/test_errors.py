"""What messages quote of values and of the errors of libraries."""

from __future__ import annotations

import pytest

from ted_distill.errors import reason_of


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("out of memory.\nMore on\nmany lines", "out of memory."),
        ("Error(s) in loading state_dict for Head:\n\n\tsize mismatch for weight:\n  torch.Size([2])\nmore",
         "Error(s) in loading state_dict for Head: size mismatch for weight: torch.Size([2])"),
        ("\n  blanks \t and\ttabs ", "blanks and tabs"),
        ("x" * 300, "x" * 200),
        ("", "KeyError"),
        ("only:", "only:"),
    ],
)  # fmt: skip
def test_a_reason_is_the_first_line_and_what_a_colon_announces(text: str, reason: str) -> None:
    error = KeyError() if not text else RuntimeError(text)
    assert reason_of(error) == reason


def test_all_lines_of_an_error_belong_together_where_a_library_writes_so() -> None:
    error = RuntimeError("404 Client Error.\n\nRepository Not Found\nwrong repo_id?")
    assert reason_of(error) == "404 Client Error."
    assert reason_of(error, whole=True) == "404 Client Error. Repository Not Found wrong repo_id?"
