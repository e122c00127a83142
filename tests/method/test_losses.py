"""The mathematics, against torch, closed forms and plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ted_distill.method.layer_losses import cosine_layer_loss, layer_losses, mse_layer_loss
from ted_distill.method.losses import (
    class_kl,
    class_loss,
    distillation_loss,
    masked_mean,
    multi_label_kl,
    multi_label_loss,
    score_loss,
    score_mse,
    span_kl,
    span_loss,
)
from ted_distill.method.vocabulary_losses import token_kl, token_loss

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def padded(tensor: Tensor, tokens: int = 3, value: float = 0.0) -> Tensor:
    """(B, T) or (B, T, F) with more tokens on the right."""
    return F.pad(tensor, (0, tokens) if tensor.ndim == 2 else (0, 0, 0, tokens), value=value)


STARTS, ENDS = torch.tensor([1, 0, 2]), torch.tensor([4, 1, 2])
CLASSES = torch.tensor([0, 3, 1])
LABEL_SETS = torch.tensor([[1.0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]])

# What a loss says of rows `rows` of the same random tensors, with a count.
ROW_LOSSES = {
    "class_loss": lambda rows, count: class_loss(random(3, 4)[rows], CLASSES[rows], count),
    "multi_label_loss": lambda rows, count: multi_label_loss(random(3, 4)[rows], LABEL_SETS[rows], count),
    "score_loss": lambda rows, count: score_loss(random(3, 1)[rows], random(3, seed=1)[rows], count),
    "span_loss": lambda rows, count: span_loss(random(3, 5, 2)[rows], STARTS[rows], ENDS[rows], MASK[rows], count),
    "class_kl": lambda rows, count: class_kl(random(3, 4)[rows], random(3, 4, seed=1)[rows], 2.0, count),
    "multi_label_kl": lambda rows, count: multi_label_kl(random(3, 4)[rows], random(3, 4, seed=1)[rows], 2.0, count),
    "score_mse": lambda rows, count: score_mse(random(3, 1)[rows], random(3, 1, seed=1)[rows], count),
    "span_kl": lambda rows, count: span_kl(
        random(3, 5, 2)[rows], random(3, 5, 2, seed=1)[rows], MASK[rows], 2.0, count
    ),
}

# Prediction matching of two models' logits, at a temperature.
MATCHINGS = {
    "class_kl": ((3, 4), class_kl),
    "multi_label_kl": ((3, 4), multi_label_kl),
    "score_mse": ((3, 1), lambda student, teacher, temperature: score_mse(student, teacher)),
    "span_kl": ((3, 5, 2), lambda student, teacher, temperature: span_kl(student, teacher, MASK, temperature)),
}


@pytest.mark.parametrize("name", ROW_LOSSES)
def test_two_micro_batches_with_the_count_of_both_add_up_to_the_whole(name: str) -> None:
    loss, count = ROW_LOSSES[name], torch.tensor(3.0)
    parts = loss(slice(0, 1), count) + loss(slice(1, 3), count)
    torch.testing.assert_close(parts, loss(slice(None), None), rtol=1e-12, atol=0)


def test_two_micro_batches_of_layer_losses_add_up_to_the_whole() -> None:
    student, teacher, count = random(3, 5, 4), random(3, 5, 4, seed=1), MASK.sum()
    parts = [mse_layer_loss(student[rows], teacher[rows], MASK[rows], count) for rows in (slice(0, 1), slice(1, 3))]
    torch.testing.assert_close(sum(parts), mse_layer_loss(student, teacher, MASK), rtol=1e-12, atol=0)


@pytest.mark.parametrize("garbage", [0.0, 1e4, -1e4])
def test_more_padding_changes_no_loss(garbage: float) -> None:
    student, teacher = random(3, 5, 2), random(3, 5, 2, seed=1)
    wide_student, wide_teacher = padded(student, value=garbage), padded(teacher, value=-garbage / 3)
    mask = padded(MASK)
    for narrow, wide in (
        (mse_layer_loss(student, teacher, MASK), mse_layer_loss(wide_student, wide_teacher, mask)),
        (span_kl(student, teacher, MASK, 2.0), span_kl(wide_student, wide_teacher, mask, 2.0)),
        (span_loss(student, STARTS, ENDS, MASK), span_loss(wide_student, STARTS, ENDS, mask)),
    ):
        torch.testing.assert_close(narrow, wide, rtol=1e-12, atol=0)


@pytest.mark.parametrize("garbage", [1.0, 1e20, math.inf])
def test_what_stands_at_padding_changes_no_loss(garbage: float) -> None:
    student, teacher = random(3, 5, 2, dtype=torch.float32), random(3, 5, 2, seed=1, dtype=torch.float32)
    broken = student.masked_fill((MASK == 0).unsqueeze(-1), garbage)
    assert torch.equal(mse_layer_loss(broken, teacher, MASK), mse_layer_loss(student, teacher, MASK))
    assert torch.equal(span_kl(broken, teacher, MASK), span_kl(student, teacher, MASK))
    assert torch.equal(span_loss(broken, STARTS, ENDS, MASK), span_loss(student, STARTS, ENDS, MASK))


@pytest.mark.parametrize(
    "loss",
    [
        lambda student: mse_layer_loss(student, random(3, 5, 2, seed=1), MASK),
        lambda student: span_kl(student, random(3, 5, 2, seed=1), MASK, 2.0),
        lambda student: span_loss(student, STARTS, ENDS, MASK),
    ],
    ids=["mse_layer_loss", "span_kl", "span_loss"],
)
def test_gradients_at_padding_are_exactly_zero_and_elsewhere_not(loss) -> None:
    student = random(3, 5, 2).requires_grad_()
    loss(student).backward()
    assert student.grad is not None
    assert bool((student.grad[MASK == 0] == 0).all())
    assert bool((student.grad[MASK == 1] != 0).all())


# --- layer loss -----------------------------------------------------------------------------------------------


def test_the_layer_loss_without_padding_is_the_mean_squared_error() -> None:
    student, teacher = random(2, 5, 3), random(2, 5, 3, seed=1)
    torch.testing.assert_close(mse_layer_loss(student, teacher, torch.ones(2, 5)), F.mse_loss(student, teacher))


def test_the_layer_loss_with_padding_is_the_mean_over_real_tokens() -> None:
    student, teacher = random(3, 5, 4), random(3, 5, 4, seed=1)
    real = MASK.bool()
    torch.testing.assert_close(mse_layer_loss(student, teacher, MASK), F.mse_loss(student[real], teacher[real]))


def test_layer_losses_keep_the_order_of_the_pairs() -> None:
    zeros, ones = torch.zeros(1, 2, 3), torch.ones(1, 2, 3)
    losses = layer_losses([ones, 3 * ones], [zeros, ones], torch.ones(1, 2))
    assert losses.tolist() == [1.0, 4.0]


@pytest.mark.parametrize(("student", "teacher"), [(1, 2), (0, 0), (2, 0)])
def test_layer_losses_of_unequal_or_no_pairs_are_refused(student: int, teacher: int) -> None:
    state = torch.ones(1, 2, 3)
    with pytest.raises(ValueError, match="filter_interval"):
        layer_losses([state] * student, [state] * teacher, torch.ones(1, 2))


def test_states_of_different_widths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2, 3\).*\(1, 2, 4\).*filter_output_dim"):
        mse_layer_loss(torch.ones(1, 2, 3), torch.ones(1, 2, 4), torch.ones(1, 2))


NOTHING = torch.tensor(0.0)
NO_LABELS = torch.full((3,), -100)
LOSSES_OF_NOTHING: dict[str, Callable[[Tensor], Tensor]] = {
    "class_loss": lambda logits: class_loss(logits, NO_LABELS),
    "class_loss of an update": lambda logits: class_loss(logits, NO_LABELS, NOTHING),
    "token_loss": lambda logits: token_loss(logits, NO_LABELS),
    "token_loss of an update": lambda logits: token_loss(logits, NO_LABELS, NOTHING),
    "token_kl": lambda logits: token_kl(logits, random(3, 4), NO_LABELS != -100),
    "class_kl": lambda logits: class_kl(logits[:0], random(0, 4)),
    "class_kl of an update": lambda logits: class_kl(logits[:0], random(0, 4), 1.0, NOTHING),
    "score_mse": lambda logits: score_mse(logits[:0, :1], random(0, 1)),
    "score_loss": lambda logits: score_loss(logits[:0, :1], random(0)),
    "multi_label_loss": lambda logits: multi_label_loss(logits[:0], random(0, 4), NOTHING),
    "multi_label_kl": lambda logits: multi_label_kl(logits[:0], random(0, 4), 1.0, NOTHING),
    "span_kl": lambda logits: span_kl(logits[:0].reshape(0, 2, 2), random(0, 2, 2), random(0, 2)),
    "mse_layer_loss": lambda logits: mse_layer_loss(logits[None], random(1, 3, 4), torch.zeros(1, 3)),
    "mse_layer_loss of an update": lambda logits: mse_layer_loss(
        logits[None], random(1, 3, 4), torch.zeros(1, 3), NOTHING
    ),
    "cosine_layer_loss": lambda logits: cosine_layer_loss(logits[None], random(1, 3, 4), torch.zeros(1, 3)),
}


@pytest.mark.parametrize("name", LOSSES_OF_NOTHING)
def test_the_loss_of_nothing_is_zero_and_so_is_its_gradient(name: str) -> None:
    logits = random(3, 4).requires_grad_()
    loss = LOSSES_OF_NOTHING[name](logits)
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a mask of shape \(3, 5\), got \(3, 4\)"):
        masked_mean(random(3, 5), torch.ones(3, 4))


# --- prediction matching --------------------------------------------------------------------------------------


def test_class_kl_of_two_known_distributions() -> None:
    student, teacher = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.9, 0.1]]).log()
    expected = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert class_kl(student, teacher).item() == pytest.approx(expected, rel=1e-6)


def test_class_kl_agrees_with_torch_distributions() -> None:
    student, teacher = random(6, 5), random(6, 5, seed=1)
    categorical = torch.distributions.Categorical
    rows = torch.distributions.kl_divergence(categorical(logits=teacher / 3), categorical(logits=student / 3))
    torch.testing.assert_close(class_kl(student, teacher, 3.0), 9 * rows.mean())


def test_multi_label_kl_agrees_with_torch_distributions() -> None:
    student, teacher = random(6, 5), random(6, 5, seed=1)
    bernoulli = torch.distributions.Bernoulli
    labels = torch.distributions.kl_divergence(bernoulli(logits=teacher / 3), bernoulli(logits=student / 3))
    torch.testing.assert_close(multi_label_kl(student, teacher, 3.0), 9 * labels.mean())


def test_span_kl_agrees_with_a_loop_over_rows_without_their_padding() -> None:
    student, teacher = random(3, 5, 2), random(3, 5, 2, seed=1)
    rows = []
    for row, length in enumerate([5, 2, 3]):
        for end in (0, 1):
            p = (teacher[row, :length, end] / 2).exp() / (teacher[row, :length, end] / 2).exp().sum()
            q = (student[row, :length, end] / 2).exp() / (student[row, :length, end] / 2).exp().sum()
            rows.append(4 * (p * (p / q).log()).sum())
    torch.testing.assert_close(span_kl(student, teacher, MASK, 2.0), torch.stack(rows).mean())


def test_score_mse_is_the_mean_squared_difference_of_either_shape() -> None:
    student, teacher = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 2.0])
    assert score_mse(student, teacher).item() == 2.0
    assert score_mse(student[:, None], teacher[:, None]).item() == 2.0


@pytest.mark.parametrize("name", MATCHINGS)
@pytest.mark.parametrize("temperature", [1.0, 2.0, 7.0])
def test_two_models_that_agree_have_no_loss_and_no_gradient(name: str, temperature: float) -> None:
    shape, matching = MATCHINGS[name]
    student = random(*shape).requires_grad_()
    loss = matching(student, student.detach().clone(), temperature)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-14)
    assert student.grad is not None
    assert student.grad.abs().max().item() < 1e-14


@pytest.mark.parametrize("name", MATCHINGS)
def test_two_models_that_differ_have_a_positive_loss(name: str) -> None:
    shape, matching = MATCHINGS[name]
    assert matching(random(*shape), random(*shape, seed=1), 2.0).item() > 0.01


@pytest.mark.parametrize("name", ["class_kl", "multi_label_kl", "span_kl"])
def test_the_kl_scales_with_the_square_of_the_temperature(name: str) -> None:
    shape, matching = MATCHINGS[name]
    student, teacher = random(*shape), random(*shape, seed=1)
    torch.testing.assert_close(matching(5 * student, 5 * teacher, 5.0), 25 * matching(student, teacher, 1.0))


def test_at_a_high_temperature_the_kl_approaches_half_the_variance_of_the_logit_differences() -> None:
    # T^2 KL -> var(z_s - z_t) / 2 over the classes: why T^2 keeps the size of the gradients.
    student, teacher = random(1, 4), random(1, 4, seed=1)
    expected = (student - teacher).var(unbiased=False) / 2
    torch.testing.assert_close(class_kl(student, teacher, 1e4), expected, rtol=1e-3, atol=0)


def test_the_kl_over_a_single_class_is_refused() -> None:
    with pytest.raises(ValueError, match=r"class_kl: expected two classes or more, got one logit a row.*score_mse"):
        class_kl(random(3, 1), random(3, 1))


@pytest.mark.parametrize("name", MATCHINGS)
def test_logits_of_different_shapes_are_refused(name: str) -> None:
    shape, matching = MATCHINGS[name]
    with pytest.raises(
        ValueError, match=rf"{name}: expected logits of one shape, .*; do both models have the same labels"
    ):
        matching(random(*shape), random(*shape[:-1], shape[-1] + 1), 2.0)


# --- prediction losses ----------------------------------------------------------------------------------------


def test_class_loss_is_the_cross_entropy_over_labelled_rows() -> None:
    logits, labels = random(3, 4), torch.tensor([2, -100, 0])
    torch.testing.assert_close(class_loss(logits, labels), F.cross_entropy(logits, labels))
    torch.testing.assert_close(class_loss(logits, labels, torch.tensor(4.0)), F.cross_entropy(logits, labels) / 2)


def test_multi_label_loss_is_the_binary_cross_entropy_for_labels_of_any_type() -> None:
    logits = random(3, 4)
    expected = F.binary_cross_entropy_with_logits(logits, LABEL_SETS.double())
    for labels in (LABEL_SETS, LABEL_SETS.long(), LABEL_SETS.bool()):
        torch.testing.assert_close(multi_label_loss(logits, labels), expected)


def test_score_loss_does_not_broadcast_a_column_against_a_row() -> None:
    scores, labels = torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 4.0])
    assert score_loss(scores, labels).item() == 2.0


def test_span_loss_agrees_with_a_loop_over_rows_without_their_padding() -> None:
    logits = random(3, 5, 2)
    rows = []
    for row, length in enumerate([5, 2, 3]):
        real = logits[row, :length]
        rows += [F.cross_entropy(real[:, 0], STARTS[row]), F.cross_entropy(real[:, 1], ENDS[row])]
    torch.testing.assert_close(span_loss(logits, STARTS, ENDS, MASK), torch.stack(rows).mean())


def test_the_distillation_loss_weighs_its_three_parts() -> None:
    loss = distillation_loss(torch.tensor(1.0), torch.tensor(2.0), torch.tensor(3.0), kl_alpha=10, mse_alpha=100)
    assert loss.item() == 321.0


# --- precision ------------------------------------------------------------------------------------------------

LOSSES_OF_LOGITS = {
    "mse_layer_loss": ((3, 5, 2), lambda s, t: mse_layer_loss(s, t, MASK)),
    "class_kl": ((3, 4), lambda s, t: class_kl(s, t, 2.0)),
    "multi_label_kl": ((3, 4), lambda s, t: multi_label_kl(s, t, 2.0)),
    "score_mse": ((3, 1), score_mse),
    "span_kl": ((3, 5, 2), lambda s, t: span_kl(s, t, MASK, 2.0)),
    "class_loss": ((3, 4), lambda s, t: class_loss(s, CLASSES)),
    "multi_label_loss": ((3, 4), lambda s, t: multi_label_loss(s, LABEL_SETS)),
    "score_loss": ((3, 1), lambda s, t: score_loss(s, torch.tensor([0.1, 0.2, 0.3]))),
    "span_loss": ((3, 5, 2), lambda s, t: span_loss(s, STARTS, ENDS, MASK)),
}


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", LOSSES_OF_LOGITS)
def test_half_precision_is_computed_in_float32(name: str, half: torch.dtype) -> None:
    shape, loss = LOSSES_OF_LOGITS[name]
    student, teacher = random(*shape, dtype=half), random(*shape, seed=1, dtype=half)
    low = loss(student, teacher)
    assert low.dtype == torch.float32
    assert torch.equal(low, loss(student.float(), teacher.float()))
    assert bool(torch.isfinite(low))


@pytest.mark.parametrize("name", LOSSES_OF_LOGITS)
def test_float64_stays_float64(name: str) -> None:
    shape, loss = LOSSES_OF_LOGITS[name]
    student = random(*shape).requires_grad_()
    value = loss(student, random(*shape, seed=1))
    assert value.dtype == torch.float64
    assert torch.autograd.gradcheck(lambda tensor: loss(tensor, random(*shape, seed=1)), student)


@pytest.mark.parametrize("name", ["class_kl", "multi_label_kl", "span_kl"])
def test_a_teacher_that_is_certain_gives_a_finite_loss_and_gradient(name: str) -> None:
    shape, matching = MATCHINGS[name]
    student = random(*shape, dtype=torch.float32).requires_grad_()
    loss = matching(student, 1e4 * random(*shape, seed=1, dtype=torch.float32), 1.0)
    loss.backward()
    assert student.grad is not None
    assert bool(torch.isfinite(loss))
    assert bool(torch.isfinite(student.grad).all())


@pytest.mark.parametrize("temperature", [0.25, 0.5])
def test_a_temperature_below_one_leaves_the_span_kl_finite(temperature: float) -> None:
    student = random(3, 5, 2, dtype=torch.float32).requires_grad_()
    loss = span_kl(student, random(3, 5, 2, seed=1, dtype=torch.float32), MASK, temperature)
    loss.backward()
    assert student.grad is not None
    assert bool(torch.isfinite(loss))
    assert bool(torch.isfinite(student.grad).all())
