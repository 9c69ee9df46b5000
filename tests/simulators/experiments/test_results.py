"""Every figure against hand-computed values, on small runs."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from policies.model import Result
from policies.model.spec import Slo
from scaler.config.load import workload_from
from simulators.commands.shared_options import without_nan
from simulators.engine.kernel.event_loop import Router
from simulators.engine.kernel.layout import ITL_BUCKETS
from simulators.engine.models import catalogue
from simulators.experiments import run
from simulators.experiments.results import CountedRequests, ResultSummary, summarize, token_gaps, usd
from simulators.experiments.run import SimulationRun
from simulators.experiments.warnings import full_batch_work_s, max_replicas, run_warnings
from simulators.reporting import text
from simulators.reporting.table import dollars, lines, seconds, share
from simulators.world.faults import FaultSettings
from simulators.world.infrastructure.market import ZoneOffer
from simulators.world.queue import SimulatedQueue
from simulators.world.telemetry import Telemetry
from simulators.world.traffic.trace import RequestTrace
from tests.simulators.world.makers import POOL, STEADY, case, document, offer, trace, workload

FIXED = {"want": {"kind": "static", "replicas": 1}}
THREE = trace((0.0, 10, 1), (1.0, 10, 11), (2.0, 10, 101))
"""10 ms; 10 ms and ten gaps; 10 ms and a hundred gaps: each alone on the replica, a step of 10 ms a token."""


def simulated(requests: RequestTrace, replicas: int = 1, seed: int = 1, **options: Any) -> SimulationRun:
    policies = {"want": {"kind": "static", "replicas": replicas}}
    options.setdefault("scaled", workload(policies=policies, min_replicas=1))
    options.setdefault("initial_replicas", {POOL: replicas})
    options.setdefault("settle_s", 98.0)
    return run.simulate(case(**options), seed, requests)


# --- requests


def test_figures_of_three_requests_match_hand_computed_values() -> None:
    summary = summarize(simulated(THREE))
    assert (summary.arrived, summary.finished, summary.duration_s) == (3, 3, 100.0)
    assert (summary.unfinished, summary.rejected, summary.timed_out, summary.lost, summary.dead_letter) == (0,) * 5
    assert dataclasses.astuple(summary.ttft_s) == pytest.approx([0.01] * 5)
    assert dataclasses.astuple(summary.itl_s) == pytest.approx([0.01] * 5)
    assert summary.e2e_s.mean == pytest.approx((0.01 + 0.11 + 1.01) / 3)
    assert summary.e2e_s.p50 == pytest.approx(0.11)
    assert summary.e2e_s.p90 == pytest.approx(0.11 + 0.8 * 0.9)  # between the second and the third, linearly
    assert summary.output_tokens_per_s == pytest.approx((1 + 11 + 101) / 3.01)  # from the first arrival to the last end
    assert all(gap == pytest.approx(0.01, rel=1 / 16) for gap in summary.token_gap_s.values())
    assert (
        summary.preemptions,
        summary.recomputed_tokens,
        summary.interruptions,
        summary.streams_cut,
        summary.refused,
    ) == (0,) * 5
    assert (summary.ticks, summary.scale_ups, summary.scale_downs) == (7, 0, 0)
    assert (summary.replicas_mean, summary.replicas_max) == (1.0, 1)
    assert (summary.scenario, summary.policy, summary.seed) == ("told", "told", 1)
    assert (summary.trace, summary.warnings) == (THREE.digest()[:16], ())


def test_cost_is_that_of_a_node_from_its_start_to_the_end() -> None:
    summary = summarize(simulated(THREE))  # 100 s at 1,000 micro-dollars
    assert summary.cost_usd == 0.1
    assert summary.node_hours == pytest.approx(100 / 3600)
    assert summary.cost_by_market_usd == {"on_demand": 0.1}
    busy_s = 0.01 + 0.11 + 1.01
    assert summary.cost_by_use_usd["used"] == pytest.approx(busy_s * 0.001)
    assert summary.cost_by_use_usd["idle"] == pytest.approx((100 - busy_s) * 0.001)
    assert summary.waste_share == pytest.approx(1 - busy_s / 100)
    assert summary.usd_per_million_tokens == pytest.approx(0.1 / 113 * 1e6)


def test_starting_nodes_are_billed_and_size_changes_are_counted() -> None:
    summary = summarize(simulated(THREE, replicas=2, initial_replicas={POOL: 1}))  # decided at 0, serves from 35 s on
    assert (summary.scale_ups, summary.scale_downs, summary.replicas_max) == (
        0,
        0,
        2,
    )  # its first tick requests two already
    assert summary.cost_usd == 0.2
    assert summary.cost_by_use_usd["starting"] == pytest.approx(0.035)


@pytest.mark.parametrize(
    ("slo", "met"),
    [
        (Slo(ttft_s=0.01, itl_s=0.01), {"ttft": 1.0, "itl": 1.0, "all": 1.0}),
        (Slo(ttft_s=0.009, itl_s=None), {"ttft": 0.0, "all": 0.0}),
        (Slo(ttft_s=None, itl_s=0.009), {"itl": 1 / 3, "all": 1 / 3}),  # a single token has no gap to violate the SLO
        (Slo(ttft_s=None, itl_s=None, e2e_s=0.5), {"e2e": 2 / 3, "all": 2 / 3}),
        (Slo(ttft_s=1.0, itl_s=0.009, e2e_s=0.05), {"ttft": 1.0, "itl": 1 / 3, "e2e": 1 / 3, "all": 1 / 3}),
    ],
)
def test_attainment_is_the_share_that_met_each_limit_and_all(slo: Slo, met: dict[str, float]) -> None:
    summary = summarize(simulated(THREE, slo=slo))
    assert summary.attainment == pytest.approx(met)
    assert summary.slo_met == (met["all"] >= 0.99)
    assert summary.missed_by == pytest.approx(max(0.0, 0.99 - met["all"]))


def test_a_run_without_an_slo_is_not_judged() -> None:
    summary = summarize(simulated(THREE, slo=None))
    assert (summary.slo, summary.attainment, summary.slo_met) == (None, {}, None)
    assert math.isnan(summary.missed_by)
    assert text.verdict(summary) == "SLO not judged (no SLO given: set slo in a scenario)"
    assert ["SLO", "attainment", "not", "judged"] in [line.split() for line in lines([summary], ["a"])]


@pytest.mark.parametrize(
    ("attained", "verdict"),
    [
        (0.995, "SLO met: 99.50% of the requests, 0.50 points above the target of 99%"),
        (0.99, "SLO met: 99.00% of the requests, at the target of 99%"),
        (0.98999, "SLO missed by less than 0.01 points: 99.00% of the requests met it, the target is 99%"),
        (0.8, "SLO missed by 19.00 points: 80.00% of the requests met it, the target is 99%"),
    ],
)
def test_the_verdict_names_the_distance_to_the_target(attained: float, verdict: str) -> None:
    summary = summarize(simulated(THREE))
    changed = dataclasses.replace(summary, attainment={"all": attained}, slo_met=attained >= 0.99)
    assert text.verdict(changed) == verdict


def test_failed_requests_meet_no_limit() -> None:
    rows = trace((0.0, 10, 1), (1.0, 15_999, 100), (2.0, 10, 20_000), (3.0, 10, 1))
    summary = summarize(simulated(rows, slo=Slo(ttft_s=60.0, itl_s=None)))
    assert (summary.rejected, summary.finished) == (2, 2)
    assert summary.attainment == {"ttft": 0.5, "all": 0.5}
    (warning,) = summary.warnings
    assert warning.startswith("2 of 4 requests were rejected: prompt and output exceed the KV cache of a replica")
    assert warning.endswith(", 16,000 tokens")


def test_a_request_beyond_the_kv_cache_is_rejected_with_a_warning() -> None:
    summary = summarize(simulated(trace((0.0, 15_900, 99), (10.0, 15_900, 100)), settle_s=300.0))
    assert (summary.finished, summary.rejected) == (1, 1)
    assert [w.split(" requests")[0] for w in summary.warnings] == ["1 of 2"]


def test_an_unfinished_request_has_a_ttft_but_misses_the_slo() -> None:
    summary = summarize(simulated(trace((0.0, 10, 5000)), settle_s=10.0))
    assert summary.ttft_s.p50 == pytest.approx(0.01)
    assert math.isnan(summary.e2e_s.p50)
    assert summary.attainment == {"ttft": 0.0, "itl": 0.0, "all": 0.0}


@pytest.mark.parametrize(
    ("options", "end"),
    [
        ({"router": Router(limit=1, queue_limit=0)}, "rejected"),
        ({"router": Router(limit=1, patience_s=0.5)}, "timed_out"),
    ],
)
def test_rejected_and_timed_out_requests_are_counted_separately(options: dict[str, Any], end: str) -> None:
    summary = summarize(simulated(trace((0.0, 10, 200), (0.0, 10, 1), (0.0, 10, 1)), **options))
    assert (summary.finished, getattr(summary, end)) == (1, 2)


def test_warm_up_requests_are_served_but_not_counted() -> None:
    summary = summarize(simulated(THREE, warm_up_s=1.0))
    assert (summary.arrived, summary.finished) == (2, 2)
    assert summary.output_tokens_per_s == pytest.approx(112 / 2.01)
    assert summary.cost_usd == 0.1  # the cost is that of the whole run


def test_figures_without_requests_are_nan_rather_than_zero() -> None:
    summary = summarize(simulated(THREE, warm_up_s=50.0))
    assert (summary.arrived, summary.attainment, summary.slo_met) == (0, {}, None)
    assert all(math.isnan(x) for x in dataclasses.astuple(summary.ttft_s))
    assert math.isnan(summary.usd_per_million_tokens)
    assert summary.warnings == ("no request is counted: all arrive within the warm-up of 50 s (warm_up_s)",)


def test_counted_requests_have_the_latencies_of_each_request() -> None:
    counted = CountedRequests(simulated(THREE))
    assert counted.arrival_s.tolist() == [0.0, 1.0, 2.0]
    assert counted.ttft_s == pytest.approx([0.01] * 3)
    assert counted.e2e_s == pytest.approx([0.01, 0.11, 1.01])
    assert counted.itl_s == pytest.approx([math.nan, 0.01, 0.01], nan_ok=True)


# --- ticks


def test_blind_ticks_and_refused_writes_are_counted() -> None:
    fault = FaultSettings(fault="hang", share=1, where="sources", until_s=30.0)
    scaled = workload(interval_s=15)
    summary = summarize(simulated(THREE, scaled=scaled, faults=(fault,)))
    assert (summary.ticks, summary.blind_ticks) == (7, 2)
    full = offer(on_shortage="refuse", zones={"a": ZoneOffer(capacity=1)})
    run_ = simulated(THREE, replicas=3, initial_replicas={POOL: 1}, pools={POOL: full})
    assert summarize(run_).refused == run_.timeline.results[Result.OUT_OF_CAPACITY] == 7


@pytest.mark.slow
def test_a_message_lost_after_redelivery_is_a_dead_letter() -> None:
    spot = offer(market="spot", zones={"a": ZoneOffer(losses_per_node_hour=60.0)})
    queue = SimulatedQueue(max_receives=1, visibility_timeout_s=1.0)
    scaled = workload("sqs", policies=FIXED)
    summary = summarize(simulated(trace(*[(float(k), 10, 1500) for k in range(40)]), scaled=scaled, queue=queue,
                          pools={POOL: spot}, settle_s=5000.0))  # fmt: skip
    assert summary.dead_letter == summary.streams_cut > 0
    assert summary.finished + summary.dead_letter == 40


# --- helpers of figures


def test_token_gaps_are_read_from_their_buckets() -> None:
    gaps = np.zeros(ITL_BUCKETS, np.int64)
    assert all(math.isnan(q) for q in token_gaps(gaps).values())
    run_ = simulated(trace((0.0, 10, 1000)))
    assert all(q == pytest.approx(0.01, rel=1 / 16) for q in token_gaps(run_.world.kernel.gaps).values())


def test_cost_is_rounded_half_up_to_micro_dollars() -> None:
    assert usd(0) == 0
    assert usd(3_600_000_000_000_000_000) == 1000.0 * usd(3_600_000_000_000_000)


def test_figures_become_json_without_nan() -> None:
    document = json.loads(
        json.dumps(without_nan(summarize(simulated(THREE, warm_up_s=50.0)).as_dict()), allow_nan=False)
    )
    assert set(document) == {f.name for f in dataclasses.fields(ResultSummary)} | {"slo_missed_by"}
    assert document["slo_missed_by"] is None
    assert document["ttft_s"] == dict.fromkeys(("mean", "p50", "p90", "p95", "p99"))


# --- the table


def test_the_table_omits_empty_rows() -> None:
    summary = summarize(simulated(THREE))
    shown = list(lines([summary, summary], ["a", "b"]))
    assert shown[0].split() == ["a", "b"]
    assert not any(line.startswith(("rejected", "interruptions", "  by e2e")) for line in shown)
    assert next(line for line in shown if line.startswith("finished")).split() == ["finished", "3", "3"]
    assert len({len(line) for line in shown}) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (seconds(0.00954), "9.54 ms"),
        (seconds(0.99949), "999 ms"),
        (seconds(0.9996), "1 s"),
        (seconds(12.34), "12.3 s"),
        (seconds(4321.0), "4,321 s"),
        (seconds(math.nan), "-"),
        (share(0.98765), "98.77%"),
        (share(math.nan), "-"),
        (dollars(1234.567), "$1,234.57"),
        (dollars(math.nan), "unknown"),
    ],
)
def test_numbers_have_a_suitable_unit(text: str, message: str) -> None:
    assert text == message


# --- warnings


def test_an_overload_of_the_maximum_replicas_gives_a_warning() -> None:
    rows = trace(*[(0.05 * k, 10, 400) for k in range(12_000)])  # 20 a second of a second's full batch each
    messages = run_warnings(simulated(rows, scaled=workload(max_replicas=4), duration_s=600.0))
    message = "from 0 to 600 s the load is at least 20.0 replicas, but at most 4 are allowed"
    assert messages[0] == f"{message}: no policy can meet the SLO then"
    assert not run_warnings(simulated(trace(*[(0.5 * k, 10, 400) for k in range(1200)]), replicas=4, duration_s=600.0))


@pytest.mark.parametrize("name", ["llama-3.1-8b-h100-vllm", "steady"])
def test_full_batch_work_never_exceeds_the_simulated_engine_time(name: str) -> None:
    model = STEADY if name == "steady" else catalogue.load(name)
    rng = np.random.default_rng(3)
    rows = [(0.0, int(p), int(n)) for p, n in zip(rng.integers(1, 400, 300), rng.integers(1, 300, 300), strict=True)]
    run_ = run.simulate_engines(model, 1, trace(*rows), 1)
    busy_s = run_.world.kernel.read().busy_ps[0] / 1e12
    requests = run_.world.kernel.requests
    minimum_s = float(
        full_batch_work_s(model, requests.prompt_tokens, requests.cached_tokens, requests.output_tokens).sum()
    )
    assert 0.5 * busy_s < minimum_s <= busy_s


@pytest.mark.parametrize(
    ("pool", "limits", "maximum"),
    [
        ({}, {}, 4),
        ({"quota": 3}, {}, 3),
        ({"zones": {"a": ZoneOffer(capacity=1), "b": ZoneOffer(capacity=1)}}, {}, 2),
        ({"zones": {"a": ZoneOffer(capacity=1), "b": ZoneOffer()}}, {}, 4),
        ({}, {"max_replicas": 1}, 1),
    ],
)
def test_max_replicas_respects_every_limit(pool: dict[str, Any], limits: dict[str, Any], maximum: int) -> None:
    scaled = workload(policies=FIXED, **limits)
    assert max_replicas(simulated(THREE, scaled=scaled, pools={POOL: offer(**pool)})) == maximum


def test_rates_have_the_window_that_the_policy_expects() -> None:
    short = document(slo={"ttft_s": 1.0})
    del short["policies"]
    assert case(workload_from(short)).telemetry.window_s == 60.0, "four scrapes of 15 s"
    rare = Telemetry(scrape_interval_s=30)
    assert case(workload_from(short), telemetry=rare).telemetry.window_s == 120.0, "four scrapes of 30 s"
    assert case(workload()).telemetry.window_s == 60.0, "a policy without rates"
    assert case(workload_from(short), telemetry=Telemetry(rate_window_s=90)).telemetry.window_s == 90.0


@pytest.mark.parametrize(
    ("telemetry", "message"),
    [
        pytest.param(Telemetry(rate_window_s=90), "expects rates over 120 s", id="another window"),
        pytest.param(Telemetry(scrape_interval_s=100), "less than 2 scrape intervals of 100 s", id="rare scrapes"),
    ],
)
def test_rates_that_the_policy_cannot_use_are_warned_about(telemetry: Telemetry, message: str) -> None:
    scaled = workload(policies={"it": {"kind": "predictive", "rate_window_s": 120}})
    rows = trace(*[(0.5 * k, 10, 10) for k in range(100)])
    assert any(message in shown for shown in run_warnings(simulated(rows, scaled=scaled, telemetry=telemetry)))
    assert not any("rates over" in shown for shown in run_warnings(simulated(rows, scaled=scaled)))
