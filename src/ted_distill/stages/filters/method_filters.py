"""The filters that a method trains with: learnt in Stage I, random, fitted by least squares later on, or none."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from transformers import PretrainedConfig

from ...errors import InputError, collect, raise_if_any
from ...method.filter_files import FILTERS_CONFIG_NAME, load_filters
from ...method.filters import FilterConfig, Filters, initializer_range
from ...method.pairs import filtered_blocks, resolve_pairs
from ...method.shapes import num_blocks, width
from ...models.load import LoadedModel
from ...models.students import made_of
from ...output import check_inputs, read_manifest
from ..distill_arguments import DistillArguments
from ..methods import IDENTITY, LEARNED, UNLEARNT

logger = logging.getLogger(__name__)

_MAKERS = ("learn_filters", "import-published")
"""Stages whose folders hold filters that a Stage I learnt, as their manifests name them."""


class MethodFilters(NamedTuple):
    """Filters of both models; None if no hidden states are matched."""

    teacher: Filters | None = None
    student: Filters | None = None
    student_start: str = IDENTITY
    """Where the student's come from: `learned` (in Stage I, part of the stage's input), `random`, `identity`, or
    `least_squares`, which gives them their weights once the models are at hand."""

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(teacher block, student block) of each pair."""
        if self.teacher is None or self.student is None:
            return []
        return list(zip(self.teacher.blocks, self.student.blocks, strict=True))


def method_filters(teacher: LoadedModel, student: LoadedModel, arguments: DistillArguments) -> MethodFilters:
    """The filters of the method that `arguments` name.

    Raises:
        InputError: filters are missing, of another model, of different widths, or not after the requested blocks; or a
            method cannot have what is asked for.
    """
    method = arguments.of_method
    if not method.matches_states:
        return MethodFilters()
    start = arguments.student_filters
    learnt = method.teacher_filters == LEARNED
    if start is None:
        start = LEARNED if learnt and _has_filters(student) else str(method.student_filters)
    if method.student_filters == IDENTITY:
        return _unfiltered(teacher, student, arguments)
    if learnt:
        return _learnt_filters(teacher, student, arguments, start)
    pairs = _pairs(teacher, student, arguments)
    of_student = _unlearnt(student, [block for _, block in pairs], width(teacher.model.config))
    return MethodFilters(Filters.identity([block for block, _ in pairs]), of_student, start)


def pairs_of_copied(teacher: LoadedModel, student: LoadedModel) -> list[tuple[int, int]]:
    """The pairs of a student that was made of this teacher's blocks, see `resolve_pairs`; none of another one."""
    blocks = made_of(student.name, teacher)
    if blocks is None:
        return []
    return resolve_pairs(num_blocks(teacher.model.config), num_blocks(student.model.config), made_of=blocks)


def _has_filters(student: LoadedModel) -> bool:
    """Whether a student's folder has filters that it learnt in a Stage I; Stage II leaves others beside a student."""
    folder = Path(student.name)
    if not (folder / FILTERS_CONFIG_NAME).is_file():
        return False
    manifest = read_manifest(folder)
    if manifest is None or manifest.get("stage") in _MAKERS:
        return True
    logger.warning(
        "student filters: %s holds those of another Stage II, which are not used; name the folder as student_filters "
        "to use them", student.name,
    )  # fmt: skip
    return False


def require_one_width(teacher: PretrainedConfig, student: PretrainedConfig, arguments: DistillArguments) -> None:
    """Refuse models of two widths for a method without filters. Raises `InputError`."""
    if arguments.of_method.student_filters == IDENTITY and width(teacher) != width(student):
        raise InputError(
            f"method: expected models of one width with method {arguments.method}, which has no filters, got "
            f"{width(teacher)} of the teacher and {width(student)} of the student; choose method lwd or ted"
        )


def _unfiltered(teacher: LoadedModel, student: LoadedModel, arguments: DistillArguments) -> MethodFilters:
    """Hidden states as they are. Raises `InputError`: see `require_one_width`."""
    require_one_width(teacher.model.config, student.model.config, arguments)
    pairs = _pairs(teacher, student, arguments)
    of_teacher, of_student = (Filters.identity([pair[side] for pair in pairs]) for side in (0, 1))
    return MethodFilters(of_teacher, of_student)


def _learnt_filters(
    teacher: LoadedModel, student: LoadedModel, arguments: DistillArguments, start: str
) -> MethodFilters:
    """The filters that the teacher learnt in Stage I; the student's may start from elsewhere. Raises `InputError`."""
    learnt = start not in UNLEARNT
    problems: list[str] = []
    found: dict[str, Filters] = {}
    with collect(problems):
        found["teacher"] = _learnt(teacher, "teacher", arguments.teacher_filters, arguments.teacher_filter_interval)
    if learnt:
        folder = None if start == LEARNED else start
        with collect(problems):
            found["student"] = _learnt(student, "student", folder, arguments.filter_interval)
    raise_if_any([*problems, *_different_widths(found)])
    of_teacher = found["teacher"]
    blocks = found["student"].blocks if learnt else _filtered(student, arguments.filter_interval)
    # Filters of all the teacher's blocks do for a student of fewer blocks: its pairs decide which of them are used.
    decided = learnt or len(blocks) == len(of_teacher.blocks)
    pairs = _pairs(teacher, student, arguments, (of_teacher.blocks, blocks) if decided else None)
    student_blocks = [block for _, block in pairs]
    if learnt:
        of_student = found["student"].select(student_blocks)
    else:
        out = of_teacher.config.filter_output_dim if of_teacher.config else width(teacher.model.config)
        of_student = _unlearnt(student, student_blocks, out)
    of_teacher = of_teacher.select([block for block, _ in pairs])
    return MethodFilters(of_teacher, of_student, LEARNED if learnt else start)


def _learnt(loaded: LoadedModel, owner: str, folder: str | None, interval: int | None) -> Filters:
    """The filters that a model learnt in Stage I.

    Raises:
        InputError: see `load_filters`; or they are after other blocks than those of a given interval.
    """
    check_inputs(folder or loaded.name, f"{owner} filters")
    filters = load_filters(folder or loaded.place, loaded.model, owner)
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
