"""Which of a teacher's blocks a student keeps, and its width: half of the blocks, or as many as a target allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from transformers import PreTrainedModel

from ...errors import InputError
from ...method.shapes import num_blocks, width
from ...models.blocks import resolve_blocks, student_from_teacher
from ...models.narrowing.narrow import loses_projection, narrow_config, widths
from ...models.narrowing.wiring import WIRINGS
from ...wording import counted


@dataclass(frozen=True)
class Shape:
    """A student: the number of blocks it keeps of the teacher's, and its width."""

    blocks: int
    width: int


@dataclass(frozen=True)
class Family:
    """All students that a teacher has."""

    teacher: PreTrainedModel
    """With the task's head, without weights."""
    make: Callable[[object], PreTrainedModel]
    """A model from a config, without weights."""
    first: bool = False
    """Whether students keep the first blocks, in place of evenly spaced ones, the last among them."""

    @property
    def total(self) -> int:
        """The teacher's blocks."""
        return num_blocks(self.teacher.config)

    @property
    def width(self) -> int:
        """The teacher's width."""
        return width(self.teacher.config)

    @cached_property
    def widths(self) -> list[int]:
        """Widths that a student may have, narrowest first; only the teacher's in a family that cannot be narrowed."""
        if self.teacher.config.model_type not in WIRINGS:
            return [self.width]
        return [one for one in widths(self.teacher.config) if not loses_projection(self.teacher.config, one)]

    @cached_property
    def needs_first(self) -> bool:
        """Whether spaced blocks must be given block 1, as the only one of its kind (ModernBERT)."""
        if self.first:
            return False
        spaced = resolve_blocks(self.total, None, max(1, self.total // 2))
        if spaced[0] == 1:
            return False
        try:
            self._made_of(self.teacher, spaced)
        except InputError:
            return True
        return False

    def layers(self, number: int) -> list[int]:
        """So many blocks: the first, or evenly spaced ones, where block 1 is among them if that must be kept."""
        if self.first:
            return resolve_blocks(self.total, None, number, first=True)
        spaced = resolve_blocks(self.total, None, number)
        return [1, *spaced[1:]] if self.needs_first else spaced

    def student(self, shape: Shape) -> PreTrainedModel:
        """A student without weights. Raises `InputError` for a family whose blocks cannot be taken apart."""
        whole = self.teacher
        if shape.width != self.width:
            whole = self.make(narrow_config(self.teacher.config, shape.width))
        return self._made_of(whole, self.layers(shape.blocks))

    def _made_of(self, model: PreTrainedModel, blocks: list[int]) -> PreTrainedModel:
        with torch.device("meta"):
            return student_from_teacher(model, blocks)

    def half(self) -> Shape:
        """Half of the blocks, at the teacher's width."""
        return Shape(max(1, self.total // 2), self.width)

    def smallest(self) -> Shape:
        """One block of the smallest width."""
        return Shape(1, self.widths[0])


def largest_within(family: Family, fits: Callable[[Shape], bool]) -> Shape | None:
    """The largest student that fits: as many blocks as fit at the teacher's width or, where not even one does, half of
    the blocks, and if need be one, at the largest width that fits; None if none fits.

    Args:
        fits: whether a shape fits; true of every smaller one if it is of a larger one.
    """
    blocks = _most(range(1, family.total), lambda number: fits(Shape(number, family.width)))
    if blocks is not None:
        return Shape(blocks, family.width)
    narrower = family.widths[:-1]
    for kept in dict.fromkeys((max(1, family.total // 2), 1)):
        shapes = [Shape(kept, width) for width in narrower]
        place = _most(range(len(shapes)), lambda place, shapes=shapes: fits(shapes[place]))  # type: ignore[misc]
        if place is not None:
            return shapes[place]
    return None


def _most(numbers: range, fits: Callable[[int], bool]) -> int | None:
    """The largest of ascending numbers that fits, by halving; None if none does."""
    low, high, found = 0, len(numbers) - 1, None
    while low <= high:
        middle = (low + high) // 2
        if fits(numbers[middle]):
            found, low = numbers[middle], middle + 1
        else:
            high = middle - 1
    return found


def of_size(family: Family, share: float) -> Shape:
    """The largest student with at most this share of the teacher's parameters, embeddings counted.

    Raises:
        InputError: there is none; says the smallest share that can be reached.
    """
    whole = family.teacher.num_parameters()
    size = partial(_share, family, whole)
    shape = largest_within(family, lambda shape: size(shape) <= share)
    if shape is None:
        raise InputError(unreachable("student_size", share, family, f"{size(family.smallest()):.2f}"))
    return shape


def _share(family: Family, whole: int, shape: Shape) -> float:
    return family.student(shape).num_parameters() / whole


def unreachable(key: str, share: float, family: Family, least: str) -> str:
    """The problem that no student is as small, or as fast, as was asked for."""
    smallest = family.smallest()
    narrow = "" if len(family.widths) > 1 else f" (family {family.teacher.config.model_type} cannot be made narrower)"
    return (
        f"{key}: expected a share that a student of this teacher can reach, got {share:g}; the smallest is {least}, "
        f"with {counted(smallest.blocks, 'block')} of width {smallest.width}{narrow}; raise it, or "
        "give a student of your own"
    )
