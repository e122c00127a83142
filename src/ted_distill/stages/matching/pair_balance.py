"""Weights of the pairs that make their gradients equally large when training starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from ...errors import InputError
from ...method.closed_form import in_float64
from ...method.filters import Batch, FilteredModel
from ...method.layer_losses import LayerLoss, layer_losses
from ...progress import watched
from ...tasks.base import Task
from ...training.fitting_memory import room_to_balance

ROWS, BATCH = 128, 4
"""Rows on which gradients are measured, and how many of them at once, however training divides its batches."""


def balanced_weights(
    student: FilteredModel,
    teacher: FilteredModel,
    task: Task,
    batches: Iterable[Batch],
    losses: Sequence[LayerLoss],
) -> list[float]:
    """For each pair, one over the norm of its layer loss's gradient; their mean is 1.

    Gradients are those of the student's own weights, of the mean loss over some batches.

    Raises:
        InputError: a pair's gradient is 0 or not finite.
        NoRoomError: there is no memory for it.
    """
    student.eval()
    rows = list(batches)
    # One pair after the other: gradients of all at once are as many copies of the student.
    with room_to_balance(BATCH):
        norms = [
            _gradient_norm(student, teacher, task, rows, losses, pair)
            for pair in watched(range(len(losses)), "balancing", len(losses), "pairs")
        ]
    if not all(0 < norm < float("inf") for norm in norms):
        raise InputError(
            f"pair_weights: expected gradients above 0 to balance, got {', '.join(f'{norm:g}' for norm in norms)}; "
            "give numbers or leave pair_weights out"
        )
    inverse = [1 / norm for norm in norms]
    return [len(inverse) * value / sum(inverse) for value in inverse]


def _gradient_norm(
    student: FilteredModel,
    teacher: FilteredModel,
    task: Task,
    batches: Sequence[Batch],
    losses: Sequence[LayerLoss],
    pair: int,
) -> float:
    """The norm of the gradient of one pair's loss over all batches."""
    weights = [weight for weight in student.model.parameters() if weight.requires_grad]
    sums = [torch.zeros_like(weight) for weight in weights]
    for batch in batches:
        # Divided by one number for all batches, so that they add up to the same however they are cut.
        one = torch.ones((), device=task.mask(batch).device)
        pair_losses = layer_losses(
            student(batch, need_logits=False).states, teacher(batch).states, task.mask(batch), one, losses
        )
        found = torch.autograd.grad(pair_losses[pair], weights, allow_unused=True)
        for total, gradient in zip(sums, found, strict=True):
            if gradient is not None:
                total += gradient
    return float(torch.stack([in_float64(total).norm() for total in sums]).norm())
