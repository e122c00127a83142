"""Which blocks of teacher and student are matched: after which blocks filters stand, and which two make a pair.

Blocks are numbered from 1, so block l is `hidden_states[l]` of a Hugging Face model; index 0, the embeddings, is never
matched.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError, raise_if_any


def filtered_blocks(num_blocks: int, filter_interval: int) -> list[int]:
    """Blocks I, 2I, 3I, ... up to `num_blocks`, 1-based (method, section 1).

    Raises:
        InputError: the interval is below 1 or leaves no block.
    """
    if not 1 <= filter_interval <= num_blocks:
        raise InputError(
            f"filter_interval: 1 to {num_blocks} (the model's blocks) was expected, {filter_interval} came"
        )
    return list(range(filter_interval, num_blocks + 1, filter_interval))


def make_pairs(teacher_blocks: Sequence[int], student_blocks: Sequence[int]) -> list[tuple[int, int]]:
    """(teacher block, student block) of each pair.

    Raises:
        InputError: the models have different numbers of filtered blocks.
    """
    if len(teacher_blocks) != len(student_blocks):
        raise InputError(
            f"pairs: the teacher has filters after {len(teacher_blocks)} blocks ({listed(teacher_blocks)}) and the "
            f"student after {len(student_blocks)} ({listed(student_blocks)}), but every pair needs one of each; "
            "set teacher_filter_interval and filter_interval so that both give the same number"
        )
    return list(zip(teacher_blocks, student_blocks, strict=True))


def parse_pairs(pairs: Sequence[str | Sequence[int]]) -> list[tuple[int, int]]:
    """(teacher block, student block) of pairs given outright, as `4:1` or as two numbers.

    Raises:
        InputError: something else, or a block that is in two pairs.
    """
    try:
        split = [pair.split(":") if isinstance(pair, str) else pair for pair in pairs]
        parsed = [(int(teacher), int(student)) for teacher, student in split]
    except (TypeError, ValueError) as error:
        given = " ".join(map(str, pairs))
        raise InputError(f"pairs: teacher block:student block was expected, as 4:1 8:2 12:3, {given} came") from error
    for owner, blocks in zip(("teacher", "student"), zip(*parsed, strict=True), strict=True) if parsed else ():
        twice = sorted({block for block in blocks if blocks.count(block) > 1})
        if twice:
            raise InputError(f"pairs: every block may be in one pair; {owner} block {listed(twice)} is in several")
    return parsed


def check_pairs(pairs: Sequence[tuple[int, int]], teacher_blocks: int, student_blocks: int) -> None:
    """Refuse pairs of blocks that the models do not have.

    Raises:
        InputError: names both models' problems.
    """
    raise_if_any(
        f"pairs: the {owner}'s blocks are 1 to {total}, {listed(wrong)} came"
        for owner, total, blocks in (
            ("teacher", teacher_blocks, [teacher for teacher, _ in pairs]),
            ("student", student_blocks, [student for _, student in pairs]),
        )
        if (wrong := [block for block in blocks if not 1 <= block <= total])
    )


def default_teacher_filter_interval(teacher_blocks: int, student_blocks: int, filter_interval: int) -> int:
    """The teacher's interval that pairs evenly with a student of `student_blocks`: 12 and 6 blocks give 2 for 1.

    Raises:
        InputError: the numbers of blocks do not divide.
    """
    pairs = len(filtered_blocks(student_blocks, filter_interval))
    if teacher_blocks % pairs:
        raise InputError(
            f"pairs: {pairs} filtered blocks of the student do not divide the teacher's {teacher_blocks} evenly; "
            "set teacher_filter_interval and filter_interval"
        )
    return teacher_blocks // pairs


def default_pairs(
    teacher_blocks: int,
    student_blocks: int,
    teacher_filter_interval: int | None = None,
    filter_interval: int | None = None,
    made_of: Sequence[int] | None = None,
) -> list[tuple[int, int]]:
    """Pairs where none are given: as the student was made of the teacher, or by intervals.

    Args:
        teacher_blocks, student_blocks: how many blocks the models have.
        filter_interval: the student's; 1 if it is not given.
        made_of: the teacher's block that each of the student's was copied from, if it is known.

    Raises:
        InputError: intervals that fit no block, or that give the models different numbers of filters.
    """
    interval = 1 if filter_interval is None else filter_interval
    of_student = filtered_blocks(student_blocks, interval)
    if teacher_filter_interval is not None:
        return make_pairs(filtered_blocks(teacher_blocks, teacher_filter_interval), of_student)
    if made_of and len(made_of) == student_blocks and max(made_of) <= teacher_blocks:
        return [(made_of[block - 1], block) for block in of_student]
    by_interval = default_teacher_filter_interval(teacher_blocks, student_blocks, interval)
    return make_pairs(filtered_blocks(teacher_blocks, by_interval), of_student)


def listed(blocks: Sequence[int]) -> str:
    """Blocks as they stand in messages: `1, 2, 3`."""
    return ", ".join(map(str, blocks))
