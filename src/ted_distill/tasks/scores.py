"""Scores of classes and of numbers, by name; all but `mse` in percent."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from ..errors import InputError


def accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Share of rows that are right; a row with several labels is right if all of them are."""
    return float(100 * np.mean(np.all((labels == predictions).reshape(len(labels), -1), axis=1)))


def f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """F1 of class 1 against class 0."""
    return _f1(labels, predictions, "binary")


def f1_macro(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Mean of the F1 of each class."""
    return _f1(labels, predictions, "macro")


def f1_micro(labels: np.ndarray, predictions: np.ndarray) -> float:
    """F1 over all decisions of all rows and labels."""
    return _f1(labels, predictions, "micro")


def matthews_correlation(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Matthews correlation coefficient; 0 for constant predictions."""
    from sklearn.metrics import matthews_corrcoef

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "a single label was found": the coefficient is then 0
        return float(100 * matthews_corrcoef(labels, predictions))


def pearson(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Pearson correlation; 0 for constant predictions or labels, which have none."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, labels, predictions)


def spearmanr(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Spearman rank correlation; 0 for constant predictions or labels, which have none."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, labels, predictions)


def mse(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Mean squared error, in squared units of the labels."""
    return float(np.mean((labels.astype(np.float64) - predictions.astype(np.float64)) ** 2))


def softmax(logits: np.ndarray) -> np.ndarray:
    """(..., C) float64 probabilities of the last axis."""
    from scipy.special import softmax as of_scipy

    return of_scipy(logits.astype(np.float64), axis=-1)


def require_scorable(predictions: np.ndarray, num_rows: int) -> None:
    """Refuse predictions whose score would mean nothing.

    Raises:
        InputError: not one prediction per row, no rows, or predictions that are not finite.
    """
    if len(predictions) != num_rows or not num_rows:
        raise InputError(
            f"predictions: expected one per row, got {len(predictions)} for {num_rows} rows; predict on the same rows"
        )
    require_numbers(predictions)


def require_numbers(predictions: np.ndarray) -> None:
    """Raise `InputError` if a row of logits or predictions holds NaN or infinity."""
    finite = np.isfinite(predictions).reshape(len(predictions), -1).all(axis=1)
    if not finite.all():
        raise InputError(
            f"predictions: expected finite numbers, got NaN or infinity in {np.sum(~finite)} of {len(finite)} rows "
            f"(first: row {int(np.argmin(finite)) + 1}); check the training loss or try another precision"
        )


def _f1(labels: np.ndarray, predictions: np.ndarray, average: str) -> float:
    from sklearn.metrics import f1_score

    return float(100 * f1_score(labels, predictions, average=average, zero_division=0.0))


def _correlation(of: Callable, labels: np.ndarray, predictions: np.ndarray) -> float:
    labels, predictions = labels.astype(np.float64), predictions.astype(np.float64)
    if np.ptp(labels) == 0 or np.ptp(predictions) == 0:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "nearly constant": fewer digits are exact
        value = float(of(labels, predictions).statistic)
    return 100 * value if np.isfinite(value) else 0.0


SCORES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": accuracy,
    "exact_match": accuracy,
    "f1": f1,
    "f1_macro": f1_macro,
    "f1_micro": f1_micro,
    "matthews_correlation": matthews_correlation,
    "pearson": pearson,
    "spearmanr": spearmanr,
    "mse": mse,
}
"""Name -> score of (labels, predictions)."""
