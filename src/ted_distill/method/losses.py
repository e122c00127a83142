"""The mathematics of distillation: pure functions of tensors, named and ordered as in the paper.

Every loss takes tensors and returns a scalar, computes in float32 or wider, and is a sum over items (rows, tokens)
divided by `count`. `count` defaults to the number of items given; a trainer that accumulates gradients passes
the number of items in the whole update instead, so 1 x 8 and 2 x 4 rows give the same step. The loss of no items is 0:
an update in which nothing has a label teaches nothing.

Shapes: B batch, T tokens, F filter width, C classes, K pairs.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def distillation_loss(
    pred_loss: Tensor,
    match_loss: Tensor,
    layer_loss: Tensor,
    kl_alpha: float,
    mse_alpha: float,
    relation_loss: Tensor | None = None,
    attention_alpha: float = 0.0,
    weights: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    """Stage II: `pred_loss + kl_alpha * match_loss + mse_alpha * layer_loss` (paper, equation 6).

    With attention relations, `+ attention_alpha * relation_loss`.

    Args:
        pred_loss: of the student's predictions against the labels.
        match_loss: of the student's predictions against the teacher's: a KL, or a squared error of scores.
        layer_loss: of the student's filtered states against the teacher's, the mean over the pairs.
        relation_loss: see `method.relations`.
        weights: of the first two terms and of the others at this point of the training, see `schedule_weights`.
    """
    of_predictions, of_layers = weights
    total = of_predictions * (pred_loss + kl_alpha * match_loss) + of_layers * mse_alpha * layer_loss
    return total if relation_loss is None else total + of_layers * attention_alpha * relation_loss


LayerSchedule = Literal["constant", "layers_first", "decay"]
_LAYERS_ALONE = 0.4


def schedule_weights(schedule: LayerSchedule, progress: float) -> tuple[float, float]:
    """Factors of the losses of predictions, and of those of layers and relations, at a point of the training.

    `constant`: 1 and 1. `layers_first`: 0 and 1 for the first 40 % of the updates, then 1 and 1. `decay`: 1, and a
    factor that falls linearly from 1 to 0.

    Args:
        progress: share of the updates that have been made, 0 to 1.
    """
    if schedule == "layers_first":
        return (0.0 if progress < _LAYERS_ALONE else 1.0), 1.0
    return 1.0, (1.0 - progress if schedule == "decay" else 1.0)


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
    require_same_shape("class_kl", student_logits, teacher_logits)
    if student_logits.shape[-1] < 2:
        raise ValueError(
            "class_kl: expected two classes or more, got one logit a row; the KL over one class is always 0: "
            "match a regression teacher with `score_mse`"
        )
    student, teacher = wide(student_logits) / temperature, wide(teacher_logits) / temperature
    return temperature**2 * _mean(row_kl(student, teacher), count)


def span_kl(
    student_logits: Tensor, teacher_logits: Tensor, mask: Tensor, temperature: float = 1.0, count: Tensor | None = None
) -> Tensor:
    """Mean of the KLs on start and on end logits, each a softmax over the real tokens of a row.

    Args:
        student_logits, teacher_logits: (B, T, 2), start and end.
        mask: (B, T), non-zero at real tokens; the others take no part in the softmax.

    Raises:
        ValueError: shapes differ.
    """
    require_same_shape("span_kl", student_logits, teacher_logits)
    student, teacher = (
        _only_real_tokens(logits / temperature, mask) for logits in (wide(student_logits), wide(teacher_logits))
    )
    return temperature**2 * _mean(row_kl(student, teacher).mean(dim=-1), count)


def multi_label_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0, count: Tensor | None = None
) -> Tensor:
    """Sigmoid cross-entropy to the teacher's probabilities minus the teacher's entropy, times T^2.

    Each label is a separate Bernoulli variable; the entropy has no gradient and makes the loss 0 if both models agree.
    Averaged over labels, as the task loss is, and over rows.

    Args:
        student_logits, teacher_logits: (B, C).

    Raises:
        ValueError: shapes differ.
    """
    require_same_shape("multi_label_kl", student_logits, teacher_logits)
    student, teacher = wide(student_logits) / temperature, wide(teacher_logits) / temperature
    probabilities = teacher.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(student, probabilities, reduction="none")
    entropy = F.binary_cross_entropy_with_logits(teacher, probabilities, reduction="none")
    return temperature**2 * _mean((cross_entropy - entropy).mean(dim=-1), count)


def score_mse(student_logits: Tensor, teacher_logits: Tensor, count: Tensor | None = None) -> Tensor:
    """Mean squared difference of regression scores: used instead of the KL when there are no classes.

    Args:
        student_logits, teacher_logits: (B,) or (B, 1).

    Raises:
        ValueError: shapes differ.
    """
    require_same_shape("score_mse", student_logits, teacher_logits)
    squares = (wide(student_logits) - wide(teacher_logits)).square()
    return _mean(squares if squares.ndim == 1 else squares.flatten(1).mean(dim=-1), count)


# --- prediction losses ----------------------------------------------------------------------------------------


def class_loss(logits: Tensor, labels: Tensor, count: Tensor | None = None) -> Tensor:
    """Cross-entropy of (B, C) logits and (B,) labels; rows labelled -100 do not count."""
    total = F.cross_entropy(wide(logits), labels, ignore_index=-100, reduction="sum")
    return total / divisor((labels != -100).sum() if count is None else count)


def soft_class_loss(logits: Tensor, probabilities: Tensor, count: Tensor | None = None) -> Tensor:
    """Cross-entropy `-sum_c p_c log softmax(z)_c` of (B, C) logits with (B, C) probabilities, averaged over rows."""
    target = probabilities.to(wide(logits).dtype)
    return _mean(-(target * F.log_softmax(wide(logits), dim=-1)).sum(dim=-1), count)


def span_loss(
    logits: Tensor, start_positions: Tensor, end_positions: Tensor, mask: Tensor, count: Tensor | None = None
) -> Tensor:
    """Mean of the cross-entropies on start and end, each a softmax over the real tokens of a row.

    Args:
        logits: (B, T, 2), start and end.
        start_positions, end_positions: (B,) token numbers.
        mask: (B, T), non-zero at real tokens.
    """
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


# --- shared pieces --------------------------------------------------------------------------------------------


def masked_mean(token_losses: Tensor, mask: Tensor, count: Tensor | None = None) -> Tensor:
    """Sum of (B, T) losses at real tokens, divided by `count` (default: their number).

    Raises:
        ValueError: the shapes differ.
    """
    if mask.shape != token_losses.shape:
        raise ValueError(f"expected a mask of shape {tuple(token_losses.shape)}, got {tuple(mask.shape)}")
    # where() and not a product: a padding token's loss may be inf or NaN, and 0 * NaN is NaN.
    total = torch.where(mask != 0, token_losses, torch.zeros_like(token_losses)).sum()
    return total / divisor((mask != 0).sum() if count is None else count)


def divisor(count: Tensor) -> Tensor:
    """What a sum over `count` items is divided by for their mean; 1 for no items, whose sum is 0."""
    return count.clamp(min=1)


def wide(tensor: Tensor) -> Tensor:
    """The tensor in float32, or in float64 if it is already."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def row_kl(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """KL over the last axis; one value for each of the others."""
    student = F.log_softmax(student_logits, dim=-1)
    teacher = F.log_softmax(teacher_logits, dim=-1)
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=-1)


def _only_real_tokens(logits: Tensor, mask: Tensor) -> Tensor:
    """(B, T, 2) start and end logits -> (B, 2, T) in which padding has probability 0.

    It gets the dtype's lowest finite number rather than -inf, which would give NaN gradients.
    """
    return logits.masked_fill((mask == 0).unsqueeze(-1), torch.finfo(logits.dtype).min).transpose(1, 2)


def _mean(row_losses: Tensor, count: Tensor | None) -> Tensor:
    if count is None:
        return row_losses.mean() if row_losses.numel() else row_losses.sum()
    return row_losses.sum() / divisor(count)


def require_same_shape(name: str, student_logits: Tensor, teacher_logits: Tensor) -> None:
    """Raise `ValueError` if the two models' logits differ in shape."""
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"{name}: expected logits of one shape, got {tuple(student_logits.shape)} of the student and "
            f"{tuple(teacher_logits.shape)} of the teacher; do both models have the same labels?"
        )
