"""The leader for each kind of demand, and the return to the reactive candidate."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from policies.forecast.quantile_forecast import QuantileForecast
from policies.forecast.selection import LEVELS, MARGIN, REACTIVE, Selection
from tests.policies.forecast.processes import days, forecast_of, note, poisson, ramp, walk

HORIZON = np.array([0])


def selection_after(losses: list[tuple[float, float]], selection: Selection | None = None) -> Selection:
    """Return a selection after these losses of the reactive candidate and another one, at one horizon."""
    selection = selection or Selection(2, np.array([1.0]))
    for reactive, rival in losses:
        loss = np.broadcast_to(np.array([reactive, rival])[:, None], (1, 2, 2, len(LEVELS)))
        selection.note(HORIZON, loss)
    return selection


@pytest.mark.parametrize(
    ("losses", "leader"),
    [
        ([], REACTIVE),
        ([(1.0, 0.1)] * 2, REACTIVE),
        ([(1.0, 0.1)] * 5, 1),
        ([(1.0, 1.0 - MARGIN / 2)] * 50, REACTIVE),
        ([(1.0, 0.5)] * 20 + [(1.0, 1.0 - MARGIN / 2)] * 300, 1),
        ([(1.0, 0.5)] * 20 + [(1.0, 2.0)] * 40, REACTIVE),
        ([(1.0, 0.5)] * 20 + [(1.0, 2.0)] * 40 + [(1.0, 0.5)] * 100, 1),
        ([(1.0, np.nan)] * 50, REACTIVE),
        ([(0.0, 0.0)] * 50, REACTIVE),
    ],
    ids=[
        "before the first score",
        "too little evidence",
        "better on enough evidence",
        "better by less than the margin",
        "stays while it does no worse",
        "demoted when it does worse",
        "promoted again",
        "takes no part",
        "nothing to lose",
    ],
)
def test_leader_changes_with_enough_evidence_beyond_the_margin(losses: list[tuple[float, float]], leader: int) -> None:
    assert (selection_after(losses).leader == leader).all()


def test_candidate_is_scored_only_on_ticks_in_which_it_took_part() -> None:
    """A season known only later is not compared with earlier losses of the reactive candidate."""
    selection = selection_after([(9.0, np.nan)] * 20)
    assert (selection_after([(1.0, 1.5)] * 20, selection).leader == REACTIVE).all()


def leaders(
    forecast: QuantileForecast, values: NDArray[np.float64], tick: int, step_s: float, horizon_s: float
) -> Counter[str]:
    counts: Counter[str] = Counter()
    for i, value in enumerate(values):
        note(forecast, [value], tick + i, step_s)
        counts[forecast.peak(horizon_s, 0.9).leader] += 1
    return counts


@pytest.mark.slow
def test_random_walk_is_mostly_led_by_the_reactive_candidate() -> None:
    """No candidate beats the last value; others lead only by random variation."""
    counts: Counter[str] = Counter()
    for seed in (1, 2, 3):
        values = walk(seed, 700)
        counts += leaders(forecast_of(values[:300]), values[300::4], 300, 15.0, 60.0)
    assert counts.most_common(1)[0][0] == "reactive"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "expected"),
    [(poisson(4, 480), {"level", "steady", "trend", "regression"}), (ramp(5, 480), {"trend", "regression"})],
    ids=["noise about a level", "growth"],
)
def test_noise_and_growth_are_led_by_a_fitting_candidate(made: NDArray[np.float64], expected: set[str]) -> None:
    assert forecast_of(made).peak(300, 0.9).leader in expected


@pytest.mark.slow
def test_seasonal_series_promotes_a_seasonal_candidate_after_two_periods() -> None:
    values = days(6, 4.45, 300.0)
    forecast = forecast_of(values[: 288 * 2 - 10], 300.0)
    assert np.isnan(forecast.at(1800, 0.5)).sum() == 0
    means = forecast._current_forecasts().means[0]
    assert np.isnan(means[4:7]).all(), "the record covers less than two days"
    note(forecast, values[288 * 2 - 10 :], 288 * 2 - 10, 300.0)
    assert forecast.peak(1800, 0.9).leader in {"daily", "regression", "yesterday"}
    assert np.isnan(forecast._current_forecasts().means[0, 6]).all(), "the record covers less than two weeks"
