"""Layer losses: how far a student's states are from its teacher's, pair by pair.

Shapes: B batch, T tokens, F filter width, K pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .losses import masked_mean, wide


def mse_layer_loss(
    student_states: Tensor,
    teacher_states: Tensor,
    mask: Tensor,
    count: Tensor | None = None,
    teacher_variance: Tensor | None = None,
) -> Tensor:
    """Mean squared difference of one pair's filtered states over real tokens and F (paper, equation 5).

    Args:
        student_states, teacher_states: (B, T, F).
        mask: (B, T), non-zero at real tokens.
        count: number of real tokens to average over.
        teacher_variance: not looked at; every layer loss takes it.

    Raises:
        ValueError: shapes differ, or the mask has no real token.
    """
    _require_same_states(student_states, teacher_states)
    return masked_mean(_SquaredDistance.apply(student_states, teacher_states, mask), mask, count)


class _SquaredDistance(torch.autograd.Function):
    """Mean over F of the squared difference at real tokens, zero at padding: (B, T, F) twice -> (B, T).

    Autograd would read and write states of every pair a dozen times; this does it four times.
    """

    @staticmethod
    def forward(ctx: Any, student_states: Tensor, teacher_states: Tensor, mask: Tensor) -> Tensor:
        difference = student_states.to(torch.promote_types(student_states.dtype, torch.float32), copy=True)
        difference.sub_(teacher_states)
        # What stands at padding may be inf or NaN, and must reach neither the loss nor a gradient.
        padding = mask == 0
        if mask.device.type != "cpu":
            difference.masked_fill_(padding.unsqueeze(-1), 0)
        elif bool(padding.any()):
            difference[padding] = 0
        ctx.save_for_backward(difference)
        ctx.dtypes = student_states.dtype, teacher_states.dtype
        return torch.linalg.vector_norm(difference, dim=-1).square() / difference.shape[-1]

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
    teacher_variance: Tensor | None = None,
) -> Tensor:
    """`mse_layer_loss` divided by the variance of the teacher's states, so that one mse_alpha serves all tasks.

    Its value is the part of the teacher's states that the student does not explain: 1 for one that says their mean.

    Args:
        teacher_variance: scalar, as `states_variances` gives it; the other arguments as in `mse_layer_loss`.

    Raises:
        ValueError: see `mse_layer_loss`, or there is no variance.
    """
    if teacher_variance is None:
        raise ValueError("normalized_mse: the variance of the teacher's states is missing; see `states_variances`")
    return mse_layer_loss(student_states, teacher_states, mask, count) / teacher_variance


def cosine_layer_loss(
    student_states: Tensor,
    teacher_states: Tensor,
    mask: Tensor,
    count: Tensor | None = None,
    teacher_variance: Tensor | None = None,
) -> Tensor:
    """1 less the cosine of the angle between one pair's states, over F, averaged over real tokens: 0 to 2.

    Args and raises: see `mse_layer_loss`. A state of length 0 has cosine 0 with everything.
    """
    _require_same_states(student_states, teacher_states)
    # What stands at padding may be inf or NaN, and must reach neither the loss nor a gradient.
    student, teacher = (
        wide(states).masked_fill((mask == 0).unsqueeze(-1), 0) for states in (student_states, teacher_states)
    )
    return masked_mean(1 - F.cosine_similarity(student, teacher, dim=-1), mask, count)


LayerLoss = Callable[[Tensor, Tensor, Tensor, Tensor | None, Tensor | None], Tensor]
"""(student_states, teacher_states, mask, count, teacher_variance) -> scalar."""


LAYER_LOSSES: dict[str, LayerLoss] = {
    "mse": mse_layer_loss,
    "normalized_mse": normalized_mse_layer_loss,
    "cosine": cosine_layer_loss,
}
"""Layer losses by name. A new one is a function and a line here."""


NEED_VARIANCE = {"normalized_mse"}
"""Those that look at `teacher_variance`, which is measured for them alone."""


def layer_losses(
    student_states: Sequence[Tensor],
    teacher_states: Sequence[Tensor],
    mask: Tensor,
    count: Tensor | None = None,
    layer_loss: LayerLoss = mse_layer_loss,
    teacher_variances: Sequence[Tensor] | Tensor | None = None,
) -> Tensor:
    """The layer loss of each pair, (K,); the paper's loss is their mean.

    Args:
        teacher_variances: (K,), for the losses that look at them.

    Raises:
        ValueError: the numbers of pairs differ, there is no pair, or see the layer loss.
    """
    if len(student_states) != len(teacher_states) or not student_states:
        raise ValueError(
            f"layer loss: {len(student_states)} student and {len(teacher_states)} teacher states came, "
            "as many of each, and at least one, were expected; set filter_interval and teacher_filter_interval"
        )
    variances = [None] * len(student_states) if teacher_variances is None else teacher_variances
    pairs = zip(student_states, teacher_states, variances, strict=True)
    return torch.stack([layer_loss(student, teacher, mask, count, variance) for student, teacher, variance in pairs])


def states_variances(batches: Iterable[tuple[Sequence[Tensor], Tensor]]) -> Tensor:
    """(K,) variance of each pair's states over real tokens, averaged over F, in float32.

    Args:
        batches: K states (B, T, F) and the mask (B, T), non-zero at real tokens, of each batch.

    Raises:
        ValueError: there is no real token.
    """
    count = 0
    sums = squares = torch.zeros(())
    for states, mask in batches:
        tokens = torch.stack([of_pair[mask != 0].double() for of_pair in states])
        count += tokens.shape[1]
        sums, squares = sums + tokens.sum(dim=1), squares + tokens.square().sum(dim=1)
    if count == 0:
        raise ValueError("the masks have no real token: the variance of nothing is not 0 but undefined")
    return (squares / count - (sums / count).square()).mean(dim=-1).float()


def _require_same_states(student_states: Tensor, teacher_states: Tensor) -> None:
    if student_states.shape != teacher_states.shape:
        raise ValueError(
            f"layer loss: student states {tuple(student_states.shape)} and teacher states "
            f"{tuple(teacher_states.shape)} must have one shape; give both models the same filter_output_dim"
        )
