"""Estimates of late requests: their value, their method, and where they are unknown."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest

from policies.history.ticks import History
from policies.model import Absent, Fresh, Reading
from policies.model.spec import Slo, WorkloadSpec
from policies.recommend.predictive.latency_model import recall_latencies
from scaler.journal.reader import Journal
from scaler.shadow.counterfactual import HypotheticalQueue
from scaler.shadow.late_requests import (
    BY_REPLICA_RATE,
    LateRequestContext,
    LateRequestEstimator,
    ServingLoad,
    max_wait_of,
)
from tests.factories import NOW, live, seen, spec, tick_of
from tests.simulators.backtest import recorded_runs

SLO_SETTINGS = {"slo": Slo(ttft_s=2.0, itl_s=None)}


def workload(**settings: Any) -> WorkloadSpec:
    configured = spec(**{**SLO_SETTINGS, **settings})
    object.__setattr__(configured, "sources", {"engines": None})
    return configured


def rates(running: float, waiting: float, answered_rps: float, at: float = NOW) -> dict[str, Reading[float]]:
    values = {"running": running, "waiting": waiting, "requests_per_s": answered_rps}
    return {f"engines.{name}": Fresh(value, at) for name, value in values.items()}


def context(
    readings: Mapping[str, Reading[float]], ready: int = 2, at: float = NOW, **settings: Any
) -> LateRequestContext:
    configured = workload(**settings)
    observation = seen(readings, ready, at=at)
    (decision,) = live(configured, [readings], start=ready)
    return LateRequestContext(configured, History(), tick_of(observation, decision))


def test_replica_rate_is_a_lower_bound_until_requests_wait() -> None:
    estimator = LateRequestEstimator()
    load, method = estimator.estimate([context(rates(8, 0, 10.0))])
    assert method == BY_REPLICA_RATE
    assert load is not None
    assert (load.replica_rps, load.exact, load.arrivals_rps) == (5.0, False, 10.0)
    load, _ = estimator.estimate([context(rates(8, 0, 4.0), at=NOW + 15)])
    assert load is not None
    assert load.replica_rps == 5.0, "less work does not lower the measured replica rate"
    load, _ = estimator.estimate([context(rates(60, 100, 8.0), at=NOW + 30)])
    assert load is not None
    assert (load.replica_rps, load.exact) == (4.0, True)


def test_arrival_rate_is_answered_rate_plus_queue_growth() -> None:
    estimator = LateRequestEstimator()
    estimator.estimate([context(rates(10, 0, 10.0))])
    load, _ = estimator.estimate([context(rates(20, 50, 10.0, NOW + 30), at=NOW + 30)])
    assert load is not None
    assert load.arrivals_rps == pytest.approx(10.0 + 60.0 / 30.0)
    load, _ = estimator.estimate([context(rates(0, 0, 1.0, NOW + 45), at=NOW + 45)])
    assert load is not None
    assert load.arrivals_rps >= 0.0, "no rate is negative"


def test_clock_jump_does_not_change_the_queue_growth_rate() -> None:
    estimator = LateRequestEstimator()
    estimator.estimate([context(rates(10, 0, 10.0))])
    estimator.shift(3600.0)
    load, _ = estimator.estimate([context(rates(10, 30, 10.0, NOW + 3615), at=NOW + 3615)])
    assert load is not None
    assert load.arrivals_rps == pytest.approx(12.0)


@pytest.mark.parametrize(
    ("contexts", "reason"),
    [
        pytest.param([context(rates(8, 0, 10.0), slo=None)], "the workload has no SLO", id="no SLO"),
        pytest.param(
            [context({})], "no source provides fresh readings of running, waiting, requests_per_s", id="no source"
        ),
        pytest.param(
            [context({**rates(8, 0, 10.0), "engines.waiting": Absent("503")})],
            "no source provides fresh readings",
            id="one is absent",
        ),
        pytest.param(
            [context({**rates(8, 0, 10.0), "engines.running": Fresh(8.0, NOW, "1 of 2 replicas did not answer")})],
            "no source provides fresh readings",
            id="a lower bound",
        ),
    ],
)
def test_load_is_none_with_reason_when_readings_are_missing(contexts: list[LateRequestContext], reason: str) -> None:
    load, method = LateRequestEstimator().estimate(contexts)
    assert load is None
    assert reason in method


def test_first_context_with_readings_provides_the_load() -> None:
    blind, readable = context({}), context(rates(8, 0, 10.0))
    load, _ = LateRequestEstimator().estimate([blind, readable])
    assert load is not None
    assert load.arrivals_rps == 10.0


@pytest.mark.parametrize(
    ("slo", "expected"),
    [
        pytest.param(Slo(ttft_s=2.0), 2.0, id="time to first token"),
        pytest.param(Slo(ttft_s=None, itl_s=None, e2e_s=30.0), 30.0, id="whole request"),
        pytest.param(Slo(ttft_s=None, itl_s=0.05), None, id="no wait is promised"),
        pytest.param(None, None, id="nothing"),
    ],
)
def test_max_wait_is_the_slo_on_first_token_or_whole_request(slo: Slo | None, expected: float | None) -> None:
    assert max_wait_of(workload(slo=slo)) == expected


def test_late_share_without_latency_model_is_zero() -> None:
    assert ServingLoad(10.0, 5.0, 1.0).late_share(0.0) == 0.0


def test_late_share_falls_with_more_replicas() -> None:
    line = recall_latencies({})["ttft_s"]
    shares = [
        ServingLoad(10.0, 5.0, 1.0, total_load=4.0, lines=((line, 1.0),)).late_share(n)
        for n in (1.0, 2.0, 4.0, 8.0, 40.0)
    ]
    assert shares == sorted(shares, reverse=True)
    assert all(0.0 <= share <= 1.0 for share in shares)
    assert ServingLoad(10.0, 5.0, 1.0, total_load=4.0, lines=((line, 1.0),)).late_share(0.0) == 1.0


@pytest.mark.slow
def test_predicted_late_requests_are_near_the_simulated_ones() -> None:
    """Compare with the simulator's truth in a flash crowd on too few replicas: within a factor of 1.5."""
    period = recorded_runs.period()
    true = period.summary.arrived * (1 - period.summary.attainment["all"])
    configured, estimator, queue, predicted = (
        period.run.case.workload.spec,
        LateRequestEstimator(),
        HypotheticalQueue(),
        0.0,
    )
    for before, now in itertools.pairwise(Journal(period.journal)):
        load, _ = estimator.estimate([LateRequestContext(configured, History(), now)])
        if load is not None:
            predicted += queue.advance(now.at - before.at, float(before.decision.ready or 0), load) or 0.0
    assert true > 1000
    assert true / 1.5 < predicted < 1.5 * true
