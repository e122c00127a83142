"""Whose attention relations are matched: one block of each model, and how many pieces vectors are cut into."""

from __future__ import annotations

import math
from typing import NamedTuple

from transformers import PreTrainedModel

from ...errors import InputError, collect, raise_if_any
from ...method.pairs import parse_pairs
from ...method.projections import projection_widths
from ...method.shapes import num_blocks, text_config
from ...training.stage_arguments import StageArguments
from ..distill_arguments import DistillArguments


class Relations(NamedTuple):
    """Two blocks, 1-based, and the number of relation heads."""

    teacher_block: int
    student_block: int
    heads: int


def choose_relations(
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    args: StageArguments,
    arguments: DistillArguments,
    last_pair: tuple[int, int] | None = None,
) -> Relations:
    """The blocks and relation heads that `arguments` ask for, or their defaults.

    The last of the pairs of blocks, or without any the last block of each model; as many heads as the teacher has, or
    the next smaller number that divides all widths.

    Args:
        teacher, student: shapes are enough: they may be on the meta device.
        last_pair: (teacher block, student block) of the last pair that is matched, or would be (`resolve_pairs`).

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
    kwargs = [getattr(args, f"{name}_checkpointing_kwargs", None) for name in ("activation", "gradient")]
    if any(isinstance(given, dict) and given.get("use_reentrant") for given in kwargs):
        problems.append(
            "use_reentrant: expected false with attention relations, whose first run would leave no gradient, got "
            "true; leave it out or choose method ted"
        )
    blocks = (1, 1)
    widths: list[int] = []
    with collect(problems):
        blocks = _blocks(teacher, student, arguments, last_pair)
        for model, block in zip((teacher, student), blocks, strict=True):
            with collect(problems):
                widths += projection_widths(model, block)
    raise_if_any(problems)
    shared = math.gcd(*widths)
    heads = arguments.relation_heads
    if heads is None:
        most = getattr(text_config(teacher.config), "num_attention_heads", None) or 1
        heads = max(number for number in range(1, most + 1) if shared % number == 0)
    if shared % heads:
        raise InputError(
            f"relation_heads: expected a number that divides {shared}, as the queries, keys and values of the models "
            f"are {', '.join(map(str, sorted(set(widths))))} wide, got {heads}; choose one or leave it out"
        )
    return Relations(*blocks, heads)


def _blocks(
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    arguments: DistillArguments,
    last_pair: tuple[int, int] | None,
) -> tuple[int, int]:
    totals = num_blocks(teacher.config), num_blocks(student.config)
    if arguments.attention_pair is None:
        return last_pair or totals
    (pair,) = parse_pairs([arguments.attention_pair])
    for owner, block, total in zip(("teacher", "student"), pair, totals, strict=True):
        if not 1 <= block <= total:
            raise InputError(
                f"attention_pair: expected a block of the {owner} from 1 to {total}, got {block}; choose another"
            )
    return pair
