"""The peers that average over windows and delay: Knative, Ray Serve, SkyServe."""

from __future__ import annotations

import pytest

from policies.recommend.peers.kpa import Kpa
from policies.recommend.peers.ray_serve import RayServe
from policies.recommend.peers.skyserve import SkyServeRequestRate
from tests.factories import ABSENT
from tests.policies.recommend.peers.ticks import PeerTicks

# --- Knative: 100 requests per replica at 70 %


def kpa(**settings: float) -> Kpa:
    return Kpa(source="e", quantities=("n",), **settings)  # type: ignore[arg-type]


def test_knative_divides_the_stable_window_mean_by_70_percent() -> None:
    ticks = PeerTicks(kpa(), 1, step_s=2.0)
    assert ticks.tick({"e.n": 70}) == 1
    assert ticks.run(30, {"e.n": 105})[-1] == 2, "105 / 70"


def test_knative_panics_at_twice_the_ready_capacity_and_keeps_the_size() -> None:
    ticks = PeerTicks(kpa(), 1, step_s=2.0)
    ticks.run(30, {"e.n": 60})
    assert ticks.tick({"e.n": 600}) == 4, "the mean of 60, 60, 600 is 240: 4 of 70"
    assert ticks.run(2, {"e.n": 600}) == [6, 9]
    assert set(ticks.run(28, {"e.n": 0})) == {9}, "held for 60 s after the last tick above the threshold"
    assert "panic" in ticks.decisions[-1].recommendations[0].reason
    assert ticks.tick({"e.n": 0}) == 4, "at most by half"


def test_knative_overshoots_while_slow_replicas_start() -> None:
    """A panic compares with ready replicas: with starts of 3 minutes it keeps raising the desired size."""
    ticks = PeerTicks(kpa(), 1, step_s=2.0, start_s=180.0)
    peaks = [ticks.tick({"e.n": 70 + 7 * i}) for i in range(60)]
    assert peaks[-1] == 7, "the last 6 s hold 476 on average"
    assert ticks.ready == 1
    assert "panic" in ticks.decisions[-1].recommendations[0].reason


def test_knative_starts_in_a_panic_that_holds_the_ready_replicas() -> None:
    ticks = PeerTicks(kpa(), 6, step_s=2.0)
    assert set(ticks.run(31, {"e.n": 70})) == {6}
    assert ticks.run(1, {"e.n": 70}) == [3], "then at most by half"
    one = PeerTicks(kpa(), 1, step_s=2.0)
    one.tick({"e.n": 70})
    assert one.decisions[0].recommendations[0].reason.startswith("stable")


def test_knative_scales_in_by_half_at_most_and_out_by_the_rate() -> None:
    ticks = PeerTicks(kpa(max_scale_up_rate=1.5), 3, step_s=2.0)
    ticks.run(32, {"e.n": 210})
    assert ticks.run(3, {"e.n": 100_000}) == [5, 8, 12]
    down = PeerTicks(kpa(stable_window_s=6.0), 16, step_s=2.0)
    down.run(10, {"e.n": 1120})
    assert down.run(5, {"e.n": 0}) == [11, 6, 3, 1, 1]


def test_knative_keeps_one_replica_for_the_grace_period() -> None:
    ticks = PeerTicks(kpa(), 1, step_s=2.0, min_replicas=0)
    ticks.run(31, {"e.n": 10})
    sizes = ticks.run(60, {"e.n": 0})
    assert sizes.index(0) == 44, "out of the window after 29 ticks, then 30 s of grace"
    assert ticks.run(1, {"e.n": 1}) == [1]


def test_knative_grace_period_needs_full_evidence() -> None:
    policy = Kpa(source="e", quantities=("n", "m"))
    ticks = PeerTicks(policy, 1, step_s=2.0, min_replicas=0)
    assert set(ticks.run(60, {"e.n": 0, "e.m": ABSENT})) == {1}
    assert ticks.tick({"e.n": 0, "e.m": 0}) == 1
    assert ticks.run(16, {"e.n": 0, "e.m": 0})[-1] == 0


def test_knative_scale_down_delay_holds_the_largest_need() -> None:
    ticks = PeerTicks(kpa(scale_down_delay_s=120.0, stable_window_s=6.0), 4, step_s=2.0)
    ticks.run(10, {"e.n": 280})
    sizes = ticks.run(61, {"e.n": 70})
    assert (set(sizes[:59]), sizes[59:]) == ({4}, [3, 2]), "a window of 120 s has 60 ticks of 2 s"


def test_knative_activates_to_the_activation_scale() -> None:
    ticks = PeerTicks(kpa(activation_scale=3.0), 0, step_s=2.0, min_replicas=0)
    assert ticks.tick({"e.n": 1}) == 3


# --- Ray Serve


def ray(**settings: float) -> RayServe:
    defaults = {"target_ongoing_requests": 8.0}
    return RayServe(source="e", quantities=("n",), **{**defaults, **settings})  # type: ignore[arg-type]


@pytest.mark.slow
def test_ray_serve_delays_match_a_measured_run() -> None:
    """64 ongoing requests at 8 per replica, idle from 300 s on: the sizes measured with Ray 2.60."""
    ticks = PeerTicks(ray(), 1, step_s=1.0, min_replicas=0)
    assert ticks.run(31, {"e.n": 64}) == [1] * 30 + [8]
    ticks.run(269, {"e.n": 64})
    idle = ticks.run(1300, {"e.n": 0})
    assert (ticks.decisions[300].at - ticks.decisions[0].at, set(idle[:600])) == (300, {8})
    to_one, to_zero = idle.index(1), idle.index(0)
    assert 600 <= to_one <= 630, "600 s after the mean of the look-back fell below"
    assert to_zero == to_one + 601


def test_ray_serve_leaves_zero_at_once_with_one_replica() -> None:
    assert PeerTicks(ray(), 0, min_replicas=0).tick({"e.n": 100}) == 1


def test_ray_serve_factors_scale_the_difference_without_stalling() -> None:
    up = PeerTicks(ray(upscaling_factor=0.5, upscale_delay_s=0), 2)
    assert up.tick({"e.n": 64}) == 5
    down = PeerTicks(ray(downscaling_factor=0.1, downscale_delay_s=0), 5)
    assert down.tick({"e.n": 32}) == 4, "5 - 0.1 rounds up to 5, but one replica is removed"


def test_change_of_direction_restarts_the_delay() -> None:
    ticks = PeerTicks(ray(upscale_delay_s=30, look_back_period_s=1), 2)
    ticks.run(2, {"e.n": 64})
    ticks.tick({"e.n": 8})
    assert ticks.run(3, {"e.n": 64}) == [2, 2, 8]


def test_blind_tick_neither_counts_towards_nor_resets_the_delay() -> None:
    ticks = PeerTicks(ray(upscale_delay_s=30, look_back_period_s=1), 1)
    ticks.run(2, {"e.n": 64})
    assert ticks.tick({"e.n": ABSENT}) == 1
    assert ticks.run(1, {"e.n": 64}) == [8]


def test_partial_evidence_counts_only_towards_the_upscale_delay() -> None:
    policy = RayServe(source="e", quantities=("n", "m"), downscale_delay_s=30, look_back_period_s=1)
    ticks = PeerTicks(policy, 4)
    ticks.run(10, {"e.n": 0, "e.m": ABSENT})
    assert ticks.run(4, {"e.n": 0, "e.m": 0}) == [4, 1, 1, 1], "not at once"
    assert ticks.run(3, {"e.n": 16, "e.m": ABSENT}) == [1, 1, 8]


def test_long_gap_does_not_count_towards_the_delay() -> None:
    ticks = PeerTicks(ray(), 8)
    ticks.tick({"e.n": 0})
    ticks.at += 7200.0
    assert ticks.tick({"e.n": 0}) == 8


@pytest.mark.parametrize(("how", "size"), [("mean", 4), ("max", 8), ("min", 1)])
def test_ray_serve_aggregates_over_its_look_back(how: str, size: int) -> None:
    policy = RayServe(
        source="e",
        quantities=("n",),
        target_ongoing_requests=8,
        upscale_delay_s=0,
        downscale_delay_s=1e9,
        aggregation=how,  # type: ignore[arg-type]
    )
    ticks = PeerTicks(policy, 1)
    ticks.tick({"e.n": 0})
    assert ticks.tick({"e.n": 64}) == size


# --- SkyServe


def test_skyserve_scales_out_after_5_minutes_and_in_after_20() -> None:
    ticks = PeerTicks(SkyServeRequestRate(source="g", target_qps_per_replica=2), 2, step_s=20.0)
    assert ticks.run(16, {"g.requests_per_s": 10}) == [2] * 15 + [5], "at 300 s, as measured with SkyServe 0.14"
    ticks.run(4, {"g.requests_per_s": 10})
    sizes = ticks.run(70, {"g.requests_per_s": 2})
    assert set(sizes[:59]) == {5}
    assert sizes[-1] == 1


def test_skyserve_leaves_zero_at_once() -> None:
    policy = SkyServeRequestRate(source="g", target_qps_per_replica=2)
    assert PeerTicks(policy, 0, min_replicas=0).tick({"g.requests_per_s": 10}) == 5


def test_skyserve_adds_its_overprovision_to_the_need_by_rate() -> None:
    policy = SkyServeRequestRate(source="g", target_qps_per_replica=2, num_overprovision=2, upscale_delay_s=20)
    ticks = PeerTicks(policy, 3, step_s=20.0)
    assert ticks.run(3, {"g.requests_per_s": 4}) == [3, 4, 4]


def test_skyserve_clips_its_proposal_before_the_delays() -> None:
    """Beyond the maximum, a change of the rate is no change of the proposal: the delay for scale-in does not start."""
    policy = SkyServeRequestRate(source="g", target_qps_per_replica=1, upscale_delay_s=0, downscale_delay_s=40)
    ticks = PeerTicks(policy, 4, step_s=20.0, max_replicas=4)
    ticks.run(4, {"g.requests_per_s": 40})
    assert ticks.run(9, {"g.requests_per_s": 1})[-1] == 1
    reasons = [d.recommendations[0].reason for d in ticks.decisions[:4]]
    assert not any("delay" in reason for reason in reasons)
