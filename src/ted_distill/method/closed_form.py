"""Filters in closed form: the identity in the scale of the states, and ridge regression from one model to another.

Both need only means and covariances of hidden states over real tokens, which `TokenSums` adds up batch by batch.

Shapes: N tokens, D width of the states, E width of the targets, F filter width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import InputError

RIDGE = 1e-2
"""Default strength of the ridge, in units of the states' mean variance."""
ROUNDING_ERROR = 1e-10
"""The variance that equal states may seem to have, in units of their mean square: differences of sums are not exact."""


class TokenSums:
    """Means and covariances of states (N, D), and optionally of targets (N, E), from sums in float64.

    Nothing but the sums is kept: D * (D + E) numbers, however many tokens there are.
    """

    def __init__(self) -> None:
        self.count = 0
        self._states = self._squares = self._targets = self._products = torch.zeros(())

    def add(self, states: Tensor, targets: Tensor | None = None) -> None:
        """Count in the tokens of a batch.

        Args:
            states: (N, D) of real tokens only.
            targets: (N, E) of the same tokens.
        """
        states = in_float64(states)
        self.count += len(states)
        self._states = self._states.to(states.device) + states.sum(dim=0)
        self._squares = self._squares.to(states.device) + states.T @ states
        if targets is not None:
            targets = in_float64(targets).to(states.device)
            self._targets = self._targets.to(states.device) + targets.sum(dim=0)
            self._products = self._products.to(states.device) + states.T @ targets

    @property
    def mean(self) -> Tensor:
        """(D,) mean of the states.

        Raises:
            ValueError: no token was counted.
        """
        self._require_tokens()
        return self._states / self.count

    @property
    def covariance(self) -> Tensor:
        """(D, D) covariance of the states."""
        return self._squares / self.count - torch.outer(self.mean, self.mean)

    @property
    def target_mean(self) -> Tensor:
        """(E,) mean of the targets."""
        self._require_tokens()
        return self._targets / self.count

    @property
    def target_covariance(self) -> Tensor:
        """(D, E) covariance of states and targets."""
        return self._products / self.count - torch.outer(self.mean, self.target_mean)

    @property
    def rounding_error(self) -> float:
        """The mean variance that equal states may seem to have."""
        return float(self._squares.diagonal().mean()) / self.count * ROUNDING_ERROR

    def _require_tokens(self) -> None:
        if not self.count:
            raise ValueError("expected at least one real token, got none: their mean is undefined, not 0")


def scaled_identity(sums: TokenSums, filter_output_dim: int) -> nn.Linear:
    """`(h - mean) / sigma`: states of mean 0 and mean variance 1 that are otherwise as they were.

    `sigma^2` is the variance of what is kept, averaged over F. With F below D, that is the F directions in which the
    states vary most (principal components).

    Raises:
        InputError: F above D, or states that are the same for every token.
    """
    covariance, width = sums.covariance, len(sums.mean)
    if filter_output_dim > width:
        raise InputError(
            f"filter_init: expected a filter_output_dim of at most {width}, the width of the states, with scaled, got "
            f"{filter_output_dim}; choose normal or a smaller filter_output_dim"
        )
    if filter_output_dim == width:
        kept, variance = torch.eye(width).to(covariance), covariance.diagonal().mean()
    else:
        variances, directions = torch.linalg.eigh(covariance)
        kept, variance = directions[:, -filter_output_dim:].T, variances[-filter_output_dim:].mean()
    if not variance > sums.rounding_error:
        raise InputError(
            "filter_init: expected hidden states that differ from token to token, got the same for all; check the model"
        )
    weight = kept / variance.sqrt()
    return _linear(weight, -weight @ sums.mean)


def least_squares(sums: TokenSums, ridge: float = RIDGE) -> nn.Linear:
    """The linear map from states to targets of the smallest squared error, with a ridge on its weight, not its bias.

    Minimises `mean |W h + b - y|^2 + ridge * v * |W|^2`, where `v` is the mean variance of the states.

    Args:
        ridge: above 0 where the states are linearly dependent.

    Raises:
        InputError: states that are the same for every token.
    """
    covariance = sums.covariance
    variance = covariance.diagonal().mean()
    if not variance > sums.rounding_error:
        raise InputError(
            "student_filters: expected hidden states that differ from token to token, got the same for all; check the "
            "student"
        )
    penalty = ridge * variance * torch.eye(len(covariance)).to(covariance)
    weight = torch.linalg.solve(covariance + penalty, sums.target_covariance).T
    return _linear(weight, sums.target_mean - weight @ sums.mean)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A float32 layer on the CPU with these weights."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


def in_float64(tensor: Tensor) -> Tensor:
    """Without a graph, in float64, on the CPU where the device has no such type."""
    return tensor.detach().to("cpu" if tensor.device.type == "mps" else tensor.device).double()
