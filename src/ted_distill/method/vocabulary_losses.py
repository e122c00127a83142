"""Losses over a vocabulary, for language modelling: the same mathematics as in `losses`, in chunks of tokens.

Shapes: N tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .losses import divisor, require_same_shape, row_kl, wide


def token_loss(logits: Tensor, labels: Tensor, count: Tensor | None = None) -> Tensor:
    """Cross-entropy of (N, V) logits and (N,) labels in chunks of tokens; those labelled -100 do not count.

    `class_loss` with less memory: no float32 copy of all logits is ever held.
    """
    total = _in_chunks(_summed_loss, logits.shape[-1], logits, labels)
    return total / divisor((labels != -100).sum() if count is None else count)


def vocabulary_loss(hidden: Tensor, output: nn.Linear, labels: Tensor, count: Tensor | None = None) -> Tensor:
    """`token_loss` of `output(hidden)` without ever holding the logits of all tokens.

    Args:
        hidden: (N, D).
        output: frozen output embedding (N, D) -> (N, V), V = `output.out_features`.
        labels: (N,); those of -100 do not count.
    """

    def summed(chunk: Tensor, chunk_labels: Tensor) -> Tensor:
        return _summed_loss(output(chunk), chunk_labels)

    total = _in_chunks(summed, output.out_features, hidden, labels)
    return total / divisor((labels != -100).sum() if count is None else count)


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
    require_same_shape("token_kl", student_logits, teacher_logits)

    def summed(student: Tensor, teacher: Tensor, chunk_mask: Tensor) -> Tensor:
        rows = row_kl(wide(student) / temperature, wide(teacher) / temperature)
        return torch.where(chunk_mask != 0, rows, torch.zeros_like(rows)).sum()

    total = _in_chunks(summed, student_logits.shape[-1], student_logits, teacher_logits, mask)
    return temperature**2 * total / divisor((mask != 0).sum() if count is None else count)


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
"""Numbers in a chunk: 64 MiB in float32."""


def _chunks(rows: int, vocabulary: int) -> list[slice]:
    size = max(1, _CHUNK_NUMBERS // vocabulary)
    return [slice(start, start + size) for start in range(0, rows, size)]


def _summed_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(wide(logits), labels, ignore_index=-100, reduction="sum")


def _in_chunks(loss: Callable[..., Tensor], vocabulary: int, rows: Tensor, *others: Tensor) -> Tensor:
    """Sum of `loss(rows, *others)` over chunks of rows; only `rows` gets a gradient."""
    total: Tensor = _InChunks.apply(loss, vocabulary, rows, *others)  # type: ignore[no-untyped-call]
    return total


class _InChunks(torch.autograd.Function):
    """Sum of a loss over chunks of rows; the gradient of each chunk is computed at once.

    Autograd would keep several float32 copies of each chunk until the backward pass. Here they are freed before the
    next chunk; only the gradient is kept, in the type of the input. The idea is that of the Liger kernels (Hsu et al.,
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
