"""Filters in closed form, against numpy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from torch import Tensor

from ted_distill.errors import InputError
from ted_distill.method.closed_form import TokenSums, least_squares, scaled_identity


def correlated_states(tokens: int = 400, width: int = 12, seed: int = 0) -> Tensor:
    """States with different means and variances, far from 0, that depend on each other."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator) * torch.linspace(0.1, 5, width)
    return torch.randn(tokens, width, generator=generator) @ mixing + torch.linspace(-20, 30, width)


def sums_of(states: Tensor, targets: Tensor | None = None, batch: int = 64) -> TokenSums:
    sums = TokenSums()
    for start in range(0, len(states), batch):
        part = slice(start, start + batch)
        sums.add(states[part], None if targets is None else targets[part])
    return sums


def test_sums_over_batches_are_the_means_and_covariances_of_all_tokens() -> None:
    states, targets = correlated_states(), correlated_states(width=5, seed=1)
    sums = sums_of(states, targets)
    both = np.cov(np.hstack([states.numpy(), targets.numpy()]).astype(np.float64), rowvar=False, bias=True)
    np.testing.assert_allclose(sums.mean, states.double().mean(0), rtol=1e-12)
    np.testing.assert_allclose(sums.target_mean, targets.double().mean(0), rtol=1e-12)
    np.testing.assert_allclose(sums.covariance, both[:12, :12], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(sums.target_covariance, both[:12, 12:], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("width", [12, 5, 1])
def test_states_after_the_scaled_identity_have_mean_0_and_mean_variance_1(width: int) -> None:
    states = correlated_states()
    filtered = scaled_identity(sums_of(states), width)(states).detach().double()
    assert filtered.shape == (400, width)
    torch.testing.assert_close(filtered.mean(0), torch.zeros(width).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(filtered.var(0, correction=0).mean(), torch.tensor(1.0).double(), atol=1e-5, rtol=0)


def test_the_scaled_identity_of_full_width_keeps_every_direction_as_it_is() -> None:
    states = correlated_states()
    weight = scaled_identity(sums_of(states), 12).weight
    torch.testing.assert_close(weight, weight[0, 0] * torch.eye(12))


def test_a_narrower_scaled_identity_keeps_the_principal_components() -> None:
    states = correlated_states()
    filtered = scaled_identity(sums_of(states), 4)(states).detach().double().numpy()
    expected = PCA(n_components=4).fit_transform(states.double().numpy())
    correlations = np.abs(np.corrcoef(filtered, expected, rowvar=False)[:4, 4:])
    np.testing.assert_allclose(np.sort(correlations.max(axis=1)), np.ones(4), atol=1e-6)


def test_a_scaled_identity_wider_than_the_states_is_refused() -> None:
    with pytest.raises(InputError, match="at most 12"):
        scaled_identity(sums_of(correlated_states()), 13)


@pytest.mark.parametrize("ridge", [1e-3, 1e-2, 1.0])
def test_least_squares_is_scikit_learns_ridge(ridge: float) -> None:
    states, targets = correlated_states(), correlated_states(width=7, seed=1) + correlated_states()[:, :7] ** 2 / 50
    layer = least_squares(sums_of(states, targets), ridge)
    variance = states.double().var(0, correction=0).mean().item()
    expected = Ridge(alpha=ridge * variance * len(states)).fit(states.double().numpy(), targets.double().numpy())
    np.testing.assert_allclose(layer.weight.detach(), expected.coef_, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.bias.detach(), expected.intercept_, rtol=1e-4, atol=1e-3)


def test_least_squares_without_a_ridge_leaves_the_residual_of_numpy() -> None:
    states, targets = correlated_states(), correlated_states(width=20, seed=2)
    layer = least_squares(sums_of(states, targets), ridge=0.0)
    with_bias = np.hstack([states.double().numpy(), np.ones((400, 1))])
    _, residuals, rank, _ = np.linalg.lstsq(with_bias, targets.double().numpy(), rcond=None)
    assert rank == 13
    left = (layer(states) - targets).detach().double().square().sum(dim=0)
    np.testing.assert_allclose(left, residuals, rtol=1e-4)


def test_states_that_are_all_the_same_are_refused() -> None:
    states = torch.full((1000, 4), 0.1)
    with pytest.raises(InputError, match="same for all"):
        scaled_identity(sums_of(states), 4)
    with pytest.raises(InputError, match="same for all"):
        least_squares(sums_of(states, states))


def test_no_token_at_all_is_an_error_and_not_a_mean_of_0() -> None:
    with pytest.raises(ValueError, match="at least one real token"):
        _ = TokenSums().mean
