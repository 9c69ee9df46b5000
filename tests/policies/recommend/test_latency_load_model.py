"""What a replica carries is learnt from the latencies that loads came with."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.recommend.predictive.latency_load_model import LoadLine
from tests.laws import LAW

FORGET = 15.0 / 3600.0


def taught(saturation: float, idle_s: float, loads: list[float], prior_s: float = 0.1) -> LoadLine:
    """A fit after turns of an ideal shared processor that saturates at `saturation`."""
    fit = LoadLine.prior(prior_s)
    for load in loads:
        fit = fit.learn(load, idle_s / max(1e-3, 1.0 - load / saturation), FORGET)
    return fit


LOADS = [0.1 + 0.4 * (k % 7) / 7 for k in range(200)]


@pytest.mark.parametrize("saturation", [0.6, 1.0, 1.8], ids=["slower", "as given", "faster"])
def test_the_load_at_saturation_is_learnt_whatever_was_given(saturation: float) -> None:
    fit = taught(saturation, 0.08, [min(load, 0.9 * saturation) for load in LOADS])
    assert fit.saturation == pytest.approx(saturation, rel=0.06)
    assert fit.limit(0.8) == pytest.approx(saturation * 0.9, rel=0.06)


def test_an_idle_engines_pace_is_learnt_within_some_turns_even_from_three_times_off() -> None:
    fit = taught(1.0, 0.01, LOADS[:20], prior_s=0.03)
    assert 1.0 / fit.pace == pytest.approx(0.01, rel=0.2)


@pytest.mark.parametrize("saturation", [0.2, 0.4, 2.5], ids=["a fifth", "two fifths", "two and a half"])
def test_a_guess_far_off_is_put_right_by_loads_on_either_side_of_it(saturation: float) -> None:
    """Loads beyond the saturation believed so far correct it, and not the pace, which once ended at nothing."""
    fit = taught(saturation, 0.014, [saturation * (0.4 + load) for load in 2 * LOADS], prior_s=0.01)
    assert fit.saturation == pytest.approx(saturation, rel=0.1)
    assert fit.idle_s == pytest.approx(0.014, rel=0.15)


def test_a_load_beyond_the_saturation_believed_in_corrects_it_and_leaves_the_pace_alone() -> None:
    fit = LoadLine.prior(0.1)
    after = fit.learn(3.0, 0.2, FORGET)
    assert after.pace == pytest.approx(fit.pace)
    assert after.saturation > 1.5


def test_engines_with_a_standing_queue_tell_what_they_carry() -> None:
    fit = LoadLine.prior(0.1)
    for _ in range(12):
        fit = fit.saturated(0.3, FORGET, 0.25)
    assert fit.saturation == pytest.approx(0.3, rel=0.15)
    assert fit.idle_s == LoadLine.prior(0.1).idle_s


def test_it_gets_surer_with_every_turn_and_less_sure_while_nothing_is_learnt() -> None:
    fit = LoadLine.prior(0.1)
    before = fit.uncertainty(0.9)
    for load in LOADS[:40]:
        after = fit.learn(load, 0.1 / (1.0 - load), FORGET)
        assert after.uncertainty(0.9) <= fit.uncertainty(0.9) * (1.0 + FORGET)
        fit = after
    assert fit.uncertainty(0.9) < before / 2


def test_one_turn_of_nonsense_moves_little() -> None:
    fit = taught(1.0, 0.1, LOADS)
    assert fit.learn(0.3, 60.0, FORGET).saturation == pytest.approx(fit.saturation, rel=0.1)
    assert fit.learn(0.3, 0.001, FORGET).saturation == pytest.approx(fit.saturation, rel=0.1)


def test_a_drift_is_followed_within_hours() -> None:
    fit = taught(1.0, 0.1, LOADS)
    for load in 4 * LOADS:
        fit = fit.learn(load * 0.6, 0.1 / (1.0 - load), FORGET)  # the same slowness at three fifths of the load
    assert fit.saturation == pytest.approx(0.6, rel=0.1)


@LAW
@given(
    st.lists(st.tuples(st.floats(0.0, 3.0), st.floats(1e-4, 100.0), st.floats(0.0, 1.0)), min_size=1, max_size=60),
    st.floats(0.0, 0.5),
)
def test_whatever_it_is_taught_it_stays_finite_positive_and_within_eight_times_what_was_given(
    turns: list[tuple[float, float, float]], forget: float
) -> None:
    fit = LoadLine.prior(0.1)
    for load, latency_s, weight in turns:
        fit = fit.learn(load, latency_s, forget, weight)
        assert all(
            math.isfinite(v)
            for v in (fit.pace, fit.saturation, fit.pace_variance, fit.covariance, fit.saturation_variance)
        )
        assert 0.125 - 1e-9 <= fit.saturation <= 8.0 + 1e-9
        assert fit.pace_variance > 0
        assert fit.saturation_variance > 0
        assert fit.pace_variance * fit.saturation_variance >= fit.covariance**2 * (1 - 1e-6)
        assert LoadLine.from_memory("x", fit.memory("x"), 1.0) == fit
