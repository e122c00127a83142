"""Layer losses: how far a student's states are from its teacher's, pair by pair.

A layer loss is a function of one pair's states, the mask, and the number of tokens to average over. Its constants, such
as the variance that `normalized_mse` divides by, are bound once, before training (`bind_layer_loss`).

Shapes: B batch, T tokens, F filter width, K pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from inspect import signature
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .closed_form import ROUNDING_ERROR, in_float64
from .losses import masked_mean, wide

LayerLoss = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""(student_states, teacher_states, mask, count) -> scalar."""


def layer_losses(
    student_states: Sequence[Tensor],
    teacher_states: Sequence[Tensor],
    mask: Tensor,
    count: Tensor | None = None,
    losses: Sequence[LayerLoss] | None = None,
) -> Tensor:
    """The layer loss of each pair, (K,); the paper's loss is their mean.

    Args:
        student_states, teacher_states: K times (B, T, F).
        mask: (B, T), non-zero at real tokens.
        count: number of real tokens to average over [those of the mask].
        losses: one for each pair, as `bind_layer_loss` gives them [`mse_layer_loss`].

    Raises:
        ValueError: the numbers of pairs differ, there is no pair, or see the layer loss.
    """
    if len(student_states) != len(teacher_states) or not student_states:
        raise ValueError(
            f"layer loss: expected as many student as teacher states, and at least one pair, got {len(student_states)} "
            f"and {len(teacher_states)}; set filter_interval and teacher_filter_interval"
        )
    pairs = zip(losses or [mse_layer_loss] * len(student_states), student_states, teacher_states, strict=True)
    return torch.stack([loss(student, teacher, mask, count) for loss, student, teacher in pairs])


def mean_of_pairs(pair_losses: Tensor, weights: Sequence[float] | None = None) -> Tensor:
    """The mean of the pairs' layer losses (K,), as in the paper, or their weighted mean."""
    if weights is None:
        return pair_losses.mean()
    of_pairs = torch.tensor(weights, dtype=pair_losses.dtype, device=pair_losses.device)
    return (pair_losses * of_pairs).sum() / of_pairs.sum()


def mse_layer_loss(student_states: Tensor, teacher_states: Tensor, mask: Tensor, count: Tensor | None = None) -> Tensor:
    """Mean squared difference of one pair's filtered states over real tokens and F (paper, equation 5).

    Args:
        student_states, teacher_states: (B, T, F).
        mask: (B, T), non-zero at real tokens.
        count: number of real tokens to average over.

    Raises:
        ValueError: shapes differ.
    """
    _require_same_states(student_states, teacher_states)
    distance = _SquaredDistance.apply(student_states, teacher_states, mask)  # type: ignore[no-untyped-call]
    return masked_mean(distance, mask, count)


class _SquaredDistance(torch.autograd.Function):
    """Mean over F of the squared difference at real tokens, zero at padding: (B, T, F) twice -> (B, T).

    Autograd would read and write states of every pair a dozen times; this does it four times.
    """

    @staticmethod
    def forward(ctx: Any, student_states: Tensor, teacher_states: Tensor, mask: Tensor) -> Tensor:
        difference = student_states.to(torch.promote_types(student_states.dtype, torch.float32), copy=True)
        difference.sub_(teacher_states)
        # Padding may hold inf or NaN, which must reach neither the loss nor a gradient.
        padding = mask == 0
        if mask.device.type != "cpu":
            difference.masked_fill_(padding.unsqueeze(-1), 0)
        elif bool(padding.any()):
            difference[padding] = 0
        ctx.save_for_backward(difference)
        ctx.dtypes = student_states.dtype, teacher_states.dtype
        lengths: Tensor = torch.linalg.vector_norm(difference, dim=-1)
        return lengths.square() / difference.shape[-1]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (difference,) = ctx.saved_tensors
        scale = (gradient * (2 / difference.shape[-1])).unsqueeze(-1)
        student, teacher = (
            torch.mul(difference, sign * scale, out=torch.empty_like(difference, dtype=dtype)) if needed else None
            for dtype, sign, needed in zip(ctx.dtypes, (1, -1), ctx.needs_input_grad[:2], strict=True)
        )
        return student, teacher, None


def normalized_mse_layer_loss(
    student_states: Tensor,
    teacher_states: Tensor,
    mask: Tensor,
    count: Tensor | None = None,
    *,
    teacher_variance: Tensor,
) -> Tensor:
    """`mse_layer_loss` divided by the variance of the teacher's states, so that one mse_alpha serves all tasks.

    Its value is the part of the teacher's variance that the student does not explain: 1 for states equal to the mean.

    Args:
        teacher_variance: scalar, one of those of `states_variances`; the other arguments as in `mse_layer_loss`.

    Raises:
        ValueError: see `mse_layer_loss`.
    """
    return mse_layer_loss(student_states, teacher_states, mask, count) / teacher_variance


def cosine_layer_loss(
    student_states: Tensor, teacher_states: Tensor, mask: Tensor, count: Tensor | None = None
) -> Tensor:
    """1 minus the cosine of the angle between one pair's states, over F, averaged over real tokens: 0 to 2.

    Args and raises: see `mse_layer_loss`. A state of length 0 has cosine 0 with everything.
    """
    _require_same_states(student_states, teacher_states)
    # Padding may hold inf or NaN, which must reach neither the loss nor a gradient.
    student, teacher = (
        wide(states).masked_fill((mask == 0).unsqueeze(-1), 0) for states in (student_states, teacher_states)
    )
    return masked_mean(1 - F.cosine_similarity(student, teacher, dim=-1), mask, count)


LayerLossName = Literal["mse", "normalized_mse", "cosine"]
"""For editors; what counts is `LAYER_LOSSES`."""
LAYER_LOSSES: dict[str, Callable[..., Tensor]] = {
    "mse": mse_layer_loss,
    "normalized_mse": normalized_mse_layer_loss,
    "cosine": cosine_layer_loss,
}
"""Layer losses by name. A new one is a function and a line here."""


def bind_layer_loss(name: str, pairs: int, measure_variances: Callable[[], Tensor]) -> list[LayerLoss]:
    """The layer loss of each pair, with its constants bound.

    Args:
        name: one of `LAYER_LOSSES`.
        pairs: K.
        measure_variances: gives (K,), see `states_variances`; called only for a loss that has an argument
            `teacher_variance`.
    """
    loss = LAYER_LOSSES[name]
    if not pairs or "teacher_variance" not in signature(loss).parameters:
        return [loss] * pairs
    return [partial(loss, teacher_variance=variance) for variance in measure_variances()]


def bound_variances(losses: Sequence[LayerLoss]) -> list[float]:
    """The variances that `bind_layer_loss` has bound; empty for losses without this constant."""
    bound = [loss.keywords for loss in losses if isinstance(loss, partial)]
    return [float(constants["teacher_variance"]) for constants in bound if "teacher_variance" in constants]


def states_variances(batches: Iterable[tuple[Sequence[Tensor], Tensor]]) -> Tensor:
    """(K,) variance of each pair's states over real tokens, averaged over F, in float32.

    0 for states that are the same for every token, whose variance a difference of sums would give a rounding error.

    Args:
        batches: K states (B, T, F) and the mask (B, T), non-zero at real tokens, of each batch.

    Raises:
        ValueError: there is no real token.
    """
    count = 0
    sums = squares = torch.zeros(())
    for states, mask in batches:
        tokens = torch.stack([in_float64(of_pair[mask != 0]) for of_pair in states])
        count += tokens.shape[1]
        sums, squares = sums + tokens.sum(dim=1), squares + tokens.square().sum(dim=1)
    if count == 0:
        raise ValueError("expected a real token in the masks, got none: the variance of nothing is undefined, not 0")
    variances = (squares / count - (sums / count).square()).mean(dim=-1)
    return variances.masked_fill(variances <= ROUNDING_ERROR * squares.mean(dim=-1) / count, 0).float()


def _require_same_states(student_states: Tensor, teacher_states: Tensor) -> None:
    if student_states.shape != teacher_states.shape:
        raise ValueError(
            f"layer loss: expected states of one shape, got {tuple(student_states.shape)} of the student and "
            f"{tuple(teacher_states.shape)} of the teacher; give both models the same filter_output_dim"
        )
