"""Which blocks have filters, and which two make a pair."""

from __future__ import annotations

from typing import Any

import pytest

from ted_distill import InputError
from ted_distill.method.pairs import (
    check_pairs,
    default_pairs,
    default_teacher_filter_interval,
    filtered_blocks,
    make_pairs,
    parse_pairs,
)

# --- by intervals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blocks", "interval", "expected"),
    [
        (12, 1, list(range(1, 13))),
        (12, 2, [2, 4, 6, 8, 10, 12]),
        (12, 5, [5, 10]),
        (12, 12, [12]),
        (7, 3, [3, 6]),
        (1, 1, [1]),
    ],
)
def test_filters_stand_after_every_interval_th_block_counted_from_one(
    blocks: int, interval: int, expected: list[int]
) -> None:
    assert filtered_blocks(blocks, interval) == expected
    assert len(expected) == blocks // interval  # K = floor(L / I)


@pytest.mark.parametrize("interval", [0, -1, 5])
def test_an_interval_that_leaves_no_block_is_refused_with_the_range(interval: int) -> None:
    with pytest.raises(InputError, match=f"filter_interval: .*1 to 4 .* was expected, {interval} came"):
        filtered_blocks(4, interval)


@pytest.mark.parametrize(
    ("teacher", "student", "interval", "expected"),
    [(12, 6, 1, 2), (12, 12, 1, 1), (12, 6, 2, 4), (24, 6, 1, 4), (12, 6, 6, 12), (12, 5, 2, 6), (6, 6, 3, 3)],
)
def test_the_default_teacher_interval_gives_as_many_filters_as_the_student_has(
    teacher: int, student: int, interval: int, expected: int
) -> None:
    assert default_teacher_filter_interval(teacher, student, interval) == expected
    pairs = make_pairs(filtered_blocks(teacher, expected), filtered_blocks(student, interval))
    assert pairs[-1][0] == teacher  # the teacher's last block is matched
    assert pairs == [(expected * k, interval * k) for k in range(1, student // interval + 1)]


@pytest.mark.parametrize(("teacher", "student"), [(12, 5), (6, 12), (12, 7)])
def test_numbers_of_blocks_that_do_not_divide_have_no_default_interval(teacher: int, student: int) -> None:
    with pytest.raises(InputError, match=rf"{student} filtered blocks .* teacher's {teacher} .*; set teacher_filter"):
        default_teacher_filter_interval(teacher, student, 1)


def test_twelve_and_six_blocks_pair_two_to_one() -> None:
    pairs = make_pairs(filtered_blocks(12, 2), filtered_blocks(6, 1))
    assert pairs == [(2, 1), (4, 2), (6, 3), (8, 4), (10, 5), (12, 6)]
    assert make_pairs([], []) == []


def test_different_numbers_of_filters_do_not_pair_and_the_message_names_both() -> None:
    with pytest.raises(InputError, match=r"after 3 blocks \(4, 8, 12\) and the student after 2 \(1, 2\)") as refused:
        make_pairs([4, 8, 12], [1, 2])
    assert "set teacher_filter_interval and filter_interval" in str(refused.value)


# --- as the student was made ----------------------------------------------------------------------------------


def test_a_student_made_of_blocks_pairs_with_them() -> None:
    assert default_pairs(12, 3, made_of=[4, 8, 12]) == [(4, 1), (8, 2), (12, 3)]
    assert default_pairs(12, 3, made_of=[1, 2, 12]) == [(1, 1), (2, 2), (12, 3)]
    assert default_pairs(12, 4, filter_interval=2, made_of=[1, 2, 3, 12]) == [(2, 2), (12, 4)]


def test_an_interval_that_is_given_wins_over_how_the_student_was_made() -> None:
    assert default_pairs(12, 3, teacher_filter_interval=4, made_of=[1, 2, 3]) == [(4, 1), (8, 2), (12, 3)]


@pytest.mark.parametrize("made_of", [[1, 2], [1, 2, 13], None])
def test_a_student_that_was_made_of_another_teacher_pairs_by_intervals(made_of: list[int] | None) -> None:
    assert default_pairs(12, 3, made_of=made_of) == [(4, 1), (8, 2), (12, 3)]


# --- given outright -------------------------------------------------------------------------------------------


def test_pairs_are_read_as_words_and_as_numbers() -> None:
    assert parse_pairs(["4:1", "8:2", "12:3"]) == parse_pairs([[4, 1], [8, 2], [12, 3]]) == [(4, 1), (8, 2), (12, 3)]


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (["4-1"], "teacher block:student block was expected"),
        (["4:1:2"], "teacher block:student block was expected"),
        ([[4]], "teacher block:student block was expected"),
        (["a:1"], "teacher block:student block was expected"),
        (["4:1", "4:2"], "teacher block 4 is in several"),
        (["4:1", "8:1"], "student block 1 is in several"),
    ],
)
def test_what_makes_no_pairs_is_refused(pairs: list[Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_pairs(pairs)


def test_blocks_that_a_model_lacks_are_named_for_both_models() -> None:
    with pytest.raises(InputError) as refused:
        check_pairs([(0, 1), (13, 2), (4, 7)], 12, 6)
    assert len(refused.value.problems) == 2
    assert "the teacher's blocks are 1 to 12, 0, 13 came" in str(refused.value)
    assert "the student's blocks are 1 to 6, 7 came" in str(refused.value)
