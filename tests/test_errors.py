"""What messages quote of values and of the errors of libraries."""

from __future__ import annotations

import pytest

from ted_distill.errors import did_you_mean, near_names, nearest, reason_of, shown


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


@pytest.mark.parametrize(
    ("value", "text"),
    [("short", "'short'"), (None, "nothing"), (True, "true"), (1.5, "1.5")],
)
def test_values_are_quoted_as_people_write_them(value: object, text: str) -> None:
    assert shown(value) == text


def test_long_values_are_cut() -> None:
    assert len(shown("long " * 1000)) == 60
    assert shown(10**9999) == "a very large int"
    assert shown(list(range(100))) == "[0, 1, 2, 3, 4, 5, ...]"


def test_the_nearest_name_is_offered() -> None:
    assert nearest("spearman", ["pearson", "spearmanr"]) == "; did you mean spearmanr?"
    assert nearest("spearman", ["accuracy"]) == ""
    assert nearest("row", ["rows", "grow", "column"], most=2) == "; did you mean rows or grow?"
    assert near_names("row", ["grow", "rows", "column"], most=3, likeness=0.1)[-1] == "column"
    assert did_you_mean([]) == ""
