"""The demand record: bins, gaps, bounds, and clock jumps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.forecast.series import DemandSeries, Ring
from tests.laws import law
from tests.policies.forecast.processes import DAY_S, START

NAN = math.nan


def test_skipped_bins_are_gaps_not_zeros() -> None:
    ring = Ring(8)
    ring.put(3, 1.0)
    ring.put(6, 2.0)
    assert ring.window(5).tolist() == pytest.approx([NAN, 1.0, NAN, NAN, 2.0], nan_ok=True)


@given(st.lists(st.tuples(st.integers(0, 12), st.one_of(st.just(NAN), st.floats(0, 1e3))), max_size=40))
@law(50)
def test_ring_equals_the_tail_of_an_unbounded_record(steps: list[tuple[int, float]]) -> None:
    endless: dict[int, list[float]] = {}
    ring, place = Ring(16), 0
    for ahead, value in steps:
        place += ahead
        ring.put(place, value)
        endless.setdefault(place, []).append(value)
    expected = [[v for v in endless.get(i, []) if not math.isnan(v)] for i in range(place - 15, place + 1)]
    means = [float(np.mean(values)) if values else NAN for values in expected]
    assert ring.window(16).tolist() == pytest.approx(means, nan_ok=True)
    assert ring.at(np.arange(place - 15, place + 1)).tolist() == pytest.approx(means, nan_ok=True)
    assert np.isnan(ring.at(np.array([place - 16, place + 1]))).all()


def test_ring_actual_is_the_latest_and_largest_value_of_a_covered_span() -> None:
    ring = Ring(8)
    for place, value in enumerate([9.0, 1.0, NAN, 4.0, 2.0]):
        ring.put(place, value)
    assert ring.actual(np.array([1, 2, 4])).tolist() == [[2.0, 2.0], [2.0, 4.0], [2.0, 4.0]]
    ring.put(5, NAN)
    assert np.isnan(ring.actual(np.array([1, 2]))).all()


@pytest.mark.parametrize("late_s", [-0.4, -0.1, 0.0, 0.1, 0.4])
def test_slightly_early_or_late_ticks_have_their_own_bins(late_s: float) -> None:
    series = DemandSeries(1.0)
    for i in range(10):
        series.note(START + i + (late_s if i % 2 else 0.0), float(i))
    assert series.fine.window(10).tolist() == list(range(10))


@pytest.mark.parametrize("step_s", [0.0, -1.0, NAN, 2 * DAY_S])
def test_step_must_be_positive_and_at_most_a_day(step_s: float) -> None:
    with pytest.raises(ValueError, match="step of a series must be above 0 s"):
        DemandSeries(step_s)


@pytest.mark.parametrize("step_s", [1.0, 7.0, 15.0, 60.0, 300.0, 700.0, 3600.0])
def test_coarse_bins_divide_a_day(step_s: float) -> None:
    series = DemandSeries(step_s)
    assert series.per_day * series.coarse_step_s == pytest.approx(DAY_S)
    assert series.coarse.size == pytest.approx(15 * series.per_day, abs=1)


def test_coarse_bins_hold_means_by_time_of_day() -> None:
    series = DemandSeries(60.0)
    for i in range(10):
        series.note(START + 60.0 * i, float(i))
    now = series.coarse_indices(np.array([0.0, -300.0, 86_400.0]))
    assert series.coarse.at(now[:2]).tolist() == [7.0, 2.0]
    assert now[2] - now[0] == series.per_day


def test_seeded_values_equal_noted_values() -> None:
    noted, seeded = DemandSeries(60.0), DemandSeries(60.0)
    values = np.arange(100.0)
    at = START + 60.0 * values
    values[10:17] = NAN
    for t, value in zip(at, values, strict=True):
        noted.note(t, value)
    seeded.seed(at, values)
    assert seeded.coarse.window(30).tolist() == pytest.approx(noted.coarse.window(30).tolist(), nan_ok=True)
