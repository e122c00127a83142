"""Which blocks are matched: `resolve_pairs` in closed form, and the parts it is made of."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from ted_distill import InputError
from ted_distill.method.pairs import check_pairs, filtered_blocks, parse_pairs, resolve_pairs

Pairs = list[tuple[int, int]]
EVEN = [(4, 1), (8, 2), (12, 3)]
"""What 12 and 3 blocks give by intervals."""


class Case(NamedTuple):
    """Numbers of blocks of teacher and student, what else is known, and the pairs that follow."""

    teacher: int
    student: int
    known: dict[str, Any]
    expected: Pairs


CASES = {
    # By intervals that both are given.
    "12 and 6 blocks": Case(
        12, 6, {"teacher_filter_interval": 2, "filter_interval": 1}, [(2, 1), (4, 2), (6, 3), (8, 4), (10, 5), (12, 6)]
    ),
    "an interval past the middle": Case(12, 7, {"teacher_filter_interval": 5, "filter_interval": 3}, [(5, 3), (10, 6)]),
    "the last blocks alone": Case(12, 6, {"teacher_filter_interval": 12, "filter_interval": 6}, [(12, 6)]),
    "one block each": Case(1, 1, {"teacher_filter_interval": 1, "filter_interval": 1}, [(1, 1)]),
    "the student's interval is 1": Case(12, 3, {"teacher_filter_interval": 4}, EVEN),
    # As the student was made of the teacher.
    "made of even blocks": Case(12, 3, {"made_of": [4, 8, 12]}, EVEN),
    "made of uneven blocks": Case(12, 3, {"made_of": [1, 2, 12]}, [(1, 1), (2, 2), (12, 3)]),
    "made of blocks, every second filtered": Case(
        12, 4, {"filter_interval": 2, "made_of": [1, 2, 3, 12]}, [(2, 2), (12, 4)]
    ),
    "made of numbers that do not divide": Case(
        12, 5, {"made_of": [1, 3, 5, 7, 12]}, [(1, 1), (3, 2), (5, 3), (7, 4), (12, 5)]
    ),
    "made of the first blocks": Case(12, 3, {"made_of": [1, 2, 3]}, EVEN),
    "made of the first blocks, numbers that do not divide": Case(
        12, 5, {"made_of": [1, 2, 3, 4, 5]}, [(2, 1), (4, 2), (7, 3), (9, 4), (12, 5)]
    ),
    "made of blocks without the last": Case(
        12, 6, {"filter_interval": 2, "made_of": [1, 3, 5, 7, 9, 11]}, [(4, 2), (8, 4), (12, 6)]
    ),
    "learnt, and made of the first blocks": Case(
        12, 3, {"learnt": ([2, 4, 8, 12], [1, 2, 3]), "made_of": [1, 2, 3]}, EVEN
    ),
    "a given interval of the teacher wins": Case(12, 3, {"teacher_filter_interval": 4, "made_of": [1, 2, 3]}, EVEN),
    # Made of another teacher: by intervals.
    "made of fewer blocks than there are": Case(12, 3, {"made_of": [1, 2]}, EVEN),
    "made of more blocks than there are": Case(12, 3, {"made_of": [1, 2, 3, 4]}, EVEN),
    "made of a block the teacher lacks": Case(12, 3, {"made_of": [1, 2, 13]}, EVEN),
    "made of nothing that is known": Case(12, 3, {"made_of": None}, EVEN),
    "made of no blocks": Case(12, 3, {"made_of": []}, EVEN),
    # Given outright: nothing else counts.
    "given": Case(12, 6, {"pairs": ["12:1", "3:6"]}, [(12, 1), (3, 6)]),
    "given as numbers": Case(12, 6, {"pairs": [[12, 1], [3, 6]]}, [(12, 1), (3, 6)]),
    "given, and made of others": Case(12, 3, {"pairs": ["5:2"], "made_of": [4, 8, 12]}, [(5, 2)]),
    "given, and intervals": Case(
        12, 3, {"pairs": ["5:2"], "teacher_filter_interval": 4, "filter_interval": 1}, [(5, 2)]
    ),
    "given, and learnt": Case(12, 3, {"pairs": ["5:2"], "learnt": ([5, 6], [2, 3])}, [(5, 2)]),
    "given, numbers that do not divide": Case(12, 5, {"pairs": ["12:5"]}, [(12, 5)]),
    "no pairs given": Case(12, 3, {"pairs": []}, EVEN),
    # Filters that are learnt already: in their order, or as the student was made.
    "learnt": Case(12, 6, {"learnt": ([5, 7], [1, 4])}, [(5, 1), (7, 4)]),
    "learnt, and made of their blocks": Case(
        12, 3, {"learnt": ([2, 4, 8, 12], [1, 2, 3]), "made_of": [4, 8, 12]}, EVEN
    ),
    "learnt after some, and made of their blocks": Case(
        12, 3, {"learnt": ([4, 8, 12], [1, 3]), "made_of": [4, 8, 12]}, [(4, 1), (12, 3)]
    ),
    "learnt, and made of other blocks": Case(
        12, 3, {"learnt": ([1, 2, 3], [1, 2, 3]), "made_of": [4, 8, 12]}, [(1, 1), (2, 2), (3, 3)]
    ),
    "learnt, and made of fewer blocks": Case(12, 3, {"learnt": ([4, 8, 12], [1, 2, 3]), "made_of": [4, 8]}, EVEN),
    "learnt, and their intervals": Case(
        12,
        6,
        {"learnt": ([4, 8, 12], [2, 4, 6]), "teacher_filter_interval": 4, "filter_interval": 2},
        [(4, 2), (8, 4), (12, 6)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_these_blocks_are_matched(name: str) -> None:
    teacher, student, known, expected = CASES[name]
    assert resolve_pairs(teacher, student, **known) == expected


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
    with pytest.raises(InputError, match=rf"filter_interval: expected 1 to 4 \(the model's blocks\), got {interval}"):
        filtered_blocks(4, interval)
    for known in ({"filter_interval": interval}, {"teacher_filter_interval": interval, "filter_interval": 1}):
        with pytest.raises(InputError, match=rf"filter_interval: expected 1 to 4 .*, got {interval}"):
            resolve_pairs(4, 4, **known)


@pytest.mark.parametrize(
    ("teacher", "student", "interval", "expected"),
    [(12, 6, 1, 2), (12, 12, 1, 1), (12, 6, 2, 4), (24, 6, 1, 4), (12, 6, 6, 12), (12, 5, 2, 6), (6, 6, 3, 3)],
)
def test_the_default_teacher_interval_gives_as_many_filters_as_the_student_has(
    teacher: int, student: int, interval: int, expected: int
) -> None:
    pairs = resolve_pairs(teacher, student, filter_interval=interval)
    assert pairs[-1][0] == teacher  # the teacher's last block is matched
    assert pairs == [(expected * k, interval * k) for k in range(1, student // interval + 1)]
    assert pairs == resolve_pairs(teacher, student, teacher_filter_interval=expected, filter_interval=interval)
    if interval == 1:
        assert pairs == resolve_pairs(teacher, student)


@pytest.mark.parametrize(("teacher", "student"), [(12, 5), (6, 12), (12, 7)])
def test_numbers_of_blocks_that_do_not_divide_have_no_default_interval(teacher: int, student: int) -> None:
    said = rf"divide the teacher's {teacher} evenly, got {student}; set teacher_filter_interval and filter_interval"
    with pytest.raises(InputError, match=f"pairs: expected filtered blocks of the student that {said}"):
        resolve_pairs(teacher, student)


@pytest.mark.parametrize(
    "known",
    [
        {"teacher_filter_interval": 4, "filter_interval": 3},
        {"learnt": ([4, 8, 12], [3, 6])},
        {"learnt": ([4, 8, 12], [3, 6]), "made_of": [1, 2, 3, 4, 5, 6]},
    ],
    ids=["by intervals", "learnt", "learnt, and made of other blocks"],
)
def test_different_numbers_of_filters_do_not_pair_and_the_message_names_both(known: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"got 3 \(4, 8, 12\) and 2 \(3, 6\)") as refused:
        resolve_pairs(12, 6, **known)
    assert "set teacher_filter_interval and filter_interval" in str(refused.value)


def test_no_filters_that_are_learnt_make_no_pairs() -> None:
    assert resolve_pairs(12, 6, learnt=([], [])) == []


# --- given outright -------------------------------------------------------------------------------------------


def test_pairs_are_read_as_words_and_as_numbers() -> None:
    assert parse_pairs(["4:1", "8:2", "12:3"]) == parse_pairs([[4, 1], [8, 2], [12, 3]]) == EVEN
    assert parse_pairs([]) == []


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (["4-1"], "expected teacher block:student block, as in .*, got 4-1"),
        (["4:1:2"], "expected teacher block:student block, as in .*, got 4:1:2"),
        ([[4]], r"expected teacher block:student block, as in .*, got \[4\]"),
        (["a:1"], "expected teacher block:student block, as in .*, got a:1"),
        (["4:1", "4:2"], "expected every block in one pair at most, got teacher block 4 in several"),
        (["4:1", "8:1"], "expected every block in one pair at most, got student block 1 in several"),
    ],
)
def test_what_makes_no_pairs_is_refused(pairs: list[Any], said: str) -> None:
    with pytest.raises(InputError, match=f"pairs: {said}"):
        parse_pairs(pairs)
    with pytest.raises(InputError, match=f"pairs: {said}"):
        resolve_pairs(12, 6, pairs=pairs)


def test_blocks_that_a_model_lacks_are_named_for_both_models() -> None:
    for check in (check_pairs, lambda pairs, *blocks: resolve_pairs(*blocks, pairs=pairs)):
        with pytest.raises(InputError) as refused:
            check([(0, 1), (13, 2), (4, 7)], 12, 6)
        assert len(refused.value.problems) == 2
        assert "expected blocks 1 to 12 of the teacher, got 0, 13" in str(refused.value)
        assert "expected blocks 1 to 6 of the student, got 7" in str(refused.value)
