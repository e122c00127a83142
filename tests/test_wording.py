"""Numbers, lengths of time and lists have one format each."""

from __future__ import annotations

import math

import pytest

from ted_distill.wording import and_list, clock, counted, digits, duration, listed, noun, parameters, size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (12, "12 B"), (999, "999 B"), (1_000, "1 kB"), (344_600, "345 kB"), (999_940, "1.0 MB"),
        (90_900_000, "90.9 MB"), (512_300_000, "512.3 MB"), (999_960_000, "1.0 GB"), (1_240_000_000, "1.2 GB"),
        (1_234_500_000_000, "1,234.5 GB"), (None, ""),
    ],
)  # fmt: skip
def test_bytes_have_one_decimal_from_a_megabyte_on(count: int | None, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(9_999, "9,999"), (999_999, "999,999"), (22_713_216, "22.7 M"), (1_100_000_000, "1,100.0 M"), (None, "")],
)
def test_parameters_are_written_out_below_a_million(count: int | None, text: str) -> None:
    assert parameters(count) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (0.41234, "0.412"), (12.345, "12.3"), (99.96, "100"), (999.6, "1,000"), (-1234.5, "-1,234"),
        (12345.6, "12,346"), (3.1e-5, "3.1e-05"), (1e12, "1e+12"), (math.nan, "nan"), (None, ""),
    ],
)  # fmt: skip
def test_three_digits_are_enough(value: float | None, text: str) -> None:
    assert digits(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0:00"), (0, "0:00"), (59.6, "1:00"), (100, "1:40"), (3600, "1:00:00"), (93784, "26:03:04")],
)
def test_a_clock_counts(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"), (0.00052, "0.52 ms"), (0.01234, "12.3 ms"), (0.25, "250 ms"), (0.9997, "1.0 s"), (3, "3.0 s"),
        (9.96, "10 s"), (75, "75 s"), (89.7, "1.5 min"), (599, "10 min"),
        (130, "2.2 min"), (3600, "60 min"), (7200, "2.0 h"), (3e5, "3.5 days"),
    ],
)  # fmt: skip
def test_a_duration_has_the_unit_that_suits_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_nouns_go_with_their_numbers() -> None:
    assert [noun(number, "row") for number in (0, 1, 2)] == ["rows", "row", "rows"]
    assert [counted(1, "class"), counted(2, "process"), counted(2_000, "row")] == [
        "1 class",
        "2 processes",
        "2,000 rows",
    ]


def test_messages_list_names() -> None:
    assert listed([]) == ""
    assert listed([1, 2, 12]) == "1, 2, 12"
    assert listed(map(str, range(30)), 3) == "0, 1, 2, ..."
    assert listed(range(30), most=None).endswith("28, 29")
    assert listed(["a\nb", "", "c"]) == r"'a\nb', '', c"
    assert listed(["text", " label", "two words"]) == "text, ' label', two words"
    assert len(listed(["long " * 100])) == 60


def test_sentences_list_names() -> None:
    assert [and_list(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
