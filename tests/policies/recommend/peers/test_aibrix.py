"""AIBrix's APA: the quotient, its limits, replicas that start, and the line forecast."""

from __future__ import annotations

from typing import Any

import pytest

from policies.recommend.peers.aibrix import AibrixApa
from tests.policies.recommend.peers.ticks import PeerTicks


def sizes(values: list[float], size: int = 4, start_s: float = 0.0, **settings: Any) -> list[int]:
    """Return the sizes under these values of the metric, one for each tick of 10 s."""
    policy = AibrixApa(**{"source": "e", "observe_window_s": 10.0, "scale_down_window_s": 0.0, **settings})
    ticks = PeerTicks(policy, size, step_s=10.0, start_s=start_s)
    return [ticks.tick({"e.kv_cache_usage": value}) for value in values]


@pytest.mark.parametrize(
    ("value", "size"),
    [
        pytest.param(0.8, 7, id="4 * 0.8 / 0.5 = 6.4, rounded up"),
        pytest.param(0.55, 4, id="within 10 % above"),
        pytest.param(0.551, 5, id="beyond 10 % above"),
        pytest.param(0.45, 4, id="within 10 % below"),
        pytest.param(0.3, 3, id="4 * 0.3 / 0.5 = 2.4, rounded up"),
        pytest.param(0.01, 2, id="at least half of the size"),
    ],
)
def test_size_is_the_quotient_within_the_limits(value: float, size: int) -> None:
    assert sizes([value]) == [size]


def test_a_decision_at_most_doubles_the_size() -> None:
    assert sizes([0.9], target=0.2) == [8], "4 * 0.9 / 0.2 = 18"


def test_the_value_is_the_mean_over_the_window() -> None:
    assert sizes([0.5, 0.5, 0.8], observe_window_s=30.0)[-1] == 5, "a mean of 0.6"


def test_starting_replicas_count_as_idle_before_a_scale_out() -> None:
    assert sizes([1.0, 1.0, 1.0], start_s=300.0) == [8, 8, 8], "4 ready at twice the target are 8 replicas of load"


def test_starting_replicas_count_as_at_their_target_before_a_scale_in() -> None:
    assert sizes([1.0, 0.25], start_s=300.0) == [8, 6], "4 * 0.25 / 0.5 = 2, and 4 that start"


def test_scale_in_waits_for_its_window() -> None:
    wanted = sizes([0.8] + [0.2] * 9, scale_down_window_s=60.0)
    assert wanted[0] == 7
    assert (wanted.index(3), set(wanted[1:6])) == (6, {7})


RISING = [0.30, 0.32, 0.34, 0.36, 0.38, 0.40, 0.42]


def test_the_forecast_extends_the_line_of_the_window() -> None:
    """Five samples have a mean of 0.34 and rise by 0.002 per second: 0.58 after 120 s, and 4 * 0.58 / 0.5 = 4.6."""
    settings: dict[str, Any] = {"observe_window_s": 80.0, "scale_down_tolerance": 0.5}
    assert sizes(RISING, **settings)[-1] == 4
    assert sizes(RISING[:5], **settings, horizon_s=120.0) == [4, 4, 4, 4, 5]


def test_the_forecast_needs_half_of_its_window() -> None:
    settings: dict[str, Any] = {"scale_down_tolerance": 0.5, "horizon_s": 120.0}
    assert sizes(RISING[:4], observe_window_s=80.0, **settings) == [4, 4, 4, 4], "three intervals are 30 of 80 s"
    assert sizes(RISING[:4], observe_window_s=60.0, **settings)[-1] > 4


def test_the_forecast_never_lowers_the_size() -> None:
    falling = sizes(RISING[::-1], observe_window_s=80.0, scale_down_tolerance=0.5, horizon_s=120.0)
    assert set(falling) == {4}


def test_the_forecast_is_at_most_four_times_the_mean() -> None:
    spike = [0.01, 0.01, 0.01, 0.01, 0.2]
    settings: dict[str, Any] = {"observe_window_s": 80.0, "scale_down_tolerance": 0.99, "max_scale_up_rate": 100.0}
    assert sizes(spike, **settings, horizon_s=3600.0)[-1] == 4, "4 * 0.048 is below the target"
