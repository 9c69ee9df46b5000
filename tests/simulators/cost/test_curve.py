"""Load-duration curves: by hand, and invariants of all curves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.cost.curve import curve

SIZES = st.lists(st.integers(0, 12), min_size=1, max_size=40)


def test_shares_are_the_fraction_of_time_each_replica_was_held() -> None:
    result = curve(np.array([1.0, 3.0, 2.0]), np.array([5.0, 1.0, 4.0]))
    assert result.shares.tolist() == pytest.approx([1.0, 0.5, 0.1])
    assert result.maximum == 3
    assert (result.mean, result.seen_h) == pytest.approx((1.6, 10 / 3600))
    assert [result.held_above(share) for share in (0.0, 0.1, 0.4, 0.5, 0.99)] == [3, 2, 2, 1, 1]


def test_unobserved_time_is_excluded_rather_than_counted_as_zero() -> None:
    observed = curve(np.array([2.0, np.nan, 2.0]), np.array([1.0, 100.0, 1.0]))
    assert observed.shares.tolist() == [1.0, 1.0]
    assert observed.seen_h == pytest.approx(2 / 3600)
    assert curve(np.array([np.nan]), np.array([9.0])).maximum == 0


def test_a_fractional_replica_counts_as_a_fraction() -> None:
    assert curve(np.array([1.25]), np.array([1.0])).shares.tolist() == pytest.approx([1.0, 0.25])


@given(SIZES)
def test_curve_area_equals_the_mean_and_shares_decrease(sizes: list[int]) -> None:
    over_s = np.arange(1.0, len(sizes) + 1)
    result = curve(np.array(sizes, np.float64), over_s)
    assert result.mean == pytest.approx(float(np.average(sizes, weights=over_s)))
    assert result.maximum == max(sizes)
    assert (np.diff(result.shares) <= 1e-12).all()


@given(SIZES, st.sampled_from([0.25, 0.5, 0.8, 1.0, 1.5, 2.0]))
def test_scaling_the_load_scales_the_curve_area(sizes: list[int], factor: float) -> None:
    held, over_s = np.array(sizes, np.float64), np.ones(len(sizes))
    stretched, direct = curve(held, over_s).scaled(factor), curve(held * factor, over_s)
    assert stretched.mean == pytest.approx(direct.mean)
    assert stretched.shares.tolist() == pytest.approx(direct.shares.tolist(), abs=1e-9)
