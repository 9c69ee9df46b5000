"""The spread of a latency's tail is learned from the share of late requests."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.recommend.predictive.latency_tail import MAX_FACTOR, LatencyTail
from tests.laws import LAW

FORGET = 15.0 / 3600.0
LIMIT_S = 0.05


def learned_tail(
    true: float, means_s: list[float], requests: float = 150.0, tail: LatencyTail | None = None
) -> LatencyTail:
    """Return the tail after ticks with a random number of late requests."""
    rng, tail = np.random.default_rng(1), tail or LatencyTail.of(0.15)
    for mean_s in means_s:
        share = LatencyTail.of(true).late_share(LIMIT_S, mean_s)
        tail = tail.learn(LIMIT_S, mean_s, rng.binomial(round(requests), share) / requests, requests, FORGET)
    return tail


NEAR = [0.030 + 0.002 * (k % 5) for k in range(240)]


@pytest.mark.parametrize("true", [0.06, 0.15, 0.4])
def test_spread_is_learned_near_the_limit(true: float) -> None:
    assert learned_tail(true, NEAR).spread == pytest.approx(true, rel=0.25)


def test_spread_is_not_learned_far_below_the_limit() -> None:
    assert learned_tail(0.06, [0.01] * 240).spread == pytest.approx(0.15, rel=0.01)


def test_repeated_violations_raise_the_spread_and_a_single_burst_hardly() -> None:
    far = [0.02] * 40
    assert learned_tail(0.5, far).spread > 0.3
    once = LatencyTail.of(0.15).learn(LIMIT_S, 0.02, 0.3, 150.0, FORGET)
    assert once.spread < 0.15 * math.exp(0.31)


def test_bursts_do_not_raise_the_spread_beyond_its_maximum() -> None:
    """In each tick a tenth violates the SLO at a mean of half the limit: no engine has such a tail."""
    tail = LatencyTail.of(0.15, 0.4)
    for _ in range(240):
        tail = tail.learn(LIMIT_S, 0.025, 0.1, 150.0, FORGET)
    assert tail.spread == pytest.approx(0.4)


def test_prior_may_change_until_the_tail_is_learned() -> None:
    assert LatencyTail.of(0.15).memory("x") == {}
    learned = LatencyTail.of(0.15).learn(LIMIT_S, 0.03, 0.1, 150.0, FORGET)
    assert LatencyTail.from_memory("x", LatencyTail.of(0.15).memory("x"), 0.5).spread == 0.5
    assert LatencyTail.from_memory("x", learned.memory("x"), 0.5).spread == learned.spread


def test_mean_beyond_the_limit_does_not_change_the_spread() -> None:
    assert LatencyTail.of(0.15).learn(LIMIT_S, 0.06, 1.0, 150.0, FORGET).spread == pytest.approx(0.15)


def test_unconfirmed_spread_decays_to_the_prior() -> None:
    known = learned_tail(0.4, NEAR)
    later = learned_tail(0.4, [0.005] * 240 * 24, tail=known)
    assert known.spread > 0.3
    assert later.spread == pytest.approx(0.15, rel=0.05)
    assert later.variance == pytest.approx(0.25)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 0.99, 0.999])
@pytest.mark.parametrize("spread", [0.06, 0.15, 0.7])
def test_mean_for_a_share_is_the_inverse_of_the_late_share(share: float, spread: float) -> None:
    tail = LatencyTail.of(spread)
    assert tail.late_share(LIMIT_S, tail.mean_s(LIMIT_S, share)) == pytest.approx(1.0 - share)


def test_late_share_is_0_at_zero_latency_and_1_at_a_huge_one() -> None:
    assert LatencyTail.of(0.15).late_share(LIMIT_S, 0.0) == 0.0
    assert LatencyTail.of(0.15).late_share(LIMIT_S, 1e9) == 1.0


@LAW
@given(
    st.lists(
        st.tuples(st.floats(1e-9, 1e3), st.floats(0.0, 1.0), st.floats(0.0, 1e7), st.floats(1e-3, 10.0)),
        min_size=1,
        max_size=60,
    ),
    st.floats(0.0, 0.5),
)
def test_learned_spread_stays_within_a_factor_of_the_prior(
    ticks: list[tuple[float, float, float, float]], forget: float
) -> None:
    tail = LatencyTail.of(0.15)
    for mean_s, late, requests, limit_s in ticks:
        tail = tail.learn(limit_s, mean_s, late, requests, forget)
        assert tail.spread * (1 + 1e-9) >= 0.15 / MAX_FACTOR
        assert tail.spread <= 0.15 * MAX_FACTOR * (1 + 1e-9)
        assert 0 < tail.variance <= 0.25
        assert LatencyTail.from_memory("x", tail.memory("x"), 0.15) == tail
