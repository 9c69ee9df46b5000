"""Weighted quantiles of residuals, with a tail."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from policies.forecast.residuals import prior, quantiles, scale

ONE = np.ones((1, 1))


def quantiles_of(
    residuals: list[float] | NDArray[np.float64], levels: list[float], weights: NDArray[np.float64] | None = None
) -> list[float]:
    row = np.array(residuals)[None, :]
    row_weights = np.ones_like(row) if weights is None else weights[None, :]
    result: list[float] = quantiles(row, row_weights, ONE, np.array(levels))[0].tolist()
    return result


def test_residual_i_of_n_is_the_quantile_i_over_n_plus_one() -> None:
    """Conformal: the next residual, exchangeable with them, falls below the i-th with exactly this probability."""
    residuals = [5.0, 1.0, 9.0, 7.0]
    assert quantiles_of(residuals, [0.2, 0.4, 0.6, 0.8]) == pytest.approx([1.0, 5.0, 7.0, 9.0])
    assert quantiles_of(residuals, [0.3, 0.5]) == pytest.approx([3.0, 6.0])


def test_tail_beyond_the_outermost_residual_is_exponential() -> None:
    """The quantiles of an exponential sample grow with the logarithm of the remaining probability."""
    n = 99
    sample = -np.log1p(-(np.arange(n) + 1.0) / (n + 1.0))
    result = quantiles_of(sample, [0.99, 0.999, 0.9999])
    assert np.diff(result) == pytest.approx(np.log(10.0), rel=0.2)
    low = quantiles_of(-sample, [0.001, 0.01])
    assert low == pytest.approx([-result[1], -result[0]], rel=0.01)


def test_single_residual_does_not_determine_the_tail() -> None:
    """The largest of 160 is random: it moves the 0.99 quantile only by its share of the mean excess."""
    sample = -np.log1p(-(np.arange(160) + 1.0) / 161.0)
    before = quantiles_of(sample, [0.9, 0.99])
    assert before[1] == pytest.approx(np.log(100.0), rel=0.05)
    sample[-1] += 10.0
    after = quantiles_of(sample, [0.9, 0.99])
    assert after[0] == before[0]
    assert 0.5 < after[1] - before[1] < 1.5


def test_residuals_of_zero_weight_are_ignored() -> None:
    weights = np.array([1.0, 1.0, 0.0, 1.0])
    assert quantiles_of([1.0, 2.0, 99.0, 3.0], [0.25, 0.5, 0.75], weights) == pytest.approx([1.0, 2.0, 3.0])


def test_nan_residuals_are_ignored() -> None:
    assert quantiles_of([np.nan, 2.0, 1.0, np.nan, 3.0], [0.25, 0.5, 0.75, 0.9]) == quantiles_of(
        [2.0, 1.0, 3.0], [0.25, 0.5, 0.75, 0.9]
    )
    assert np.isnan(quantiles_of([np.nan] * 3, [0.5, 0.9])).all()


@pytest.mark.parametrize("n", [1, 2, 5, 30])
def test_quantiles_increase_with_their_level(n: int) -> None:
    sample = np.random.default_rng(n).standard_t(2, (20, n))
    result = quantiles(sample, np.ones_like(sample), np.ones((20, 1)), np.linspace(0.001, 0.999, 300))
    assert (np.diff(result, axis=1) >= 0.0).all()


def test_prior_widens_with_the_square_root_of_time() -> None:
    near, far = prior(60.0), prior(240.0)
    assert far == pytest.approx(2.0 * near)
    assert near[0].sum() == pytest.approx(0.0)
    assert (near[1] > 0.0).all(), "the largest value up to a horizon lies above the present one"


def test_scale_grows_less_than_the_level() -> None:
    low, high = scale(np.array([1.0, 4.0]), 2.0)
    assert low < high < 4.0 * low
    assert scale(np.array([4.0, 16.0]), 8.0) == pytest.approx([4.0 * low, 4.0 * high])
