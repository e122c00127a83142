"""Attention relations, against numpy, row by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ted_distill.method.relations import relation_loss


def vectors(width: int, seed: int, kinds: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 5, width, generator=generator, dtype=torch.float64) for _ in range(kinds)]


MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def softmax(scores: np.ndarray) -> np.ndarray:
    exponentials = np.exp(scores - scores.max())
    return exponentials / exponentials.sum()


def expected_loss(student: list[Tensor], teacher: list[Tensor], heads: int, causal: bool) -> float:
    """The definition, one row of one matrix at a time."""
    divergences = []
    for of_student, of_teacher in zip(student, teacher, strict=True):
        for row, length in enumerate([5, 3]):
            for head in range(heads):
                for token in range(length):
                    seen = token + 1 if causal else length
                    rows = []
                    for of_model in (of_student, of_teacher):
                        size = of_model.shape[-1] // heads
                        piece = of_model[row, :seen, head * size : (head + 1) * size].numpy()
                        rows.append(softmax(piece @ piece[token] / size**0.5))
                    divergences.append(float((rows[1] * np.log(rows[1] / rows[0])).sum()))
    return float(np.mean(divergences))


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("causal", [False, True])
def test_relations_of_different_widths_are_compared_token_by_token(heads: int, causal: bool) -> None:
    student, teacher = vectors(8, 0), vectors(12, 1)
    loss = relation_loss(student, teacher, MASK, heads, causal=causal)
    assert loss.item() == pytest.approx(expected_loss(student, teacher, heads, causal), rel=1e-12)


def test_equal_relations_have_no_loss_however_they_are_turned() -> None:
    student = vectors(8, 0)
    turn, _ = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))
    assert relation_loss(student, [kind @ turn for kind in student], MASK, 1).item() == pytest.approx(0, abs=1e-12)


def test_micro_batches_add_up_to_the_whole_batch() -> None:
    student, teacher = vectors(8, 0), vectors(12, 1)
    parts = [
        relation_loss([k[i : i + 1] for k in student], [k[i : i + 1] for k in teacher], MASK[i : i + 1], 2, MASK.sum())
        for i in range(2)
    ]
    assert sum(parts).item() == pytest.approx(relation_loss(student, teacher, MASK, 2).item(), rel=1e-12)


def test_padding_reaches_neither_loss_nor_gradient_even_if_it_is_not_finite() -> None:
    student, teacher = vectors(8, 0), vectors(12, 1)
    clean = relation_loss(student, teacher, MASK, 2)
    for kinds in (student, teacher):
        for kind in kinds:
            kind[1, 3:] = float("nan")
    student = [kind.requires_grad_() for kind in student]
    loss = relation_loss(student, teacher, MASK, 2)
    loss.backward()
    assert loss.item() == clean.item()
    assert all(kind.grad is not None and bool(torch.isfinite(kind.grad).all()) for kind in student)
    assert all(bool((kind.grad[1, 3:] == 0).all()) for kind in student if kind.grad is not None)


def test_heads_that_do_not_divide_the_width_and_other_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="divide a width of 8"):
        relation_loss(vectors(8, 0), vectors(12, 1), MASK, 3)
    with pytest.raises(ValueError, match="got 2 and 3"):
        relation_loss(vectors(8, 0, kinds=2), vectors(12, 1), MASK, 2)
