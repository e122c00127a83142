"""The mathematics of distillation: pure functions of tensors, named and ordered as in the paper.

Every loss takes tensors and returns a scalar, computes in float32 or wider, and is a sum over items (rows, tokens)
divided by `count`. `count` defaults to the number of items given; a trainer that accumulates gradients hands over
the number of items of the whole update instead, so that 1 x 8 and 2 x 4 rows give the same step.

Shapes: B batch, T tokens, F filter width, C classes, K pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def distillation_loss(
    pred_loss: Tensor, kl_loss: Tensor, layer_averaged_mse_loss: Tensor, kl_alpha: float, mse_alpha: float
) -> Tensor:
    """Stage II: `pred_loss + kl_alpha * kl_loss + mse_alpha * layer_averaged_mse_loss` (paper, equation 6)."""
    return pred_loss + kl_alpha * kl_loss + mse_alpha * layer_averaged_mse_loss


# --- layer loss -----------------------------------------------------------------------------------------------


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


# --- prediction matching --------------------------------------------------------------------------------------


def class_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0, count: Tensor | None = None
) -> Tensor:
    """`T^2 * KL(softmax(z_t / T) || softmax(z_s / T))`, summed over classes, averaged over rows ("batchmean").

    Args:
        student_logits, teacher_logits: (B, C), at least two classes.

    Raises:
        ValueError: shapes differ, or there is a single class, whose KL would be zero whatever the logits.
    """
    _require_same_shape("class_kl", student_logits, teacher_logits)
    if student_logits.shape[-1] < 2:
        raise ValueError(
            "class_kl: one logit a row came, two classes or more were expected; the KL over one class is always 0. "
            "Match a regression teacher with `score_mse`"
        )
    student, teacher = wide(student_logits) / temperature, wide(teacher_logits) / temperature
    return temperature**2 * _mean(_row_kl(student, teacher), count)


def span_kl(
    student_logits: Tensor, teacher_logits: Tensor, mask: Tensor, temperature: float = 1.0, count: Tensor | None = None
) -> Tensor:
    """Mean of the KLs on start and on end logits, each a softmax over the real tokens of a row.

    Args:
        student_logits, teacher_logits: (B, T, 2), start and end.
        mask: (B, T), non-zero at real tokens; the others take no part in the softmax.

    Raises:
        ValueError: shapes differ, or the mask has no real token.
    """
    _require_same_shape("span_kl", student_logits, teacher_logits)
    _require_real_tokens(mask)
    student, teacher = (
        _only_real_tokens(logits / temperature, mask) for logits in (wide(student_logits), wide(teacher_logits))
    )
    return temperature**2 * _mean(_row_kl(student, teacher).mean(dim=-1), count)


def multi_label_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0, count: Tensor | None = None
) -> Tensor:
    """Sigmoid cross-entropy to the teacher's probabilities less the teacher's own entropy, times T^2.

    Each label is a Bernoulli variable of its own; the entropy has no gradient and makes the loss 0 where both agree.
    Averaged over labels, as the task loss is, and over rows.

    Args:
        student_logits, teacher_logits: (B, C).

    Raises:
        ValueError: shapes differ.
    """
    _require_same_shape("multi_label_kl", student_logits, teacher_logits)
    student, teacher = wide(student_logits) / temperature, wide(teacher_logits) / temperature
    probabilities = teacher.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(student, probabilities, reduction="none")
    entropy = F.binary_cross_entropy_with_logits(teacher, probabilities, reduction="none")
    return temperature**2 * _mean((cross_entropy - entropy).mean(dim=-1), count)


def score_mse(student_logits: Tensor, teacher_logits: Tensor, count: Tensor | None = None) -> Tensor:
    """Mean squared difference of regression scores: what stands in the KL's place where there are no classes.

    Args:
        student_logits, teacher_logits: (B,) or (B, 1).

    Raises:
        ValueError: shapes differ.
    """
    _require_same_shape("score_mse", student_logits, teacher_logits)
    return _mean(
        (wide(student_logits) - wide(teacher_logits)).square().reshape(len(student_logits), -1).mean(-1), count
    )


# --- prediction losses ----------------------------------------------------------------------------------------


def class_loss(logits: Tensor, labels: Tensor, count: Tensor | None = None) -> Tensor:
    """Cross-entropy of (B, C) logits and (B,) labels; rows labelled -100 do not count."""
    total = F.cross_entropy(wide(logits), labels, ignore_index=-100, reduction="sum")
    return total / ((labels != -100).sum() if count is None else count)


def span_loss(
    logits: Tensor, start_positions: Tensor, end_positions: Tensor, mask: Tensor, count: Tensor | None = None
) -> Tensor:
    """Mean of the cross-entropies on start and end, each a softmax over the real tokens of a row.

    Args:
        logits: (B, T, 2), start and end.
        start_positions, end_positions: (B,) token numbers.
        mask: (B, T), non-zero at real tokens.

    Raises:
        ValueError: the mask has no real token.
    """
    _require_real_tokens(mask)
    start_logits, end_logits = _only_real_tokens(wide(logits), mask).unbind(dim=1)
    start = F.cross_entropy(start_logits, start_positions, reduction="none")
    end = F.cross_entropy(end_logits, end_positions, reduction="none")
    return _mean((start + end) / 2, count)


def multi_label_loss(logits: Tensor, labels: Tensor, count: Tensor | None = None) -> Tensor:
    """Sigmoid cross-entropy of (B, C) logits and (B, C) labels in 0..1, averaged over labels and rows."""
    target = labels.to(wide(logits).dtype)
    return _mean(F.binary_cross_entropy_with_logits(wide(logits), target, reduction="none").mean(dim=-1), count)


def score_loss(logits: Tensor, labels: Tensor, count: Tensor | None = None) -> Tensor:
    """Mean squared error of (B, 1) or (B,) scores and (B,) labels."""
    scores = wide(logits).reshape(-1)
    return _mean((scores - labels.to(scores.dtype)).square(), count)


# --- language modelling: losses over a vocabulary, in chunks --------------------------------------------------


def token_loss(logits: Tensor, labels: Tensor, count: Tensor | None = None) -> Tensor:
    """Cross-entropy of (N, V) logits and (N,) labels in chunks of tokens; those labelled -100 do not count.

    `class_loss` with less memory: no float32 copy of all logits is ever held.
    """
    total = _InChunks.apply(_summed_loss, logits.shape[-1], logits, labels)
    return total / ((labels != -100).sum() if count is None else count)


def vocabulary_loss(hidden: Tensor, output: nn.Linear, labels: Tensor, count: Tensor | None = None) -> Tensor:
    """`token_loss` of `output(hidden)` without ever holding the logits of all tokens.

    Args:
        hidden: (N, D).
        output: frozen output embedding (N, D) -> (N, V), V = `output.out_features`.
        labels: (N,); those of -100 do not count.
    """

    def summed(chunk: Tensor, chunk_labels: Tensor) -> Tensor:
        return _summed_loss(output(chunk), chunk_labels)

    total = _InChunks.apply(summed, output.out_features, hidden, labels)
    return total / ((labels != -100).sum() if count is None else count)


def token_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    mask: Tensor,
    temperature: float = 1.0,
    count: Tensor | None = None,
) -> Tensor:
    """`class_kl` over a vocabulary: averaged over the tokens of the mask, in chunks of tokens.

    No probabilities of all tokens are ever held in float32, neither the student's nor the teacher's.

    Args:
        student_logits, teacher_logits: (N, V).
        mask: (N,), non-zero at tokens with a label.

    Raises:
        ValueError: shapes differ.
    """
    _require_same_shape("token_kl", student_logits, teacher_logits)

    def summed(student: Tensor, teacher: Tensor, chunk_mask: Tensor) -> Tensor:
        rows = _row_kl(wide(student) / temperature, wide(teacher) / temperature)
        return torch.where(chunk_mask != 0, rows, torch.zeros_like(rows)).sum()

    total = _InChunks.apply(summed, student_logits.shape[-1], student_logits, teacher_logits, mask)
    return temperature**2 * total / ((mask != 0).sum() if count is None else count)


def token_scores(logits: Tensor, labels: Tensor) -> Tensor:
    """(N, 3) of (N, V) logits: log-probability of the label, whether it has the largest logit, which token has.

    The third is -1 at tokens labelled -100, the others are 0 there.
    """
    chunks = []
    for rows in _chunks(*logits.shape):
        chunk, chunk_labels = wide(logits[rows]), labels[rows]
        best = chunk.argmax(dim=-1)
        log_probability = -F.cross_entropy(chunk, chunk_labels, ignore_index=-100, reduction="none")
        scores = torch.stack([log_probability, (best == chunk_labels).to(chunk.dtype), best.to(chunk.dtype)], dim=-1)
        nothing = torch.tensor([0.0, 0.0, -1.0], device=logits.device, dtype=chunk.dtype)
        chunks.append(torch.where((chunk_labels == -100).unsqueeze(-1), nothing, scores))
    return torch.cat(chunks)


_CHUNK_NUMBERS = 1 << 24
"""Numbers of a chunk: 64 MiB in float32."""


def _chunks(rows: int, vocabulary: int) -> list[slice]:
    size = max(1, _CHUNK_NUMBERS // vocabulary)
    return [slice(start, start + size) for start in range(0, rows, size)]


def _summed_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(wide(logits), labels, ignore_index=-100, reduction="sum")


class _InChunks(torch.autograd.Function):
    """Sum over chunks of rows of a loss whose gradient is taken at once, chunk by chunk.

    What autograd would keep of a chunk until the backward pass, several float32 copies of it, is gone before the
    next one; only the gradient stays, in the type of what came. The idea is that of the Liger kernels (Hsu et al.,
    arXiv 2410.10989).
    """

    @staticmethod
    def forward(ctx: Any, loss: Callable[..., Tensor], vocabulary: int, rows: Tensor, *others: Tensor) -> Tensor:
        needed = ctx.needs_input_grad[2]
        gradient = torch.empty_like(rows) if needed else None
        total = torch.zeros((), device=rows.device, dtype=torch.promote_types(rows.dtype, torch.float32))
        for part in _chunks(len(rows), vocabulary):
            chunk = rows[part].detach().requires_grad_(needed)
            with torch.set_grad_enabled(needed):
                value = loss(chunk, *(other[part] for other in others))
            if gradient is not None:
                (gradient[part],) = torch.autograd.grad(value, chunk)
            total += value.detach()
        ctx.save_for_backward(*([] if gradient is None else [gradient]))
        ctx.others = len(others)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return None, None, gradient * upstream.to(gradient.dtype), *([None] * ctx.others)


# --- shared pieces --------------------------------------------------------------------------------------------


def masked_mean(token_losses: Tensor, mask: Tensor, count: Tensor | None = None) -> Tensor:
    """Sum of (B, T) losses at real tokens, divided by `count` (default: their number).

    Raises:
        ValueError: the shapes differ, or the mask has no real token.
    """
    if mask.shape != token_losses.shape:
        raise ValueError(f"mask {tuple(mask.shape)} and token losses {tuple(token_losses.shape)} must have one shape")
    _require_real_tokens(mask)
    # where() and not a product: a padding token's loss may be inf or NaN, and 0 * NaN is NaN.
    total = torch.where(mask != 0, token_losses, torch.zeros_like(token_losses)).sum()
    return total / ((mask != 0).sum() if count is None else count)


def wide(tensor: Tensor) -> Tensor:
    """The tensor in float32, or in float64 if it is already."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _row_kl(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """KL over the last axis; one value for each of the others."""
    student = F.log_softmax(student_logits, dim=-1)
    teacher = F.log_softmax(teacher_logits, dim=-1)
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=-1)


def _only_real_tokens(logits: Tensor, mask: Tensor) -> Tensor:
    """(B, T, 2) start and end logits -> (B, 2, T) in which padding has probability 0.

    The dtype's lowest finite number stands there rather than -inf, which would give NaN gradients.
    """
    return logits.masked_fill((mask == 0).unsqueeze(-1), torch.finfo(logits.dtype).min).transpose(1, 2)


def _mean(row_losses: Tensor, count: Tensor | None) -> Tensor:
    return row_losses.mean() if count is None else row_losses.sum() / count


def _require_same_states(student_states: Tensor, teacher_states: Tensor) -> None:
    if student_states.shape != teacher_states.shape:
        raise ValueError(
            f"layer loss: student states {tuple(student_states.shape)} and teacher states "
            f"{tuple(teacher_states.shape)} must have one shape; give both models the same filter_output_dim"
        )


def _require_same_shape(name: str, student_logits: Tensor, teacher_logits: Tensor) -> None:
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"{name}: student logits {tuple(student_logits.shape)} and teacher logits "
            f"{tuple(teacher_logits.shape)} must have one shape; do both models have the same labels?"
        )


def _require_real_tokens(mask: Tensor) -> None:
    """Looks on the CPU only, where it costs nothing; on a GPU an empty mask gives 0 / 0, which stops the stage."""
    if mask.device.type == "cpu" and not bool((mask != 0).any()):
        raise ValueError("the mask has no real token: the mean over nothing is not 0 but undefined")
