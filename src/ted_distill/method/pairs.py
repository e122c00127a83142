"""Which blocks of teacher and student are matched: which blocks have filters, and which two make a pair.

Blocks are numbered from 1, so block l is `hidden_states[l]` of a Hugging Face model; index 0, the embeddings, is never
matched.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError, raise_if_any
from ..wording import listed


def resolve_pairs(
    teacher_blocks: int,
    student_blocks: int,
    *,
    pairs: Sequence[str | Sequence[int]] | None = None,
    teacher_filter_interval: int | None = None,
    filter_interval: int | None = None,
    made_of: Sequence[int] | None = None,
    learnt: tuple[Sequence[int], Sequence[int]] | None = None,
) -> list[tuple[int, int]]:
    """(teacher block, student block) of each pair: the one place that decides which blocks are matched.

    These are `pairs`, if given; else the student's filtered blocks, each with the teacher's block that it was copied
    from, or, if the teacher's last block was left out, with the one as far up in the teacher as it is in the student;
    else both models' filtered blocks, in order.

    Args:
        teacher_blocks, student_blocks: how many blocks the models have.
        pairs: explicitly given pairs, see `parse_pairs`.
        filter_interval: the student's [1].
        teacher_filter_interval: the teacher's [the ratio of the numbers of blocks].
        made_of: the teacher's block that each of the student's was copied from, if known.
        learnt: the blocks of teacher and student that already have filters.

    Raises:
        InputError: blocks that the models do not have, or intervals that give different numbers of filters.
    """
    if pairs:
        parsed = parse_pairs(pairs)
        check_pairs(parsed, teacher_blocks, student_blocks)
        return parsed
    interval = 1 if filter_interval is None else filter_interval
    of_student = list(learnt[1]) if learnt else filtered_blocks(student_blocks, interval)
    copied = made_of is not None and len(made_of) == student_blocks and max(made_of) <= teacher_blocks
    if made_of and copied and teacher_filter_interval is None:
        # Blocks that are alike already have nothing to learn from each other; what comes after them would be left out.
        reaches_the_end = made_of[-1] == teacher_blocks
        of_teacher = [
            made_of[block - 1] if reaches_the_end else teacher_blocks * block // student_blocks for block in of_student
        ]
        if learnt is None or set(of_teacher) <= set(learnt[0]):
            return list(zip(of_teacher, of_student, strict=True))
    if learnt:
        return _zipped(learnt[0], of_student)
    if teacher_filter_interval is None:
        teacher_filter_interval = _even_interval(teacher_blocks, len(of_student))
    return _zipped(filtered_blocks(teacher_blocks, teacher_filter_interval), of_student)


def filtered_blocks(num_blocks: int, filter_interval: int) -> list[int]:
    """Blocks I, 2I, 3I, ... up to `num_blocks`, 1-based (docs/method.md, "In four equations").

    Raises:
        InputError: the interval is below 1 or leaves no block.
    """
    if not 1 <= filter_interval <= num_blocks:
        raise InputError(f"filter_interval: expected 1 to {num_blocks} (the model's blocks), got {filter_interval}")
    return list(range(filter_interval, num_blocks + 1, filter_interval))


def parse_pairs(pairs: Sequence[str | Sequence[int]]) -> list[tuple[int, int]]:
    """(teacher block, student block) of explicitly given pairs, as `4:1` or as two numbers.

    Raises:
        InputError: something else, or a block that is in two pairs.
    """
    try:
        split = [pair.split(":") if isinstance(pair, str) else pair for pair in pairs]
        parsed = [(int(teacher), int(student)) for teacher, student in split]
    except (TypeError, ValueError) as error:
        given = " ".join(map(str, pairs))
        raise InputError(f"pairs: expected teacher block:student block, as in 4:1 8:2 12:3, got {given}") from error
    for owner, blocks in zip(("teacher", "student"), zip(*parsed, strict=True), strict=True) if parsed else ():
        twice = sorted({block for block in blocks if blocks.count(block) > 1})
        if twice:
            raise InputError(
                f"pairs: expected every block in one pair at most, got {owner} block {listed(twice, None)} in several"
            )
    return parsed


def check_pairs(pairs: Sequence[tuple[int, int]], teacher_blocks: int, student_blocks: int) -> None:
    """Refuse pairs of blocks that the models do not have.

    Raises:
        InputError: names both models' problems.
    """
    raise_if_any(
        f"pairs: expected blocks 1 to {total} of the {owner}, got {listed(wrong, None)}"
        for owner, total, blocks in (
            ("teacher", teacher_blocks, [teacher for teacher, _ in pairs]),
            ("student", student_blocks, [student for _, student in pairs]),
        )
        if (wrong := [block for block in blocks if not 1 <= block <= total])
    )


def _zipped(teacher_blocks: Sequence[int], student_blocks: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of filtered blocks in their order. Raises `InputError` where their numbers differ."""
    if len(teacher_blocks) != len(student_blocks):
        raise InputError(
            f"pairs: expected as many filtered blocks of the teacher as of the student, got {len(teacher_blocks)} "
            f"({listed(teacher_blocks, None)}) and {len(student_blocks)} ({listed(student_blocks, None)}); set "
            "teacher_filter_interval and filter_interval so that both give the same number, or give pairs"
        )
    return list(zip(teacher_blocks, student_blocks, strict=True))


def _even_interval(teacher_blocks: int, pairs: int) -> int:
    """The teacher's interval that gives this number of pairs: 12 blocks and 6 pairs give 2. Raises `InputError`."""
    if teacher_blocks % pairs:
        raise InputError(
            f"pairs: expected filtered blocks of the student that divide the teacher's {teacher_blocks} evenly, got "
            f"{pairs}; set teacher_filter_interval and filter_interval, or give pairs"
        )
    return teacher_blocks // pairs
