"""KD, LWD and TED: Stage II with different filters. No code outside `METHODS` knows which method is running."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, NamedTuple

from ..errors import InputError, collect, raise_if_any
from ..method.filter_files import load_filters
from ..method.filters import FilterConfig, Filters, initializer_range
from ..method.layer_losses import LAYER_LOSSES
from ..method.pairs import filtered_blocks, parse_pairs, resolve_pairs
from ..method.shapes import num_blocks, width
from ..models.load import LoadedModel
from ..models.students import made_of
from ..output import check_inputs
from ..ranges import a_path, above, at_least, one_of, range_problems


@dataclass
class DistillArguments:
    """What the student matches, and the weight of each term."""

    _argument_group_name: ClassVar[str] = "distillation"

    method: Annotated[str, one_of(METHODS)] = field(
        default="ted", metadata={"help": "ted (learnt filters), lwd (random filters) or kd (none)"}
    )
    kl_alpha: Annotated[float, at_least(0)] = field(
        default=5.0, metadata={"help": "weight of matching the teacher's predictions"}
    )
    mse_alpha: Annotated[float | None, at_least(0)] = field(
        default=None, metadata={"help": "weight of the layer loss [100; kd: 0]"}
    )
    temperature: Annotated[float, above(0)] = field(
        default=2.0, metadata={"help": "softens both predictions in the KL"}
    )
    filter_interval: Annotated[int | None, at_least(1)] = field(
        default=None, metadata={"help": "student: a filter after every so many blocks [1; ted: as learnt]"}
    )
    teacher_filter_interval: Annotated[int | None, at_least(1)] = field(
        default=None, metadata={"help": "the same for the teacher [as the numbers divide; ted: as learnt]"}
    )
    teacher_filters: Annotated[str | None, a_path()] = field(
        default=None, metadata={"help": "folder of its filters [the teacher's]"}
    )
    pairs: list[str] | None = field(
        default=None, metadata={"help": "teacher block:student block, as 4:1 8:2 12:3 [as the student was made]"}
    )
    layer_loss: Annotated[str, one_of(LAYER_LOSSES)] = field(
        default="mse", metadata={"help": "mse, normalized_mse (by the teacher's variance) or cosine"}
    )
    new_head: bool = field(default=False, metadata={"help": "the student is not fine-tuned yet: give it a new head"})
    student_filters: Annotated[str | None, a_path()] = field(
        default=None,
        metadata={
            "help": "where the student's filters start: learned (in Stage I), least_squares (from its states to the "
            "teacher's filtered ones), random, or a folder of learnt ones [ted: learned; lwd: random]"
        },
    )
    student_dropout: bool = field(default=True, metadata={"help": "dropout in the student, as its config says"})

    def __post_init__(self) -> None:
        """Raises `InputError`: see `check`."""
        self.check()

    def check(self) -> None:
        """Refuse values outside their ranges, and arguments that contradict each other.

        Raises:
            InputError: with all problems.
        """
        problems = range_problems(type(self), vars(self))
        with collect(problems):
            parse_pairs(self.pairs or [])
        if self.pairs and not (self.filter_interval is None is self.teacher_filter_interval):
            problems.append("pairs: given beside filter_interval or teacher_filter_interval; give one or the other")
        if self.pairs and self.method == "kd":
            problems.append("pairs: method kd matches no layers; leave pairs out or choose method lwd or ted")
        if self.mse_alpha and self.method == "kd":
            problems.append(
                f"mse_alpha: expected 0 with method kd, which matches no layers, got {self.mse_alpha}; leave it out or "
                "choose method lwd or ted"
            )
        raise_if_any(problems)

    def layer_weight(self, pairs: Sequence[tuple[int, int]]) -> float:
        """`mse_alpha`, or its default: 100 if blocks are matched, otherwise 0."""
        return (100.0 if pairs else 0.0) if self.mse_alpha is None else self.mse_alpha


UNLEARNT = ("least_squares", "random")
"""Where the student's filters may start without a Stage I of its own."""


# --- methods: which filters -----------------------------------------------------------------------------------


class MethodFilters(NamedTuple):
    """Filters of both models; None if no blocks are matched."""

    teacher: Filters | None
    student: Filters | None
    student_start: str = "random"
    """Where the student's come from: `learned` (in Stage I, part of the stage's input), `random`, or `least_squares`,
    which gives them their weights once the models are at hand."""

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(teacher block, student block) of each pair."""
        if self.teacher is None or self.student is None:
            return []
        return list(zip(self.teacher.blocks, self.student.blocks, strict=True))


def kd_filters(teacher: LoadedModel, student: LoadedModel, arguments: DistillArguments) -> MethodFilters:
    """Knowledge distillation: no filters, so only the predictions are matched."""
    return MethodFilters(None, None)


def lwd_filters(teacher: LoadedModel, student: LoadedModel, arguments: DistillArguments) -> MethodFilters:
    """Layer-wise distillation: the teacher's unchanged hidden states, the student's through random Linear filters.

    Raises:
        InputError: filters learnt in Stage I, which would be no plain layer-wise distillation.
    """
    start = arguments.student_filters or "random"
    if start not in UNLEARNT:
        raise InputError(
            f"student_filters: expected {' or '.join(UNLEARNT)} with method lwd, got {start}; choose one of them or "
            "method ted"
        )
    pairs = _pairs(teacher, student, arguments)
    of_student = _unlearnt(student, [block for _, block in pairs], width(teacher.model.config))
    return MethodFilters(Filters.identity([block for block, _ in pairs]), of_student, start)


def ted_filters(teacher: LoadedModel, student: LoadedModel, arguments: DistillArguments) -> MethodFilters:
    """Task-aware layer-wise distillation: the filters that the models learnt in Stage I.

    The student's may instead start `random`, or from least squares on the teacher's.

    Raises:
        InputError: filters are missing, of another model, of different widths, or not after the requested blocks.
    """
    start = arguments.student_filters or "learned"
    learnt = start not in UNLEARNT
    problems: list[str] = []
    found: dict[str, Filters] = {}
    with collect(problems):
        found["teacher"] = _learnt(teacher, "teacher", arguments.teacher_filters, arguments.teacher_filter_interval)
    if learnt:
        folder = None if start == "learned" else start
        with collect(problems):
            found["student"] = _learnt(student, "student", folder, arguments.filter_interval)
    raise_if_any([*problems, *_different_widths(found)])
    of_teacher = found["teacher"]
    blocks = found["student"].blocks if learnt else _filtered(student, arguments.filter_interval)
    pairs = _pairs(teacher, student, arguments, (of_teacher.blocks, blocks))
    student_blocks = [block for _, block in pairs]
    if learnt:
        of_student = found["student"].select(student_blocks)
    else:
        out = of_teacher.config.filter_output_dim if of_teacher.config else width(teacher.model.config)
        of_student = _unlearnt(student, student_blocks, out)
    start = "learned" if learnt else start
    return MethodFilters(of_teacher.select([block for block, _ in pairs]), of_student, start)


def _learnt(loaded: LoadedModel, owner: str, folder: str | None, interval: int | None) -> Filters:
    """The filters that a model learnt in Stage I.

    Raises:
        InputError: see `load_filters`; or they are after other blocks than those of a given interval.
    """
    check_inputs(folder or loaded.name, f"{owner} filters")
    filters = load_filters(folder or loaded.name, loaded.model, owner)
    if interval is not None and (expected := _filtered(loaded, interval)) != filters.blocks:
        raise InputError(
            f"{owner} filters: expected filters of blocks {expected}, got those of {filters.blocks}; "
            "learn them with that filter_interval, or leave it out here"
        )
    return filters


def _filtered(loaded: LoadedModel, interval: int | None) -> list[int]:
    return filtered_blocks(num_blocks(loaded.model.config), 1 if interval is None else interval)


def _unlearnt(student: LoadedModel, blocks: list[int], filter_output_dim: int) -> Filters:
    """Random linear filters after these blocks of a student."""
    config = replace(FilterConfig.for_model(student.model.config, 1, filter_output_dim), blocks=blocks)
    return Filters.random(config, initializer_range(student.model.config))


def _different_widths(found: dict[str, Filters]) -> list[str]:
    widths = {owner: filters.config.filter_output_dim for owner, filters in found.items() if filters.config}
    if len(set(widths.values())) < 2:
        return []
    return [
        f"filters: expected one filter_output_dim, got {widths['teacher']} of the teacher and {widths['student']} of "
        f"the student; learn the student's with --filter_output_dim {widths['teacher']}"
    ]


def _pairs(
    teacher: LoadedModel,
    student: LoadedModel,
    arguments: DistillArguments,
    learnt: tuple[list[int], list[int]] | None = None,
) -> list[tuple[int, int]]:
    problems: list[str] = []
    for loaded in (teacher, student):
        with collect(problems):
            loaded.require_states()
    raise_if_any(problems)
    return resolve_pairs(
        num_blocks(teacher.model.config),
        num_blocks(student.model.config),
        pairs=arguments.pairs,
        # Learnt filters have already been compared with the intervals.
        teacher_filter_interval=None if learnt else arguments.teacher_filter_interval,
        filter_interval=None if learnt else arguments.filter_interval,
        made_of=None if arguments.pairs else made_of(student.name, teacher),
        learnt=learnt,
    )


METHODS: dict[str, Callable[[LoadedModel, LoadedModel, DistillArguments], MethodFilters]] = {
    "ted": ted_filters,
    "lwd": lwd_filters,
    "kd": kd_filters,
}


LOGITS_ONLY = ("kd",)
"""Methods that match no layers: the blocks of teacher and student need not match nor, for whole rows, their tokens."""


def layer_methods(methods: Sequence[str]) -> list[str]:
    """Those of the methods that match layers."""
    return [method for method in methods if method not in LOGITS_ONLY]
