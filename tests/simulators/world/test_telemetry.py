"""Scraped engine metrics: their times, their values, and the handling of missing replicas."""

from __future__ import annotations

import numpy as np
import pytest

from policies.model import Absent, Fresh
from scaler.clouds.engines.histogram import quantile, share_above
from simulators.engine.models.service import PS_PER_S
from simulators.world.telemetry import BUSY_UTILIZATION, QUANTITIES, TOKEN_BOUNDS_S, Telemetry, buckets
from simulators.world.world import World
from tests.simulators.world.makers import POOL, trace, world

ALL = tuple(QUANTITIES)
STEADY_LOAD = [(0.5 * k, 10, 100) for k in range(400)]
"""Two requests per second of one second each: 200 tokens per second, two running at a time."""


def readings_at(simulated: World, at_s: float, *quantities: str) -> list[Fresh[float] | Absent]:
    simulated.run_until(round(at_s * PS_PER_S))
    reading = simulated.engines.read(quantities or ALL)
    return [reading[q] for q in quantities or ALL]


def value(simulated: World, at_s: float, quantity: str) -> float:
    (reading,) = readings_at(simulated, at_s, quantity)
    assert isinstance(reading, Fresh), reading
    return reading.value


def test_a_reading_has_the_value_and_time_of_the_last_scrape() -> None:
    simulated = world(trace((3.0, 10, 1000)), telemetry=Telemetry(scrape_interval_s=5))
    assert readings_at(simulated, 4.0, "running") == [Fresh(0.0, 1000.0)]
    assert readings_at(simulated, 5.0, "running") == [Fresh(1.0, 1005.0)]
    assert readings_at(simulated, 9.999, "running") == [Fresh(1.0, 1005.0)]


def test_a_scrape_is_visible_only_after_its_lag() -> None:
    simulated = world(trace((1.0, 10, 1000)), telemetry=Telemetry(scrape_interval_s=5, lag_s=3))
    assert readings_at(simulated, 2.9) == [Absent("not scraped yet")] * len(ALL)
    assert readings_at(simulated, 3.0, "running") == [Fresh(0.0, 1000.0)]
    assert readings_at(simulated, 7.9, "running") == [Fresh(0.0, 1000.0)]
    assert readings_at(simulated, 8.0, "running") == [Fresh(1.0, 1005.0)]


def test_lost_scrapes_leave_the_previous_scrape_in_place() -> None:
    simulated = world(trace((0.0, 10, 1)), telemetry=Telemetry(scrape_interval_s=5, lost_share=1))
    assert readings_at(simulated, 60.0) == [Absent("not scraped yet")] * len(ALL)
    half = world(trace(*STEADY_LOAD), telemetry=Telemetry(scrape_interval_s=5, lost_share=0.5))
    ages = []
    for k in range(1, 30):
        (reading,) = readings_at(half, 5.0 * k, "running")
        assert isinstance(reading, Fresh)
        ages.append(half.now - reading.measured_at)
    assert set(ages) > {0.0, 5.0}


def test_readings_without_engines_are_absent_rather_than_zero() -> None:
    simulated = world(trace((0.0, 10, 1)), replicas=0)
    assert readings_at(simulated, 60.0) == [Absent("no ready engine")] * len(ALL)


def test_a_drained_replica_is_reported_while_it_has_requests() -> None:
    simulated = world(trace((0.0, 10, 1000)), telemetry=Telemetry(scrape_interval_s=1))
    simulated.run_until(PS_PER_S)
    simulated.resize(POOL, 0)
    assert readings_at(simulated, 9.0, "running") == [Fresh(1.0, 1009.0)]
    assert readings_at(simulated, 11.0, "running") == [Absent("no ready engine")]


def test_rates_and_latencies_match_hand_computed_window_values() -> None:
    rows = [(float(k), 10, 11) for k in range(100)]  # each takes 11 steps of 10 ms
    simulated = world(trace(*rows), telemetry=Telemetry(scrape_interval_s=10, rate_window_s=30))
    simulated.run_until(65 * PS_PER_S)
    values = {
        q: r.value
        for q, r in simulated.engines.read(ALL, {"itl_s": 0.01, "ttft_s": 0.005, "e2e_s": 0.3}).items()
        if isinstance(r, Fresh)
    }
    assert values == pytest.approx(
        {
            "e2e_late_share": 0.0,
            "e2e_mean_s": 0.11,
            "e2e_p95_s": 0.285,
            "generation_tokens_per_s": 11.0,
            "inflight_tokens": 0.0,
            "itl_late_share": 0.0,
            "itl_mean_s": 0.01,
            "itl_p95_s": 0.0095,
            "kv_cache_usage": 0.0,
            "pool_saturation": 0.0,
            "preemptions_per_s": 0.0,
            "prompt_tokens_per_s": 10.0,
            "queue_time_p95_s": 0.285,
            "rate_window_s": 30.0,
            "requests_per_s": 1.0,
            "running": 0.0,
            "running_per_replica": 0.0,
            "ttft_late_share": 1.0,
            "ttft_mean_s": 0.01,
            "ttft_p95_s": 0.00975,
            "utilization": BUSY_UTILIZATION * 0.11,
            "waiting": 0.0,
            "waiting_per_replica": 0.0,
        }
    )


def test_a_mean_per_replica_is_the_total_divided_by_the_replicas() -> None:
    simulated = world(trace(*[(0.0, 10, 1000)] * 6), replicas=3, telemetry=Telemetry(scrape_interval_s=1))
    assert readings_at(simulated, 5.5, "running", "running_per_replica") == [Fresh(6.0, 1005.0), Fresh(2.0, 1005.0)]


def test_tokens_in_flight_are_the_prompts_without_a_first_token() -> None:
    """Four requests run for ten seconds, and two of 1,000 and 300 tokens wait for them."""
    rows = [(0.0, 500, 1000)] * 4 + [(0.5, 1000, 10), (1.5, 300, 10)]
    simulated = world(trace(*rows), telemetry=Telemetry(scrape_interval_s=1, rate_window_s=5))
    assert [value(simulated, at_s, "inflight_tokens") for at_s in (1.0, 1.9, 2.0, 9.0, 12.0)] == [
        1000,
        1000,
        1300,
        1300,
        0,
    ]


def test_pool_saturation_is_the_larger_of_queue_and_cache() -> None:
    """Saturated means 5 waiting requests or 80 % of the cache per engine. Two requests wait in the first world."""
    queued = world(trace(*[(0.0, 16, 1000)] * 6), telemetry=Telemetry(scrape_interval_s=1))
    assert value(queued, 1.0, "pool_saturation") == pytest.approx(0.4)
    cached = world(trace(*[(0.0, 3000, 800)] * 2), telemetry=Telemetry(scrape_interval_s=1))
    usage = value(cached, 5.0, "kv_cache_usage")
    assert value(cached, 5.0, "pool_saturation") == pytest.approx(usage / 0.8)
    assert usage > 0.4


def test_unfinished_and_rejected_requests_contribute_no_latency() -> None:
    simulated = world(trace((0.5, 10, 1500), (1.0, 10, 17_000)))  # the second is longer than the cache: rejected
    latencies = ("itl_mean_s", "queue_time_p95_s", "ttft_mean_s")
    assert readings_at(simulated, 0.1, *latencies) == [Absent(f"no data for {q} in the last 60 s") for q in latencies]
    itl, queue_time, ttft = readings_at(simulated, 15.0, *latencies)  # it runs until 15.5 s
    assert itl == Absent("no data for itl_mean_s in the last 60 s")
    assert (queue_time, ttft) == (
        Fresh(0.285, 1015.0),
        Fresh(0.01, 1015.0),
    )  # the lowest bucket bound of queue times is 0.3 s


def test_engine_ttft_excludes_the_time_in_the_queue_before_it() -> None:
    simulated = world(trace((0.0, 10, 2)), replicas=0)
    simulated.resize(POOL, 1)  # serves from 35 s on
    assert value(simulated, 45.0, "ttft_mean_s") == pytest.approx(0.01)


def test_quantiles_use_vllm_buckets_and_shares_above_a_bound_are_exact() -> None:
    """Nine of ten requests take 26 ms a token and one takes 40; quantiles are interpolated between 25 and 50 ms."""
    histogram = buckets(np.array([0.026] * 9 + [0.04]), TOKEN_BOUNDS_S)
    assert quantile(0.95, histogram) == pytest.approx(0.04875)
    assert share_above(0.05, histogram) == 0.0
    assert share_above(0.025, histogram) == 1.0


def test_late_share_counts_values_above_the_slo_and_is_absent_without_one() -> None:
    simulated = world(trace(*[(float(k), 10, 11) for k in range(100)]), telemetry=Telemetry(scrape_interval_s=10))
    simulated.run_until(65 * PS_PER_S)
    for limit_s, late in ((0.0099, 0.01), (0.01, 0.0), (0.005, 0.5)):
        reading = simulated.engines.read(("itl_late_share",), {"itl_s": limit_s})["itl_late_share"]
        assert isinstance(reading, Fresh)
        assert reading.value == pytest.approx(late)
    assert isinstance(simulated.engines.read(("itl_late_share",), {"ttft_s": 1.0})["itl_late_share"], Absent)


def test_rates_need_two_scrapes_within_the_window() -> None:
    rare = Telemetry(scrape_interval_s=60, rate_window_s=30)
    simulated = world(trace(*STEADY_LOAD), telemetry=rare)
    assert readings_at(simulated, 130.0, "requests_per_s", "utilization") == [
        Absent("no data for requests_per_s in the last 30 s"),
        Absent("no data for utilization in the last 30 s"),
    ]
    assert isinstance(readings_at(simulated, 130.0, "running")[0], Fresh)


def test_a_single_running_request_reports_a_busy_gpu() -> None:
    simulated = world(
        trace((0.0, 10, 1500), (15.0, 10, 1500), (30.0, 10, 1500)), telemetry=Telemetry(scrape_interval_s=5)
    )
    assert value(simulated, 40.0, "utilization") == pytest.approx(BUSY_UTILIZATION)
    assert value(simulated, 40.0, "running") == 1
    idle = world(trace((0.0, 10, 1500)), replicas=2, telemetry=Telemetry(scrape_interval_s=5))
    assert value(idle, 10.0, "utilization") == pytest.approx(BUSY_UTILIZATION / 2)


def test_late_share_without_a_limit_names_the_missing_setting() -> None:
    simulated = world(trace(*STEADY_LOAD), telemetry=Telemetry(scrape_interval_s=5))
    simulated.run_until(60 * PS_PER_S)
    readings = simulated.engines.read(("ttft_late_share", "itl_late_share"), {"ttft_s": 1.0})
    assert isinstance(readings["ttft_late_share"], Fresh)
    assert readings["itl_late_share"] == Absent("there is no share of late requests because slo.itl_s is not set")


def test_a_partial_scrape_gives_lower_bound_totals_and_no_means() -> None:
    always = Telemetry(scrape_interval_s=5, partial_share=1)
    simulated = world(trace((0.0, 10, 1500), (0.0, 10, 1500)), replicas=2, telemetry=always)
    simulated.run_until(10 * PS_PER_S)
    for quantity, (total, _) in QUANTITIES.items():
        reading = simulated.engines.read((quantity,), {"ttft_s": 1.0, "itl_s": 0.05, "e2e_s": 9.0})[quantity]
        if quantity in {"running", "waiting"}:
            assert isinstance(reading, Fresh)
            assert reading.value == (quantity == "running")
            assert "did not respond" in reading.missing
        elif quantity in {"inflight_tokens", "rate_window_s"}:
            assert isinstance(reading, Fresh), "the router counts tokens, and the window is chosen"
        else:  # a rate needs one complete scrape as its start
            assert isinstance(reading, Absent), quantity
            assert total or "did not respond" in reading.reason or "no data for" in reading.reason


def test_an_unscraped_single_replica_is_reported_as_missing() -> None:
    simulated = world(trace((0.0, 10, 1500)), telemetry=Telemetry(scrape_interval_s=5, partial_share=1))
    assert readings_at(simulated, 6.0, "running") == [Fresh(0.0, 1005.0, "replica 0 did not respond")]
    assert readings_at(simulated, 6.0, "kv_cache_usage") == [Absent("replica 0 did not respond")]


@pytest.mark.parametrize("seed", range(4))
def test_rates_over_partial_scrapes_are_exact_or_lower_bounds(seed: int) -> None:
    often = Telemetry(scrape_interval_s=5, rate_window_s=40, partial_share=0.3)
    simulated = world(trace(*STEADY_LOAD), replicas=3, telemetry=often, seed=seed)
    missing = 0
    for at_s in range(60, 190, 5):
        (reading,) = readings_at(simulated, at_s, "requests_per_s")
        assert isinstance(reading, Fresh)
        if reading.missing:
            missing += 1
            assert 0.5 < reading.value <= 2.0
        else:
            assert reading.value == pytest.approx(2.0, abs=0.01)
    assert missing


def test_rates_stay_correct_while_replicas_are_lost_and_added() -> None:
    simulated = world(trace(*STEADY_LOAD), replicas=3, telemetry=Telemetry(scrape_interval_s=5, rate_window_s=30))
    simulated.run_until(100 * PS_PER_S)
    pool = simulated.pools[POOL]
    pool.interrupt(0, simulated.now_ps, simulated.now_ps)  # replaced: another comes 35 s later
    simulated.resize(POOL, 5)
    for at_s in range(105, 190, 5):
        assert value(simulated, at_s, "requests_per_s") == pytest.approx(
            2.0, abs=0.07
        )  # two requests were lost with the replica
        assert 0 <= value(simulated, at_s, "utilization") <= BUSY_UTILIZATION


def test_long_windows_and_lags_keep_the_scrapes_they_need() -> None:
    simulated = world(
        trace(*STEADY_LOAD), telemetry=Telemetry(scrape_interval_s=5, rate_window_s=60, lag_s=30), replicas=2
    )
    (reading,) = readings_at(simulated, 180.0, "requests_per_s")
    assert isinstance(reading, Fresh)
    assert reading.value == pytest.approx(2.0)
    assert reading.measured_at == 1150.0
