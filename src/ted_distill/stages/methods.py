"""KD, LWD and TED: Stage II with other filters. Nothing outside `METHODS` knows which method it runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import ClassVar, NamedTuple

from ..errors import InputError, collect, raise_if_any
from ..method.filter_files import load_filters
from ..method.filters import FilterConfig, Filters
from ..method.layer_losses import LAYER_LOSSES
from ..method.pairs import check_pairs, default_pairs, filtered_blocks, make_pairs, parse_pairs
from ..models.load import LoadedModel
from ..models.students import read_student_layers


@dataclass
class DistillArguments:
    """What the student matches, and how much each term weighs."""

    _argument_group_name: ClassVar[str] = "distillation"

    method: str = field(default="ted", metadata={"help": "ted (learnt filters), lwd (random filters) or kd (none)"})
    kl_alpha: float = field(default=5.0, metadata={"help": "weight of the KL of the predictions"})
    mse_alpha: float | None = field(default=None, metadata={"help": "weight of the layer loss [100; kd: 0]"})
    temperature: float = field(default=2.0, metadata={"help": "softens both predictions in the KL"})
    filter_interval: int | None = field(
        default=None, metadata={"help": "student: a filter after every so many blocks [1; ted: as learnt]"}
    )
    teacher_filter_interval: int | None = field(
        default=None, metadata={"help": "the same for the teacher [as the numbers of blocks divide; ted: as learnt]"}
    )
    teacher_filters: str | None = field(default=None, metadata={"help": "folder of its filters [the teacher's]"})
    pairs: list[str] | None = field(
        default=None, metadata={"help": "teacher block:student block, as 4:1 8:2 12:3 [as the student was made]"}
    )
    layer_loss: str = field(
        default="mse", metadata={"help": "mse, normalized_mse (by the teacher's variance) or cosine"}
    )
    new_head: bool = field(default=False, metadata={"help": "the student is not fine-tuned yet: give it a new head"})
    student_filters: str | None = field(default=None, metadata={"help": "folder of its filters [the student's]"})


def layer_weight(arguments: DistillArguments, pairs: Sequence[tuple[int, int]]) -> float:
    """`mse_alpha`, or what it is where none is given: 100 where layers are matched."""
    return (100.0 if pairs else 0.0) if arguments.mse_alpha is None else arguments.mse_alpha


# --- methods: which filters ---------------------------------------------------------------------------------


class MethodFilters(NamedTuple):
    """Filters of both models; None where no layer is matched."""

    teacher: Filters | None
    student: Filters | None


def kd_filters(teacher: LoadedModel, student: LoadedModel, arguments: DistillArguments) -> MethodFilters:
    """Knowledge distillation: no filters, so nothing but the predictions is matched.

    Raises:
        InputError: a weight for a layer loss that there is not.
    """
    if arguments.mse_alpha:
        raise InputError(
            f"mse_alpha: 0 was expected with method kd, which matches no layers, {arguments.mse_alpha} came; "
            "leave it out or choose method lwd or ted"
        )
    return MethodFilters(None, None)


def lwd_filters(teacher: LoadedModel, student: LoadedModel, arguments: DistillArguments) -> MethodFilters:
    """Layer-wise distillation: the teacher's hidden states as they are, the student's through random Linear filters."""
    pairs = _given_pairs(teacher, student, arguments)
    if pairs is None:
        blocks = [loaded.model.config.num_hidden_layers for loaded in (teacher, student)]
        intervals = arguments.teacher_filter_interval, arguments.filter_interval
        pairs = default_pairs(blocks[0], blocks[1], *intervals, read_student_layers(student.name))
    config = FilterConfig.for_model(student.model.config, 1, teacher.model.config.hidden_size)
    config = replace(config, blocks=[block for _, block in pairs])
    initializer_range = getattr(student.model.config, "initializer_range", 0.02)
    return MethodFilters(Filters.identity([block for block, _ in pairs]), Filters.random(config, initializer_range))


def ted_filters(teacher: LoadedModel, student: LoadedModel, arguments: DistillArguments) -> MethodFilters:
    """Task-aware layer-wise distillation: the filters both models learnt in Stage I.

    Raises:
        InputError: filters missing, of another model, of different widths, or not after the blocks asked for.
    """
    problems: list[str] = []
    found: dict[str, Filters] = {}
    for owner, loaded, folder, interval in (
        ("teacher", teacher, arguments.teacher_filters, arguments.teacher_filter_interval),
        ("student", student, arguments.student_filters, arguments.filter_interval),
    ):
        with collect(problems):
            found[owner] = load_filters(folder or loaded.name, loaded.model, owner)
            if arguments.pairs:
                continue
            expected = None if interval is None else filtered_blocks(loaded.model.config.num_hidden_layers, interval)
            if expected and expected != found[owner].blocks:
                problems.append(
                    f"{owner} filters: blocks {expected} were asked for, those learnt read {found[owner].blocks}; "
                    "learn them with that filter_interval, or leave it out here"
                )
    widths = {owner: filters.config.filter_output_dim for owner, filters in found.items() if filters.config}
    if len(set(widths.values())) > 1:
        problems.append(
            f"filters: one filter_output_dim was expected, the teacher's filters are {widths['teacher']} and the "
            f"student's {widths['student']} wide; learn the student's with --filter_output_dim {widths['teacher']}"
        )
    raise_if_any(problems)
    teacher_filters, student_filters = found["teacher"], found["student"]
    pairs = _given_pairs(teacher, student, arguments)
    if pairs is None:
        # As the student was made of the teacher, where filters were learnt there; else those learnt, in their order.
        made_of = read_student_layers(student.name) or []
        pairs = [(made_of[block - 1], block) for block in student_filters.blocks if block <= len(made_of)]
        if not {block for block, _ in pairs} <= {*teacher_filters.blocks} or len(pairs) < len(student_filters.blocks):
            pairs = make_pairs(teacher_filters.blocks, student_filters.blocks)
    return MethodFilters(
        teacher_filters.select([block for block, _ in pairs]), student_filters.select([block for _, block in pairs])
    )


def _given_pairs(
    teacher: LoadedModel, student: LoadedModel, arguments: DistillArguments
) -> list[tuple[int, int]] | None:
    """Pairs given outright, if any. Raises `InputError` for blocks the models do not have."""
    if not arguments.pairs:
        return None
    pairs = parse_pairs(arguments.pairs)
    check_pairs(pairs, teacher.model.config.num_hidden_layers, student.model.config.num_hidden_layers)
    return pairs


METHODS: dict[str, Callable[[LoadedModel, LoadedModel, DistillArguments], MethodFilters]] = {
    "ted": ted_filters,
    "lwd": lwd_filters,
    "kd": kd_filters,
}


def check_arguments(arguments: DistillArguments) -> None:
    """Refuse an unknown method and weights that make no sense.

    Raises:
        InputError: with all problems.
    """
    problems: list[str] = []
    if arguments.method not in METHODS:
        near = get_close_matches(arguments.method, METHODS, n=1)
        problems.append(
            f"method: one of {', '.join(METHODS)} was expected, {arguments.method} came"
            + (f"; did you mean {near[0]}?" if near else "")
        )
    if arguments.layer_loss not in LAYER_LOSSES:
        problems.append(f"layer_loss: one of {', '.join(LAYER_LOSSES)} was expected, {arguments.layer_loss} came")
    with collect(problems):
        parse_pairs(arguments.pairs or [])
    if arguments.pairs and (arguments.filter_interval or arguments.teacher_filter_interval):
        problems.append("pairs: given beside filter_interval or teacher_filter_interval; give one or the other")
    if arguments.pairs and arguments.method == "kd":
        problems.append("pairs: method kd matches no layers; leave pairs out or choose method lwd or ted")
    for name in ("kl_alpha", "mse_alpha"):
        if not 0 <= (getattr(arguments, name) or 0) < math.inf:
            problems.append(f"{name}: a weight of at least 0 was expected, {getattr(arguments, name)} came")
    if not 0 < arguments.temperature < math.inf:
        problems.append(f"temperature: a number above 0 was expected, {arguments.temperature} came")
    raise_if_any(problems)
