"""The latency models after a tick, and the highest load within an SLO."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.history.ticks import History
from policies.model import Absent, Fresh, Reading, SignalName
from policies.model.spec import Slo
from policies.recommend.context import PolicyContext
from policies.recommend.predictive.engine_load import EngineLoad
from policies.recommend.predictive.latency_load_model import LoadLine
from policies.recommend.predictive.latency_model import (
    DEFAULT_LOAD,
    MIN_USEFUL_LOAD,
    LatencyObservation,
    LearnedLatency,
    load_limit,
    observed_latencies,
    recall_latencies,
    slo_limits_s,
)
from policies.recommend.predictive.latency_tail import LatencyTail
from policies.signals.latency_quantities import LATENCIES
from tests.factories import NOW, spec

FORGET = 15.0 / 3600.0
LIMITS_S = {"ttft_s": 1.0, "itl_s": 0.05}
KNOWN = recall_latencies({})


def load(
    *,
    processed: float = 2.0,
    waiting: float = 0.0,
    is_steady: bool = True,
    is_backed_up: bool = False,
    is_uneven: bool = False,
) -> EngineLoad:
    """Return the load of four replicas that complete 10 requests per second, in a window of a minute."""
    return EngineLoad(
        processed=processed,
        arriving=processed,
        requests_per_s=10.0,
        in_work=20.0,
        waiting=waiting,
        ready=4.0,
        is_steady=is_steady,
        sustained_waiting=waiting,
        is_backed_up=is_backed_up,
        is_uneven=is_uneven,
        window_s=60.0,
    )


def test_tick_is_weighted_by_the_new_part_of_its_window() -> None:
    updated = load().learned_latencies(KNOWN, {"itl_s": LatencyObservation(0.03, 0.02)}, LIMITS_S, FORGET, 15.0)
    line, tail = KNOWN["itl_s"].line, KNOWN["itl_s"].tail
    assert updated["itl_s"].line == line.learn(0.5, 0.03, FORGET, 0.25)
    assert updated["itl_s"].tail == tail.learn(0.05, 0.03, 0.02, 150.0, FORGET)
    assert updated["ttft_s"] == KNOWN["ttft_s"]


def test_tail_is_not_learned_without_an_slo_or_a_late_share() -> None:
    for observed, limits_s in (
        (LatencyObservation(0.03, None), LIMITS_S),
        (LatencyObservation(0.03, 0.02), {"ttft_s": 1.0}),
    ):
        updated = load().learned_latencies(KNOWN, {"itl_s": observed}, limits_s, FORGET, 15.0)
        assert updated["itl_s"].tail == KNOWN["itl_s"].tail
        assert updated["itl_s"].line != KNOWN["itl_s"].line


def test_sustained_queue_teaches_the_saturation_not_the_latency() -> None:
    observations = {"ttft_s": LatencyObservation(30.0, 1.0)}
    updated = load(waiting=400.0, is_backed_up=True).learned_latencies(KNOWN, observations, LIMITS_S, FORGET, 60.0)
    assert updated == {
        key: replace(latency, line=latency.line.saturated(0.5, FORGET)) for key, latency in KNOWN.items()
    }


def test_unsteady_idle_or_newly_queued_ticks_teach_nothing() -> None:
    queued = load(waiting=400.0, is_backed_up=True, is_uneven=True)
    for ignored in (load(is_steady=False, is_backed_up=True), load(processed=0.1), load(waiting=400.0), queued):
        assert (
            ignored.learned_latencies(KNOWN, {"ttft_s": LatencyObservation(0.3, 0.1)}, LIMITS_S, FORGET, 15.0) == KNOWN
        )


def learned_latency(idle_s: float, spread: float, saturation: float = 1.0) -> LearnedLatency:
    return LearnedLatency(LoadLine(1.0 / idle_s, saturation, 1e-4, 0.0, 1e-4), LatencyTail.of(spread))


def test_stricter_latency_sets_the_load_limit() -> None:
    limit = load_limit({"ttft_s": learned_latency(0.1, 0.7), "itl_s": learned_latency(0.02, 0.1)}, LIMITS_S, 0.95)
    assert limit.latency == "itl_s"
    assert limit.load == pytest.approx(1.0 - 0.02 * (1.0 + 0.1 * 1.9957) / 0.05, abs=1e-4)
    assert (limit.without_slo, limit.unattainable) == (DEFAULT_LOAD, "")


def test_longer_tail_and_higher_quantile_lower_the_load_limit() -> None:
    loads = [
        load_limit({"itl_s": learned_latency(0.01, spread)}, {"itl_s": 0.05}, share).load
        for spread, share in ((0.1, 0.95), (0.1, 0.99), (0.1, 0.999), (0.3, 0.999))
    ]
    assert loads == sorted(loads, reverse=True)
    assert len(set(loads)) == len(loads)


def test_late_share_at_the_load_limit_is_the_allowed_share() -> None:
    learned = learned_latency(0.01, 0.2)
    assert learned.late_share(0.05, learned.limit(0.05, 0.99)) == pytest.approx(0.01)
    assert learned.late_share(0.05, 1.0) == 1.0


def test_load_limit_without_an_slo_is_the_throughput_limit() -> None:
    limit = load_limit({"ttft_s": learned_latency(0.1, 0.7)}, {}, 0.99)
    assert (limit.latency, limit.load) == ("", limit.without_slo)


def test_slo_unattainable_by_an_idle_engine_is_named_and_ignored() -> None:
    limit = load_limit({"itl_s": learned_latency(0.035, 0.1)}, {"itl_s": 0.03}, 0.95)
    assert limit.unattainable == "itl_s"
    assert limit.load == limit.without_slo
    assert limit.load > MIN_USEFUL_LOAD


def observed(**readings: Reading[float]) -> dict[str, LatencyObservation]:
    context = PolicyContext(NOW, {SignalName(f"e.{q}"): r for q, r in readings.items()}, 2, 2, None, History())
    return observed_latencies(context, "e", KNOWN)


def test_mean_latency_is_derived_from_the_p95_where_it_is_missing() -> None:
    assert observed(itl_mean_s=Fresh(0.02, NOW), itl_late_share=Fresh(0.0, NOW), itl_p95_s=Fresh(0.048, NOW)) == {
        "itl_s": LatencyObservation(0.02, 0.0)
    }
    derived = observed(itl_p95_s=Fresh(0.026, NOW))["itl_s"]
    assert derived.mean_s == pytest.approx(0.026 / (1.0 + 0.15 * 1.9957), rel=1e-4)
    assert derived.late_share is None


def test_partial_absent_or_invalid_latencies_are_ignored() -> None:
    assert observed(itl_mean_s=Fresh(0.02, NOW, "one did not answer"), ttft_mean_s=Absent("nothing was observed")) == {}
    assert observed(itl_mean_s=Fresh(float("nan"), NOW), ttft_mean_s=Fresh(0.0, NOW)) == {}
    assert observed(itl_mean_s=Fresh(0.02, NOW), itl_late_share=Absent("x"))["itl_s"].late_share is None


def test_slo_limits_contain_only_configured_latencies() -> None:
    assert slo_limits_s(spec({}, {}, slo=Slo(ttft_s=None, itl_s=0.03))) == {"itl_s": 0.03}
    assert slo_limits_s(None) == {}


def test_itl_spread_prior_grows_with_the_prompt_to_output_ratio() -> None:
    """As measured on an H100: conversations have 5 prompt tokens per output token, code has 70."""
    spreads = [recall_latencies({}, mix)["itl_s"].tail.spread for mix in (0.001, 5.3, 70.0, 1e9)]
    assert spreads == pytest.approx([0.05, 0.15, 0.54, 0.6], abs=0.005)
    assert recall_latencies({}, 0.0) == KNOWN, "an unknown mix keeps the priors"
    assert recall_latencies({}, 70.0)["ttft_s"] == KNOWN["ttft_s"]


def test_learned_latency_survives_a_memory_round_trip() -> None:
    for key in LATENCIES:
        learned = LearnedLatency(
            LoadLine(3.0, 1.2, 0.1, 0.01, 0.2), replace(KNOWN[key].tail, spread=0.3, variance=0.04)
        )
        assert LearnedLatency.from_memory(key, learned.memory(key)) == learned
