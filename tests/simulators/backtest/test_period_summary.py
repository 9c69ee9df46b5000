"""Summary of a period: cost, idle cost, late requests and notable periods, by hand and against the truth."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.model import PoolName, Result
from policies.model.names import RouteName
from policies.model.route import RouteDecision
from policies.model.tick import RouteOutcome
from simulators.backtest.columns import TickColumns
from simulators.backtest.journals import read
from simulators.backtest.period_summary import notable_periods, paid_replicas, summarize_period
from simulators.backtest.recorded_run import LACKING, RecordedRun
from simulators.backtest.supply import capacity, interruptions_per_hour, shortage_share
from simulators.backtest.text import headline, no_problem, slo_line
from simulators.experiments.slo_outcome import SloStatus
from tests.factories import live, seen, spec, tick_of
from tests.simulators.backtest import recorded_runs
from tests.simulators.backtest.recorded_runs import NAN, make_recorded_run

GPUS = PoolName("gpus")
HOUR = 240
"""Ticks of 15 s."""


def pool(market: str = "on_demand", price: float | None = 6.0, **sizes: Any) -> dict[str, Any]:
    return {"kind": "kubernetes", "name": "vllm", "market": market, "price_usd_per_hour": price, **sizes}


# --- cost


@pytest.mark.slow
def test_recorded_cost_matches_the_simulated_bill() -> None:
    """Compare with the simulator's own bill, which charges each node from its start to its end."""
    period = recorded_runs.period()
    (record,) = read([period.journal], -math.inf, math.inf, None).recorded
    summary = summarize_period(record)
    assert summary.total(summary.usd) == pytest.approx(period.summary.cost_usd, rel=0.03)
    assert summary.known(summary.usd) == 1.0
    assert summary.replica_hours == pytest.approx(period.summary.node_hours, rel=0.05)


def test_replicas_cost_their_price_for_the_time_held() -> None:
    summary = summarize_period(make_recorded_run(HOUR, pools={"gpus": {"desired": [3] * HOUR, "ready": [3] * HOUR}}))
    assert summary.total(summary.usd) == pytest.approx(18.0)
    assert summary.replica_hours == pytest.approx(3.0)


def test_requests_to_token_apis_are_reported_apart() -> None:
    costs = [0.0] * (HOUR // 2) + [8.0] * (HOUR // 2)
    summary = summarize_period(make_recorded_run(HOUR, columns={"api_usd_per_hour": costs}))
    assert summary.total(summary.api_usd) == pytest.approx(4.0)
    assert headline(summary).endswith("for $12.00, and $4.00 for token APIs.")
    unknown = summarize_period(make_recorded_run(HOUR, columns={"api_usd_per_hour": [NAN] * HOUR}))
    assert headline(unknown).endswith("for $12.00, and unknown for token APIs.")
    assert headline(summarize_period(make_recorded_run(HOUR))).endswith("for $12.00.")


@pytest.mark.parametrize(
    ("split", "result", "usd_per_hour"),
    [
        (RouteDecision({}, "", usd_per_hour=8.0), Result.ACCEPTED, 8.0),
        (RouteDecision({}, "", is_kept=True, usd_per_hour=8.0), Result.UNCHANGED, 8.0),
        (RouteDecision({}, "", usd_per_hour=8.0), Result.DRY_RUN, NAN),
        (RouteDecision({}, "", usd_per_hour=None), Result.ACCEPTED, NAN),
    ],
)
def test_cost_of_a_split_is_known_if_it_is_applied(split: RouteDecision, result: Result, usd_per_hour: float) -> None:
    chat, columns = RouteName("chat"), TickColumns()
    tick = tick_of(seen({}), live(spec(), [{}])[0])
    decision = dataclasses.replace(tick.decision, routes={chat: split})
    columns.add(dataclasses.replace(tick, decision=decision, route_outcomes=(RouteOutcome(chat, {}, {}, result),)))
    assert columns.fixed["api_usd_per_hour"].tolist() == pytest.approx([usd_per_hour], nan_ok=True)


def test_replicas_without_capacity_are_not_billed() -> None:
    desired, ready = [5] * 40, [2] * 40
    paid = paid_replicas(make_recorded_run(40, pools={"gpus": {"desired": desired, "ready": ready}}), GPUS)
    assert paid[:30].tolist() == [2.0] * 30
    assert paid[-1] == 5.0, "the last start may complete after the end of the period"


def test_a_start_is_billed_from_its_request() -> None:
    desired, ready = [2, 4, 4, 4, 4, 4, 4, 4], [2, 2, 2, 2, 4, 4, 4, 4]
    paid = paid_replicas(make_recorded_run(8, pools={"gpus": {"desired": desired, "ready": ready}}), GPUS)
    assert paid.tolist() == desired


def test_a_reservation_is_billed_in_full_without_idle_cost() -> None:
    sizes = {"desired": [1] * HOUR, "ready": [1] * HOUR, "reserved": [4] * HOUR}
    summary = summarize_period(
        make_recorded_run(HOUR, pools={"gpus": sizes}, workload_pools={"gpus": pool("reserved", 2.0)})
    )
    assert summary.total(summary.usd) == pytest.approx(8.0)
    assert summary.total(summary.idle_usd) == 0.0


def test_cost_is_unknown_without_a_price_unless_the_pool_is_empty() -> None:
    pools = {"gpus": pool(), "other": pool(price=None)}
    empty = {"gpus": {}, "other": {"desired": [0] * 8, "ready": [0] * 8}}
    summary = summarize_period(make_recorded_run(8, pools=empty, workload_pools=pools))
    assert (summary.unpriced, summary.known(summary.usd)) == ((), 1.0)
    used = summarize_period(make_recorded_run(8, pools={"gpus": {}, "other": {}}, workload_pools=pools))
    assert (used.unpriced, used.total(used.usd)) == (("other",), None)


def test_idle_cost_is_that_of_replicas_beyond_the_demand() -> None:
    summary = summarize_period(make_recorded_run(HOUR, columns={"demand": [0.5] * HOUR}))
    assert summary.total(summary.idle_usd) == pytest.approx(9.0)
    measured = summarize_period(make_recorded_run(HOUR, columns={"demand": [2.0] * HOUR, "work": [1.0] * HOUR}))
    assert measured.total(measured.idle_usd) == pytest.approx(6.0), "measured work takes precedence over the forecast"
    unknown = summarize_period(make_recorded_run(HOUR, columns={"demand": [NAN] * HOUR, "work": [NAN] * HOUR}))
    assert unknown.total(unknown.idle_usd) is None


# --- late requests


def test_estimated_late_requests_are_close_to_the_truth() -> None:
    period = recorded_runs.period()
    (record,) = read([period.journal], -math.inf, math.inf, None).recorded
    summary = summarize_period(record)
    late = period.summary.arrived * (1 - period.summary.attainment["all"])
    late_requests = summary.total(summary.late)
    assert late_requests is not None
    assert late > 1000, "the crowd arrives before the replicas are ready"
    assert 0.6 * late < late_requests < 1.5 * late


@pytest.mark.parametrize(
    ("workload", "readings", "message"),
    [
        pytest.param({"slo": None}, {}, "the workload has no slo", id="no promise"),
        pytest.param({}, {"engines.requests_per_s": [5.0] * 8}, "no source provides requests_per_s with", id="no tail"),
        pytest.param({}, {"engines.ttft_p95_s": [5.0] * 8}, "no source provides requests_per_s with", id="no rate"),
    ],
)
def test_unknown_late_requests_have_a_reason(
    workload: dict[str, Any], readings: Mapping[str, Sequence[float]], message: str
) -> None:
    summary = summarize_period(make_recorded_run(8, readings=readings, **workload))
    assert summary.total(summary.late) is None
    assert message in summary.late_method
    assert summary.slo_status is SloStatus.UNKNOWN
    assert slo_line(summary).startswith("SLO unknown: ")
    assert message in slo_line(summary)


@pytest.mark.parametrize(
    ("late_share", "line"),
    [
        (0.000064, "SLO met: about 0.077 late of 1,200 (0.0064%), 1% allowed: burn rate 0.0064; from ttft_late_share."),
        (0.031, "SLO missed: about 37 late of 1,200 (3.10%), 1% allowed: burn rate 3.1; from ttft_late_share."),
    ],
)
def test_the_first_line_says_whether_the_slo_was_met(late_share: float, line: str) -> None:
    readings = {"engines.ttft_late_share": [late_share] * 8, "engines.requests_per_s": [10.0] * 8}
    assert slo_line(summarize_period(make_recorded_run(8, readings=readings))) == line


def test_an_slo_known_for_too_little_of_the_time_is_unknown() -> None:
    readings = {"engines.ttft_late_share": [0.0] * 4 + [NAN] * 4, "engines.requests_per_s": [10.0] * 8}
    summary = summarize_period(make_recorded_run(8, readings=readings))
    assert slo_line(summary) == "SLO unknown: late requests are known for 50% of the time only."


def test_ticks_without_a_latency_add_no_late_requests_and_lower_coverage() -> None:
    tail = [0.1] * 4 + [30.0, 30.0, NAN, NAN]
    readings = {"engines.ttft_p95_s": tail, "engines.requests_per_s": [10.0] * 8}
    summary = summarize_period(make_recorded_run(8, readings=readings))
    assert summary.known(summary.late) == pytest.approx(0.75)
    assert np.isfinite(summary.late).tolist() == [True] * 6 + [False] * 2
    assert summary.late[5] > 10.0 * summary.late[0]
    assert summary.late[5] <= 150.0, "no more than the arrived requests"


def test_reported_late_shares_take_precedence_over_latencies() -> None:
    late = [0.0, 0.0, 0.1, 0.2, 0.0, 0.0, 0.0, NAN]
    readings = {"engines.itl_late_share": late, "engines.requests_per_s": [10.0] * 8, "engines.itl_p95_s": [9.0] * 8}
    summary = summarize_period(make_recorded_run(8, readings=readings))
    assert summary.total(summary.late) == pytest.approx(10.0 * 15.0 * 0.3)
    assert summary.late_method == "from itl_late_share"


# --- notable periods


def test_the_hour_with_the_crowd_is_the_first_notable_period() -> None:
    (record,) = read([recorded_runs.period().journal], -math.inf, math.inf, None).recorded
    ranked = notable_periods(summarize_period(record))
    first = ranked[0]
    assert first.kind == "SLO violations"
    assert first.since <= recorded_runs.BEGAN + 1500 <= first.since + first.over_s
    assert first.since <= first.worst < first.since + first.over_s
    assert recorded_runs.BEGAN + 1500 <= first.worst <= recorded_runs.BEGAN + 2100
    amounts = [period.amount for period in ranked if period.kind == "SLO violations"]
    assert amounts == sorted(amounts, reverse=True)


@pytest.mark.parametrize(
    ("column", "values", "what", "amount", "worst"),
    [
        pytest.param("short", [0, 1, 1, 1, 0, 0], "capacity shortage", 3.0, 1, id="capacity shortage"),
        pytest.param("refused", [0, 1, 3, 0, 0, 0], "rejected writes", 4.0, 2, id="refused"),
        pytest.param("errors", [0, 0, 0, 0, 2, 0], "read errors", 2.0, 4, id="errors"),
        pytest.param("override_change", [0, 12, 36, 12, 0, 0], "override", 0.25, 2, id="override"),
    ],
)
def test_each_kind_of_problem_is_ranked(
    column: str, values: Sequence[float], what: str, amount: float, worst: int
) -> None:
    record = make_recorded_run(6, columns={column: values})
    (period,) = notable_periods(summarize_period(record))
    assert period.kind == what
    assert period.amount == pytest.approx(amount)
    assert period.worst == record.at[worst]


def test_long_blind_periods_and_gaps_are_notable_and_a_single_tick_is_not() -> None:
    blind = np.zeros(100)
    blind[10], blind[30:40] = 1, 1
    at = recorded_runs.BEGAN + 15.0 * np.arange(100)
    at[60:] += 1800.0
    ranked = notable_periods(
        summarize_period(make_recorded_run(100, columns={"blind": blind.tolist(), "at": at.tolist()}))
    )
    assert [(period.kind, period.over_s) for period in ranked] == [("blind", 150.0), ("gap", 1800.0)]
    assert ranked[0].since == at[30]
    assert ranked[1].since == at[59] + 15.0


def test_a_quiet_period_has_no_notable_periods() -> None:
    assert notable_periods(summarize_period(make_recorded_run(50))) == []


def test_unknown_figures_are_not_called_free_of_problems() -> None:
    """A run without measured latencies and without a price."""
    run = make_recorded_run(50, workload_pools={"gpus": pool(price=None)})
    assert no_problem(summarize_period(run)) == (
        "No problems: no blind ticks or rejected writes. Unknown: SLO violations and idle cost."
    )


@pytest.mark.slow
@given(st.lists(st.floats(0, 100), min_size=4, max_size=60))
def test_notable_periods_never_sum_to_more_than_the_total(values: list[float]) -> None:
    record = make_recorded_run(len(values), columns={"errors": values})
    amount = sum(period.amount for period in notable_periods(summarize_period(record)) if period.kind == "errors")
    assert amount <= sum(values) + 1e-6


# --- supply


def run_with_shortage(ready: Sequence[float], shortage: Sequence[float], **sizes: Sequence[float]) -> RecordedRun:
    sizes = {"desired": [4] * len(ready), "ready": ready, LACKING: shortage, **sizes}
    return make_recorded_run(len(ready), pools={"gpus": sizes}, interval_s=60.0)


def test_a_shortage_limits_capacity_to_the_ready_replicas_until_it_ends() -> None:
    record = run_with_shortage([1, 1, 1, 1, 1, 4, 4, 4], [0, 1, 1, 0, 0, 0, 0, 0])
    steps = capacity(record, GPUS)
    assert [(s.at_s, min(s.nodes, 99)) for s in steps] == [(0.0, 99), (60.0, 1), (180.0, 99)]
    assert shortage_share(steps, record.span_s) == pytest.approx(2 / 8)


def test_a_shortage_without_another_attempt_lasts_half_an_hour() -> None:
    steps = capacity(run_with_shortage([1] * 60, [0, 1, *[0] * 58]), GPUS)
    assert [(s.at_s, min(s.nodes, 99)) for s in steps] == [(0.0, 99), (60.0, 1), (60.0 + 31 * 60.0, 99)]


def test_replicas_lost_outside_of_a_shortage_count_as_interruptions() -> None:
    record = run_with_shortage([4] * 60, [0] * 60, interrupted=[0] * 30 + [2] * 30)
    assert interruptions_per_hour(record, GPUS) == pytest.approx(0.5)
    assert capacity(record, GPUS) == ()
