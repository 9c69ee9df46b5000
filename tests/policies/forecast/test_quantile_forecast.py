"""Laws of a quantile forecast for any recorded values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from policies.forecast.quantile_forecast import Forecast, QuantileForecast
from policies.forecast.seasonal import DAILY, WEEKLY, EarlierDays
from tests.laws import law
from tests.policies.forecast.processes import START, STEP_S, days, forecast_of, note, poisson, ramp, walk

QS = (0.05, 0.25, 0.5, 0.6, 0.75, 0.8, 0.9, 0.93, 0.95, 0.97, 0.99, 0.999)
HORIZONS_S = (10.0, 30.0, 45.0, 90.0, 120.0, 300.0, 500.0, 900.0, 1800.0, 3600.0)
demand = st.lists(
    st.one_of(st.none(), st.floats(0.0, 1e6), st.sampled_from([0.0, 1.0, 1e-9, 50.0])), min_size=1, max_size=80
)
LAW = law(25)


@pytest.mark.slow
@given(demand)
@LAW
def test_quantiles_are_nonnegative_and_ordered_unless_blind(
    values: Sequence[float | None],
) -> None:
    forecast = forecast_of(values)
    blind = all(v is None for v in values)
    for quantiles in (forecast.at(HORIZONS_S, QS), np.array([forecast.peaks(h, QS) for h in HORIZONS_S])):
        assert np.isnan(quantiles).all() if blind else (quantiles >= 0.0).all()
        assert blind or (np.diff(quantiles, axis=1) >= 0.0).all()


@given(demand)
@LAW
def test_longer_horizon_has_no_smaller_peak(values: Sequence[float | None]) -> None:
    forecast = forecast_of([*values, 1.0])
    peaks = np.array([forecast.peaks(h, QS) for h in HORIZONS_S])
    assert (np.diff(peaks, axis=0) >= -1e-9 * peaks[1:]).all()


@pytest.mark.slow
@pytest.mark.parametrize("made", [poisson(1, 700), walk(2, 700), ramp(3, 700)], ids=["steady", "walk", "ramp"])
def test_interval_widens_with_the_horizon(made: NDArray[np.float64]) -> None:
    low, high = forecast_of(made).at(HORIZONS_S, (0.05, 0.95)).T
    assert (np.diff(high - low) >= 0.0).all()


@pytest.mark.slow
@pytest.mark.parametrize("made", [poisson(1, 400), walk(2, 400), ramp(3, 400)], ids=["steady", "walk", "ramp"])
def test_single_and_batched_queries_agree(made: NDArray[np.float64]) -> None:
    forecast = forecast_of(made)
    for h in HORIZONS_S:
        assert forecast.peaks(h, QS).tolist() == [forecast.peak(h, q).value for q in QS]
    assert forecast.at(HORIZONS_S, (0.9,))[:, 0].tolist() == [forecast.at(h, 0.9)[0, 0] for h in HORIZONS_S]


@given(demand, st.sampled_from([2.0**-12, 0.5, 4.0, 2.0**20]))
@LAW
def test_forecast_scales_with_the_unit_of_demand(values: Sequence[float | None], factor: float) -> None:
    plain = forecast_of(values)
    scaled = forecast_of([None if v is None else factor * v for v in values])
    assert np.allclose(scaled.at(HORIZONS_S, QS), factor * plain.at(HORIZONS_S, QS), rtol=1e-6, equal_nan=True)
    assert np.allclose(scaled.peaks(300, QS), factor * plain.peaks(300, QS), rtol=1e-6, equal_nan=True)


@pytest.mark.slow
def test_forecast_is_deterministic_and_queries_do_not_change_it() -> None:
    values = poisson(1, 300)
    quiet, queried = QuantileForecast(STEP_S), QuantileForecast(STEP_S)
    for i, value in enumerate(values):
        for forecast in (quiet, queried):
            forecast.note(START + STEP_S * i, value)
        first = queried.peak(90, 0.9)
        queried.at([60, 300], [0.5, 0.9])
        assert queried.peak(90, 0.9) == first
    assert queried.peak(300, 0.95) == quiet.peak(300, 0.95)
    assert np.array_equal(queried.at(HORIZONS_S, QS), quiet.at(HORIZONS_S, QS))


@pytest.mark.slow
def test_queries_do_not_change_the_forecast_in_missed_or_repeated_ticks() -> None:
    """With seasons: the cached earlier days do not depend on the queries between ticks."""
    past, ticks = days(12, 3, 300.0), np.random.default_rng(13).integers(0, 3, 200)
    quiet, queried = QuantileForecast(60.0), QuantileForecast(60.0)
    for forecast in (quiet, queried):
        forecast.seed(START + 300.0 * np.arange(len(past)), past)
    for i, times in enumerate(ticks):
        at = START + 3 * 86_400.0 + 60.0 * i
        for k in range(max(1, times)):
            for forecast in (quiet, queried):
                forecast.note(at + k, 3.0 + i % 7 + k if times else None)
            queried.peak(300, 0.9)
    assert np.array_equal(queried.at(HORIZONS_S, QS), quiet.at(HORIZONS_S, QS))


def test_forecast_is_nan_before_the_first_observation() -> None:
    peak = QuantileForecast(STEP_S).peak(300, 0.9)
    assert math.isnan(peak.value)
    assert math.isnan(peak.mean)
    assert (peak.leader, peak.confidence) == ("reactive", 0.0)
    assert peak.reason == "reactive: no demand was observed yet"


def test_cold_start_is_reactive_and_gives_the_reason() -> None:
    peak = forecast_of([2.0, 2.0]).peak(300, 0.9)
    assert peak.leader == "reactive"
    assert "too few past forecasts" in peak.reason
    assert 2.0 <= peak.value < 4.0
    assert peak.confidence < 0.5


def test_confidence_falls_beyond_the_largest_residual() -> None:
    """n residuals cover quantiles up to n/(n+1); beyond that the tail applies, with falling confidence."""
    forecast = forecast_of(poisson(1, 240))
    confidence = [forecast.peak(60, q).confidence for q in (0.5, 0.9, 0.99, 0.999)]
    assert confidence[:2] == [1.0, 1.0]
    assert 0.0 < confidence[3] < confidence[2] < 1.0
    values = forecast.peaks(60, (0.9, 0.99, 0.999))
    assert values[0] < values[1] < values[2], "the tail continues beyond the largest residual"


@pytest.mark.parametrize("bad", [-1.0, math.inf, -math.inf])
def test_negative_or_infinite_values_raise_value_error(bad: float) -> None:
    forecast = forecast_of([1.0, 2.0])
    before = forecast.peak(60, 0.9)
    with pytest.raises(ValueError, match="finite and not negative"):
        forecast.note(START + 100, bad)
    with pytest.raises(ValueError, match="finite and not negative"):
        forecast.seed([START + 100, START + 115], [1.0, bad])
    assert forecast.peak(60, 0.9) == before


@pytest.mark.parametrize("q", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_quantile_outside_zero_to_one_raises_value_error(q: float) -> None:
    forecast = forecast_of([1.0])
    with pytest.raises(ValueError, match="between 0 and 1"):
        forecast.peak(60, q)
    with pytest.raises(ValueError, match="between 0 and 1"):
        forecast.peaks(60, [0.5, q])
    with pytest.raises(ValueError, match="between 0 and 1"):
        forecast.at([60], [q])


@pytest.mark.parametrize("horizon_s", [0.0, -15.0, math.nan, math.inf])
def test_horizon_that_is_not_positive_and_finite_raises_value_error(horizon_s: float) -> None:
    forecast = forecast_of([1.0])
    with pytest.raises(ValueError, match="horizon"):
        forecast.peak(horizon_s, 0.9)
    with pytest.raises(ValueError, match="horizon"):
        forecast.at([60, horizon_s], 0.9)


@pytest.mark.parametrize("missed", [None, math.nan], ids=["none", "not-a-number"])
def test_missed_ticks_do_not_move_the_forecast(missed: float | None) -> None:
    """A gap adds no residual and no level: the forecast stays the same."""
    forecast = forecast_of(poisson(4, 200))
    before = forecast.peak(90, 0.9)
    note(forecast, [missed] * 3, 200)
    assert forecast.peak(90, 0.9).mean == pytest.approx(before.mean, rel=0.05)
    assert forecast.peak(90, 0.9).value == pytest.approx(before.value, rel=0.1)


@pytest.mark.slow
def test_gaps_are_not_zeros() -> None:
    """With every third tick missed, the level and the spread are those of the other ticks."""
    values: list[float | None] = list(poisson(5, 900))
    whole = forecast_of(values).peak(90, 0.9).value
    values[::3] = [None] * len(values[::3])
    assert forecast_of(values).peak(90, 0.9).value == pytest.approx(whole, rel=0.1)


@pytest.mark.slow
def test_long_gap_keeps_the_seasons_and_is_blind_until_the_next_value() -> None:
    forecast = forecast_of(days(6, 3, 60.0), 60.0)
    after = 3 * 1440 + 600  # ten hours without readings, until 10:00
    note(forecast, [None], after, 60.0)
    assert math.isnan(forecast.peak(300, 0.9).value)
    assert "no demand was observed recently" in forecast.peak(300, 0.9).reason
    note(forecast, [12.9], after + 1, 60.0)
    assert 12.0 < forecast.peak(300, 0.9).value < 30.0


def test_out_of_order_value_is_dropped() -> None:
    forecast = forecast_of(poisson(7, 50))
    before = forecast.peak(90, 0.9)
    forecast.note(START, 1e6)
    assert forecast.peak(90, 0.9) == before


def test_quantiles_read_before_are_those_of_the_newest_value() -> None:
    read, unread = forecast_of(poisson(2, 60)), forecast_of(poisson(2, 60))
    for i, value in enumerate((4.0, None, 9.0), start=60):
        read.peaks(300, QS)[:] = np.nan  # the caller owns the array
        with pytest.raises(ValueError, match="quantiles"):
            read.at(300, 1.0)
        for forecast in (read, unread):
            forecast.note(START + STEP_S * i, value)
    assert np.array_equal(read.peaks(300, QS), unread.peaks(300, QS))
    assert np.array_equal(read.peaks(60, QS), unread.peaks(60, QS))


def test_values_in_the_same_tick_count_as_their_mean() -> None:
    once, twice = forecast_of([1.0] * 9), forecast_of([1.0] * 9)
    once.note(START + 9 * STEP_S, 3.0)
    twice.note(START + 9 * STEP_S, 2.0)
    twice.note(START + 9 * STEP_S + 3.0, 4.0)
    assert once.peak(60, 0.5).mean == twice.peak(60, 0.5).mean == 3.0


@pytest.mark.slow
@pytest.mark.parametrize("jump_s", [3600.0, -7200.0, 0.4])
def test_clock_jump_does_not_change_the_forecast(jump_s: float) -> None:
    values = poisson(8, 400)
    steady, jumped = forecast_of(values[:200]), forecast_of(values[:200])
    jumped.shift(jump_s)
    note(steady, values[200:], 200)
    for i, value in enumerate(values[200:]):
        jumped.note(START + jump_s + STEP_S * (200 + i), value)
    assert jumped.peak(300, 0.9) == steady.peak(300, 0.9)


@pytest.mark.slow
@pytest.mark.parametrize("learn_s", [0.0, 4 * 3600.0])
def test_seeded_history_equals_an_observed_one(learn_s: float) -> None:
    values = poisson(9, 240)
    at = START + STEP_S * np.arange(240)
    seeded = QuantileForecast(STEP_S)
    seeded.seed(at, values, max(learn_s, 3700.0))
    assert seeded.peak(300, 0.9) == forecast_of(values).peak(300, 0.9)


def test_seeded_weeks_provide_the_seasons_at_once() -> None:
    """Five-minute means of two weeks, as Prometheus retains them."""
    past = days(10, 14.375, 300.0)  # until 09:00, when the load doubles within the hour
    forecast = QuantileForecast(STEP_S)
    forecast.seed(START + 300.0 * np.arange(len(past)), past)
    seasons = EarlierDays(forecast.series, np.array([1800.0])).seasons(float(past.mean()))
    assert seasons[0, DAILY] > 1.25
    assert seasons[0, WEEKLY] > 1.25


@pytest.mark.slow
@pytest.mark.parametrize("step_s", [1.0, 15.0, 60.0])
def test_forecast_memory_is_bounded(step_s: float) -> None:
    forecast = QuantileForecast(step_s)
    assert size_of(forecast) < 125_000
    arrays = size_of(forecast)
    note(forecast, np.ones(300), 0, step_s)
    assert size_of(forecast) == arrays


def size_of(forecast: QuantileForecast) -> int:
    """Return the bytes of all arrays in a forecast, without the cached candidates' forecasts."""
    arrays: dict[int, int] = {}
    parts: list[object] = [forecast]
    while parts:
        part = parts.pop()
        if isinstance(part, np.ndarray):
            arrays[id(part)] = part.nbytes
        names = [*getattr(part, "__dict__", {}), *getattr(type(part), "__slots__", ())]
        parts += [getattr(part, name, None) for name in names if name != "_latest"]
    return sum(arrays.values())


@pytest.mark.slow
def test_forecast_reason_names_the_leader_and_the_change() -> None:
    peak = forecast_of(ramp(11, 400)).peak(300, 0.9)
    assert isinstance(peak, Forecast)
    assert peak.reason.startswith(f"{peak.leader}: ")
    assert "lower than that of the last value at quantile 0.9 over 5 min" in peak.reason
