"""The load that a replica carries is learned from the latencies at measured loads."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.recommend.predictive.latency_load_model import LoadLine
from tests.laws import LAW

FORGET = 15.0 / 3600.0


def learned_line(saturation: float, idle_s: float, loads: list[float], prior_s: float = 0.1) -> LoadLine:
    """Return the line after ticks of an ideal shared processor that saturates at `saturation`."""
    line = LoadLine.prior(prior_s)
    for load in loads:
        line = line.learn(load, idle_s / max(1e-3, 1.0 - load / saturation), FORGET)
    return line


LOADS = [0.1 + 0.4 * (k % 7) / 7 for k in range(200)]


@pytest.mark.parametrize("saturation", [0.6, 1.0, 1.8], ids=["slower", "as given", "faster"])
def test_saturation_is_learned_from_any_prior(saturation: float) -> None:
    line = learned_line(saturation, 0.08, [min(load, 0.9 * saturation) for load in LOADS])
    assert line.saturation == pytest.approx(saturation, rel=0.06)
    assert line.limit(0.8) == pytest.approx(saturation * 0.9, rel=0.06)


def test_idle_latency_is_learned_in_20_ticks_from_a_wrong_prior() -> None:
    line = learned_line(1.0, 0.01, LOADS[:20], prior_s=0.03)
    assert 1.0 / line.pace == pytest.approx(0.01, rel=0.2)


@pytest.mark.parametrize("saturation", [0.2, 0.4, 2.5], ids=["a fifth", "two fifths", "two and a half"])
def test_wrong_prior_is_corrected_by_loads_around_the_saturation(saturation: float) -> None:
    """Loads beyond the estimated saturation correct the saturation, and do not drive the pace to zero."""
    line = learned_line(saturation, 0.014, [saturation * (0.4 + load) for load in 2 * LOADS], prior_s=0.01)
    assert line.saturation == pytest.approx(saturation, rel=0.1)
    assert line.idle_s == pytest.approx(0.014, rel=0.15)


def test_load_beyond_the_estimated_saturation_corrects_only_that() -> None:
    line = LoadLine.prior(0.1)
    after = line.learn(3.0, 0.2, FORGET)
    assert after.pace == pytest.approx(line.pace)
    assert after.saturation > 1.5


def test_standing_queue_teaches_the_saturation() -> None:
    line = LoadLine.prior(0.1)
    for _ in range(12):
        line = line.saturated(0.3, FORGET, 0.25)
    assert line.saturation == pytest.approx(0.3, rel=0.15)
    assert line.idle_s == LoadLine.prior(0.1).idle_s


def test_uncertainty_falls_with_each_learned_tick() -> None:
    line = LoadLine.prior(0.1)
    before = line.uncertainty(0.9)
    for load in LOADS[:40]:
        after = line.learn(load, 0.1 / (1.0 - load), FORGET)
        assert after.uncertainty(0.9) <= line.uncertainty(0.9) * (1.0 + FORGET)
        line = after
    assert line.uncertainty(0.9) < before / 2


def test_single_outlier_hardly_moves_the_saturation() -> None:
    line = learned_line(1.0, 0.1, LOADS)
    assert line.learn(0.3, 60.0, FORGET).saturation == pytest.approx(line.saturation, rel=0.1)
    assert line.learn(0.3, 0.001, FORGET).saturation == pytest.approx(line.saturation, rel=0.1)


def test_drift_of_the_saturation_is_followed_within_hours() -> None:
    line = learned_line(1.0, 0.1, LOADS)
    for load in 4 * LOADS:
        line = line.learn(load * 0.6, 0.1 / (1.0 - load), FORGET)  # the same slowdown at 60 % of the load
    assert line.saturation == pytest.approx(0.6, rel=0.1)


@LAW
@given(
    st.lists(st.tuples(st.floats(0.0, 3.0), st.floats(1e-4, 100.0), st.floats(0.0, 1.0)), min_size=1, max_size=60),
    st.floats(0.0, 0.5),
)
def test_learned_line_stays_finite_and_within_eight_times_the_prior(
    ticks: list[tuple[float, float, float]], forget: float
) -> None:
    line = LoadLine.prior(0.1)
    for load, latency_s, weight in ticks:
        line = line.learn(load, latency_s, forget, weight)
        assert all(
            math.isfinite(v)
            for v in (line.pace, line.saturation, line.pace_variance, line.covariance, line.saturation_variance)
        )
        assert 0.125 - 1e-9 <= line.saturation <= 8.0 + 1e-9
        assert line.pace_variance > 0
        assert line.saturation_variance > 0
        assert line.pace_variance * line.saturation_variance >= line.covariance**2 * (1 - 1e-6)
        assert LoadLine.from_memory("x", line.memory("x"), 1.0) == line
