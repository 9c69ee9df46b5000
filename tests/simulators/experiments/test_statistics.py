"""Intervals and tests: against worked examples, and by their coverage in simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.experiments.statistics import Floats, batch_means, holm, mean, paired, quantile_spread, warm_up

FINITE = st.floats(-1e6, 1e6)
SHARES = st.floats(0, 1)


def test_mean_half_width_matches_laws_worked_example() -> None:
    """Law, Simulation Modeling and Analysis, example 4.26: ten values, 90%: 1.34 plus or minus 0.24."""
    result = mean([1.20, 1.50, 1.68, 1.89, 0.95, 1.49, 1.58, 1.55, 0.50, 1.09], 0.90)
    assert result.mean == pytest.approx(1.343, abs=5e-4)
    assert result.half_width == pytest.approx(0.24, abs=5e-3)
    assert (result.low, result.high, result.n) == (result.mean - result.half_width, result.mean + result.half_width, 10)


@pytest.mark.slow
def test_the_interval_of_a_normal_mean_has_its_nominal_coverage() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(3, 2, (4000, 5))
    covered = sum(e.low <= 3 <= e.high for e in map(mean, values))
    assert covered / 4000 == pytest.approx(0.95, abs=0.012)


def test_one_value_has_no_interval_and_an_empty_sample_no_mean() -> None:
    assert math.isnan(mean([7.0]).half_width)
    assert mean([7.0]).mean == 7
    assert math.isnan(mean([]).mean)


def test_paired_difference_matches_students_sleep_study() -> None:
    """Student (1908): the extra sleep of ten patients under two drugs; t = 4.0621, p = 0.002833."""
    a = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    b = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    result = paired(a, b)
    assert result.estimate.mean == pytest.approx(1.58)
    assert (result.estimate.low, result.estimate.high) == pytest.approx((0.7001142, 2.4598858))
    assert result.p == pytest.approx(0.002833, abs=1e-6)


def test_constant_paired_differences_have_a_p_value_of_zero() -> None:
    assert paired([1, 2, 3], [0, 1, 2]).p == 0
    assert paired([0.3, 0.7], [0.1 + 0.2, 0.7]).p == 1
    assert paired([1, 2], [1, 2]).p == 1
    assert math.isnan(paired([1], [0]).p)
    with pytest.raises(ValueError, match="2 values cannot be paired with 1"):
        paired([1, 2], [1])


def test_pairing_removes_the_common_variation() -> None:
    rng = np.random.default_rng(2)
    shared = rng.normal(0, 100, 30)
    a, b = shared + 1 + rng.normal(0, 0.5, 30), shared + rng.normal(0, 0.5, 30)
    assert paired(a, b).p < 1e-6
    assert mean(a).half_width > 30 * paired(a, b).estimate.half_width


def test_holm_matches_the_worked_example() -> None:
    """0.01, 0.04, 0.03 and 0.005 are multiplied by 3, 1, 2 and 4, and kept monotone."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(SHARES, min_size=1, max_size=8))
def test_holm_is_between_unadjusted_and_bonferroni_and_keeps_the_order(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(a <= b <= min(1.0, len(p) * a) for a, b in zip(p, adjusted, strict=True))
    assert [adjusted[i] for i in np.argsort(p, kind="stable")] == sorted(adjusted)


def test_a_nan_p_value_is_not_counted() -> None:
    result = holm([0.03, math.nan])
    assert result[0] == 0.03
    assert math.isnan(result[1])


def test_the_range_of_five_values_covers_the_median_in_15_of_16_cases() -> None:
    result = quantile_spread([5, 1, 4, 2, 3], 0.5)
    assert (result.low, result.high) == (1, 5)
    assert result.level == pytest.approx(15 / 16)


def test_median_interval_of_twenty_uses_the_6th_and_15th_order_statistics() -> None:
    """Conover, Practical Nonparametric Statistics, table: n = 20, 95%: ranks 6 and 15, level 0.9586."""
    result = quantile_spread(list(range(1, 21)), 0.5)
    assert (result.low, result.high) == (6, 15)
    assert result.level == pytest.approx(0.9586, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("q", "n"), [(0.5, 9), (0.9, 200), (0.99, 1000)])
def test_the_interval_of_a_quantile_has_its_nominal_coverage(q: float, n: int) -> None:
    rng = np.random.default_rng(3)
    truth = -math.log(1 - q)
    spreads = [quantile_spread(row, q) for row in rng.exponential(1.0, (2000, n))]
    covered = sum(s.low <= truth <= s.high for s in spreads) / 2000
    assert covered == pytest.approx(spreads[0].level, abs=0.015)
    assert spreads[0].level >= 0.95


def test_a_quantile_of_an_empty_sample_is_nan() -> None:
    assert math.isnan(quantile_spread([], 0.5).low)
    with pytest.raises(ValueError, match="q is 1"):
        quantile_spread([1.0], 1)


@pytest.mark.slow
@given(st.lists(FINITE, min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_a_quantile_spread_contains_the_sample_quantile(values: list[float], q: float) -> None:
    result = quantile_spread(values, q)
    assert result.low <= float(np.quantile(values, q, method="inverted_cdf")) <= result.high


def test_mser_removes_the_warm_up_and_little_else() -> None:
    rng = np.random.default_rng(4)
    values = 5 + rng.normal(0, 1, 4000)
    values[:400] += np.linspace(30, 0, 400)
    assert 350 <= warm_up(values) <= 450
    assert warm_up(5 + rng.normal(0, 1, 4000)) < 400


def test_mser_detects_a_run_that_has_not_settled() -> None:
    assert warm_up(np.linspace(0, 100, 1000)) == -1
    assert warm_up([1.0] * 9) == -1


def test_mser_matches_the_textbook_formula() -> None:
    """The cut that minimizes the variance of the remaining values over their number."""
    values = np.random.default_rng(5).normal(0, 1, 200) + np.exp(-np.arange(200) / 20) * 8
    batches = values.reshape(40, 5).mean(axis=1)
    errors = [((batches[d:] - batches[d:].mean()) ** 2).sum() / (40 - d) ** 2 for d in range(35)]
    assert warm_up(values) == 5 * int(np.argmin(errors))


def autoregressive(correlation: float, length: int, count: int) -> Floats:
    """Return stationary series with mean 0, one per row, with the given lag-1 correlation."""
    noise = np.random.default_rng(6).normal(0, 1, (length, count))
    noise[0] /= math.sqrt(1 - correlation**2)
    return np.array(list(itertools.accumulate(noise, lambda previous, noise_: correlation * previous + noise_))).T


@pytest.mark.slow
def test_batch_means_cover_the_mean_of_autocorrelated_values() -> None:
    """An autoregressive series, whose plain interval would be nearly five times too narrow (rho 0.9)."""
    series = autoregressive(0.9, 8000, 300)
    result = [batch_means(values) for values in series]
    covered = sum(f is not None and f.estimate.low <= 0 <= f.estimate.high for f in result)
    naive_covered = sum(mean(values).low <= 0 <= mean(values).high for values in series)
    assert covered / 300 >= 0.91
    assert naive_covered / 300 < 0.6


def test_batches_that_are_too_short_have_a_high_lag_1_correlation() -> None:
    long, short = (
        np.median([f.lag_1 for f in map(batch_means, autoregressive(correlation, 8000, 60)) if f is not None])
        for correlation in (0.9, 0.997)
    )
    assert abs(long) < 0.2
    assert short > 0.3


def test_batch_means_are_exact_for_an_even_series_and_none_for_a_short() -> None:
    even = batch_means(np.tile([1.0, 2.0], 1000))
    assert even is not None
    assert even.estimate.mean == 1.5
    assert even.estimate.half_width == pytest.approx(0, abs=1e-12)
    assert batch_means([1.0] * 12) is None
