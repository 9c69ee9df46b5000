"""The regression learns the true line, with and without outliers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from policies.forecast.regression import RIDGE, Regression

TRUE = np.array([[0.5, 0.3, -0.2], [0.6, 0.3, 0.1]])
"""Coefficients of the value and of the largest value up to the horizon."""
HOUR_S = np.array([3600.0, 3600.0])


def samples(seed: int, count: int, noise: float) -> NDArray[np.float64]:
    """Return features and their targets, of shape (count, 3 + 2)."""
    rng = np.random.default_rng(seed)
    features = rng.normal(1.0, 0.5, (count, 3))
    return np.hstack((features, features @ TRUE.T + rng.normal(0.0, noise, (count, 2))))


def learned_coefficients(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the coefficients (2, F) of a horizon that learned these rows in order."""
    regression = Regression(3, HOUR_S)
    for row in rows:
        regression.learn(np.array([1]), row[None])
    return np.array(regression.coefficients[1])


def test_regression_recovers_the_true_coefficients() -> None:
    assert learned_coefficients(samples(1, 400, 0.01)) == pytest.approx(TRUE, abs=0.02)


def test_regression_equals_ridge_regression_with_forgetting() -> None:
    """Without outliers it equals weighted least squares over all rows."""
    rows = samples(2, 76, 0.0)
    age = np.arange(len(rows))[::-1]
    weight = 0.5 ** (age * HOUR_S[0] / (30 * 86_400.0))
    prior = np.array([1.0, 0.0, 0.0])
    features, targets = rows[:, :3], rows[:, 3:]
    moment = (features.T * weight) @ features
    change = np.linalg.solve(
        moment + RIDGE * np.eye(3), (features.T * weight) @ (targets - (features @ prior)[:, None])
    )
    assert learned_coefficients(rows) == pytest.approx(prior + change.T, rel=0.02)


def test_outliers_hardly_change_the_coefficients() -> None:
    rows = samples(3, 400, 0.01)
    rows[100::40, 3:] += 50.0
    assert learned_coefficients(rows) == pytest.approx(TRUE, abs=0.05)


def test_horizons_learn_independently() -> None:
    regression = Regression(3, HOUR_S)
    for row in samples(5, 20, 0.01):
        regression.learn(np.array([0]), row[None])
    assert regression.coefficients[1].tolist() == [[1.0, 0.0, 0.0]] * 2
    assert regression.predict(np.ones((2, 3)))[:, 1].tolist() == [1.0, 1.0]
