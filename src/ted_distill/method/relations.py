"""Attention relations: how the queries, keys and values of a block's tokens relate to each other (MiniLMv2).

Wang, Bao, Huang, Dong, Wei: "MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing Pretrained
Transformers", Findings of ACL 2021. Relations of two models are comparable whatever their widths and numbers of heads:
vectors are cut into `relation_heads` pieces anew, and what is matched has the shape of tokens x tokens.

Shapes: B batch, T tokens, D width of the vectors, R relation heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .losses import row_kl, wide


def relation_loss(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    mask: Tensor,
    relation_heads: int,
    count: Tensor | None = None,
    causal: bool = False,
) -> Tensor:
    """KL of the student's relations to the teacher's, averaged over kinds, relation heads and real tokens.

    `mean_kind mean_r mean_t KL(softmax(A_t A_t^T / sqrt(d_t)) || softmax(A_s A_s^T / sqrt(d_s)))` over a token's row of
    the matrix, for each kind A among queries, keys and values (MiniLMv2, equations 3 to 6).

    Args:
        student, teacher: queries, keys and values, each (B, T, D), of a width of its own.
        mask: (B, T), non-zero at real tokens; the others take no part in the softmax.
        relation_heads: R; divides the width of each.
        count: number of real tokens to average over [those of the mask].
        causal: relate a token only to itself and those before it.

    Raises:
        ValueError: other numbers of kinds, or a width that R does not divide.
    """
    if len(student) != len(teacher) or not student:
        raise ValueError(f"relation_loss: expected as many kinds of both models, got {len(student)} and {len(teacher)}")
    tokens = mask != 0
    allowed = tokens[:, None, None, :]
    if causal:
        length = mask.shape[1]
        allowed = allowed & torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    of_kinds = [
        row_kl(*(_relations(vectors, tokens, allowed, relation_heads) for vectors in of_both))
        for of_both in zip(student, teacher, strict=True)
    ]
    # (B, R, T) for each kind: the rows of padding count nothing.
    total = torch.stack(of_kinds).mean(dim=(0, 2)).masked_fill(~tokens, 0).sum()
    return total / (tokens.sum() if count is None else count)


def _relations(vectors: Tensor, tokens: Tensor, allowed: Tensor, heads: int) -> Tensor:
    """(B, R, T, T) scaled products of a token's pieces with those of all tokens; very negative where not allowed."""
    rows, length, width = vectors.shape
    if width % heads:
        raise ValueError(f"relation_loss: expected relation_heads that divide a width of {width}, got {heads}")
    # Padding may hold inf or NaN, which must reach neither the loss nor a gradient.
    vectors = wide(vectors).masked_fill(~tokens.unsqueeze(-1), 0)
    pieces = vectors.view(rows, length, heads, width // heads).transpose(1, 2)
    products: Tensor = pieces @ pieces.transpose(2, 3) * (width // heads) ** -0.5
    return products.masked_fill(~allowed, torch.finfo(products.dtype).min)
