"""Whose attention relations are matched: one block of each model, and how many pieces vectors are cut into."""

from __future__ import annotations

import math
from typing import NamedTuple

from ..errors import InputError, collect, raise_if_any
from ..method.pairs import parse_pairs
from ..method.projections import projection_widths
from ..method.shapes import num_blocks, text_config
from ..models.load import LoadedModel
from ..models.students import made_of
from ..training.stage_arguments import StageArguments
from .distill_arguments import DistillArguments


class Relations(NamedTuple):
    """Two blocks, 1-based, and the number of relation heads."""

    teacher_block: int
    student_block: int
    heads: int


def choose_relations(
    teacher: LoadedModel, student: LoadedModel, args: StageArguments, arguments: DistillArguments
) -> Relations:
    """The blocks and relation heads that `arguments` ask for, or their defaults.

    The last block of each model, or of a student made of the teacher's blocks the one that its last was copied from;
    as many heads as the teacher has, or the next smaller number that divides all widths.

    Raises:
        InputError: no such block, models whose queries, keys and values cannot be recorded, or heads that do not divide
            their widths.
    """
    problems: list[str] = []
    if args.torch_compile:
        problems.append(
            "torch_compile: expected false with attention relations, which are recorded while a model runs, got true; "
            "leave it out or choose method ted"
        )
    blocks = (1, 1)
    widths: list[int] = []
    with collect(problems):
        blocks = _blocks(teacher, student, arguments)
        for loaded, block in zip((teacher, student), blocks, strict=True):
            with collect(problems):
                widths += projection_widths(loaded.model, block)
    raise_if_any(problems)
    shared = math.gcd(*widths)
    heads = arguments.relation_heads
    if heads is None:
        most = getattr(text_config(teacher.model.config), "num_attention_heads", None) or 1
        heads = max(number for number in range(1, most + 1) if shared % number == 0)
    if shared % heads:
        raise InputError(
            f"relation_heads: expected a number that divides {shared}, as the queries, keys and values of the models "
            f"are {', '.join(map(str, sorted(set(widths))))} wide, got {heads}; choose one or leave it out"
        )
    return Relations(*blocks, heads)


def _blocks(teacher: LoadedModel, student: LoadedModel, arguments: DistillArguments) -> tuple[int, int]:
    totals = num_blocks(teacher.model.config), num_blocks(student.model.config)
    if arguments.attention_pair is None:
        return (made_of(student.name, teacher) or [totals[0]])[-1], totals[1]
    (pair,) = parse_pairs([arguments.attention_pair])
    for owner, block, total in zip(("teacher", "student"), pair, totals, strict=True):
        if block > total:
            raise InputError(
                f"attention_pair: expected a block of the {owner} from 1 to {total}, got {block}; choose another"
            )
    return pair
