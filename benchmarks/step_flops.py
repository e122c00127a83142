"""Constants of `steps.py`: sizes of the models, weights of the losses, and the operations that a step needs."""

from __future__ import annotations

from typing import NamedTuple

CLASSES = 2
"""Width of both tasks' heads: two classes, or a start and an end logit."""
KL_ALPHA, MSE_ALPHA, TEMPERATURE = 5.0, 100.0, 2.0
LEARNING_RATE = 4e-5


class Shape(NamedTuple):
    """Sizes of one DeBERTa-v2 model."""

    blocks: int
    width: int
    heads: int
    intermediate: int


class Shapes(NamedTuple):
    """A teacher, a student, and what they share."""

    teacher: Shape
    student: Shape
    vocabulary: int
    max_positions: int
    position_buckets: int

    def positions(self, length: int) -> int:
        """Rows of the table of relative positions that rows of `length` tokens multiply with.

        There are 2T - 1 differences of two positions, and no more rows than the table has.
        """
        return min(2 * length - 1, 2 * self.position_buckets)


SHAPES = {
    "base-xsmall": Shapes(Shape(12, 768, 12, 3072), Shape(12, 384, 6, 1536), 128_100, 512, 256),
    "tiny": Shapes(Shape(3, 32, 2, 64), Shape(3, 16, 2, 32), 211, 64, 4),
}
"""Those of microsoft/deberta-v3-base and -xsmall, and small ones for trying out."""


def step_flops(
    shapes: Shapes, stage: int, task: str, batch_size: int, length: int, teacher_filters: bool = True
) -> int:
    """Operations in the matrix products of one optimizer step; a multiplication and an addition are two.

    Everything else (softmax, dropout, normalisation, optimizer) is not counted, nor is unnecessary work of an
    implementation: copies of the table of positions, states of tokens that no head reads. A filter is a Linear
    after every block, to the teacher's width. With B rows of T tokens:

        Stage I   teacher + K (2 filter + 3 head)                      B tokens a filter where heads read the first
        Stage II  teacher + its head + K filter + 3 (student + its head + K filter)                     alone, or BT

    3 is one forward and a backward of twice as much; a filter of a frozen model needs no gradient of its input.
    See `model_flops` for teacher and student.

    Args:
        stage: 1 or 2.
        task: "classification" or "qa".
        teacher_filters: Stage II: False for plain layer-wise distillation, whose teacher has none.
    """
    tokens, width = batch_size * length, shapes.teacher.width
    teacher = model_flops(shapes.teacher, batch_size, length, shapes.positions(length))
    teacher_head, teacher_filter = head_flops(shapes.teacher, task, batch_size, length), 2 * tokens * width * width
    pairs = shapes.teacher.blocks
    if stage == 1:
        read = teacher_filter // length if task == "classification" else teacher_filter
        return teacher + pairs * (2 * read + 3 * teacher_head)
    student = model_flops(shapes.student, batch_size, length, shapes.positions(length))
    student_head = head_flops(shapes.student, task, batch_size, length)
    student_filters = pairs * 2 * tokens * shapes.student.width * width
    filters = pairs * teacher_filter if teacher_filters else 0
    return teacher + teacher_head + filters + 3 * (student + student_head + student_filters)


def model_flops(shape: Shape, batch_size: int, length: int, positions: int) -> int:
    """Operations in the matrix products of a model's blocks, forward, on B rows of T tokens.

    In each block of width D and intermediate width I:

        2 BT (4 D^2 + 2 D I)    its Linear layers
        2 * 2 B T^2 D           queries with keys, probabilities with values
        2 * 2 B T P D           queries with P positions, keys with P positions
        2 * 2 P D^2             the positions through the projections of keys and queries
    """
    tokens, width = batch_size * length, shape.width
    linear = 2 * tokens * (4 * width * width + 2 * width * shape.intermediate)
    attention = 4 * tokens * length * width
    relative = 4 * tokens * positions * width + 4 * positions * width * width
    return shape.blocks * (linear + attention + relative)


def head_flops(shape: Shape, task: str, batch_size: int, length: int) -> int:
    """Operations of the task's head, forward: of a model, or of a filter as wide as the model."""
    if task == "classification":
        return 2 * batch_size * (shape.width * shape.width + shape.width * CLASSES)
    return 2 * batch_size * length * shape.width * CLASSES
