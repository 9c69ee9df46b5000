"""The summary of a run: money, SLO attainment, interruptions, failed ticks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from policies.history.ticks import History
from policies.model import Fresh, Outcome, PoolStatus, Reading, Result, Tick, WorkloadName
from policies.model.pool import Pool
from policies.model.spec import WorkloadSpec
from policies.pipeline import decide
from scaler.telemetry.run_summary import RunSummary, WorkloadTotals
from tests.factories import CHAT_SLO, MAIN, NOW, fresh, queue, seen, spec, stale
from tests.slo import ENGINES, with_error_budgets

LLM = WorkloadName("llm")
PRICED = spec(pools={"main": Pool(price_usd_per_hour=6.0)})


def with_slo(workload: WorkloadSpec) -> WorkloadSpec:
    return replace(workload, slo=CHAT_SLO, sources={"engines": ENGINES})


def tick(
    workload: WorkloadSpec,
    at: float,
    readings: Mapping[str, Reading[float]] | None = None,
    *,
    interrupted: int = 0,
    result: Result = Result.UNCHANGED,
    desired: int = 2,
) -> Tick:
    """Return a tick that keeps its 2 replicas: 20 messages at 10 per replica."""
    pools = {"main": Fresh(PoolStatus(desired, desired, interrupted=interrupted), at)}
    observation = seen({**queue(20), **(readings or {})}, at=at, pools=pools)
    outcomes = (Outcome(MAIN, 2, 2, result),)
    return Tick("f", observation, decide(workload, History(), observation), outcomes, 0, 0.0, 0.1)


def totals(workload: WorkloadSpec, *ticks: Tick) -> WorkloadTotals:
    summary = RunSummary()
    for one in with_error_budgets(ticks, workload):
        summary.add(one, workload)
    return summary.workloads[LLM]


def engines(rate: float, ttft_late: float, itl_late: float) -> dict[str, Reading[float]]:
    values = {"requests_per_s": rate, "ttft_late_share": ttft_late, "itl_late_share": itl_late}
    return {f"engines.{quantity}": fresh(value) for quantity, value in values.items()}


def test_cost_is_the_decided_size_until_the_next_tick() -> None:
    """2 replicas at 6 USD per hour for 15 s + 15 s are 0.10 USD. The last tick has no next one."""
    result = totals(PRICED, *(tick(PRICED, NOW + 15 * i) for i in range(3)))
    assert result.cost.usd == pytest.approx(0.1)
    assert result.cost.text() == "$0.10"
    assert result.as_dict()["cost_usd"] == 0.1


def test_gap_without_ticks_costs_one_interval() -> None:
    result = totals(PRICED, tick(PRICED, NOW), tick(PRICED, NOW + 36_000))
    assert result.cost.usd == pytest.approx(2 * 6.0 * PRICED.interval_s / 3600)


def test_jump_of_the_clock_costs_nothing() -> None:
    jumped = replace(tick(PRICED, NOW + 3615), clock_step_s=3600.0)
    assert totals(PRICED, tick(PRICED, NOW), jumped).cost.known_s == 15


def test_cost_without_a_price_is_unknown_and_not_zero() -> None:
    result = totals(spec(), tick(spec(), NOW), tick(spec(), NOW + 15))
    assert result.cost.text() == "unknown (no price_usd_per_hour)"
    assert result.as_dict()["cost_usd"] is None
    assert "unknown (no price_usd_per_hour)" in RunSummary({LLM: result}).text()


def test_cost_that_is_unknown_for_a_part_of_the_time_is_a_lower_bound() -> None:
    unpriced = replace(
        tick(PRICED, NOW + 15), decision=replace(tick(PRICED, NOW + 15).decision, cost_usd_per_hour=None)
    )
    result = totals(PRICED, tick(PRICED, NOW), unpriced, tick(PRICED, NOW + 30))
    assert result.cost.text() == "at least $0.05"
    assert result.as_dict()["cost_usd"] is None


def test_slo_attainment_weighs_ticks_by_their_requests() -> None:
    """10 requests/s with 4 % late (the larger share), then 30 with none: 0.4 of 40 are late."""
    workload = with_slo(PRICED)
    rates = [(9, 1, 1), (10, 0.01, 0.04), (30, 0, 0), (0, 1, 1)]  # the first tick has no time before it
    ticks = (tick(workload, NOW + 15 * i, engines(*e)) for i, e in enumerate(rates))
    result = totals(workload, *ticks)
    assert result.slo_attainment == pytest.approx(0.99)
    assert result.as_dict()["slo_share"] == 0.99
    assert "99.00 % of 99 %: met" in result.cells()


def test_missed_slo_is_named() -> None:
    workload = with_slo(PRICED)
    result = totals(workload, *(tick(workload, NOW + 15 * i, engines(10, 0.02, 0)) for i in range(2)))
    assert "98.00 % of 99 %: missed" in result.cells()


def test_spent_error_budget_is_a_line_of_the_text() -> None:
    workload = with_slo(PRICED)
    burning = totals(workload, *(tick(workload, NOW + 300 * i, engines(10, 0.02, 0)) for i in range(14)))
    figures = burning.as_dict()
    assert figures["slo_state"] == "violated"
    assert figures["budget_remaining"] == pytest.approx(-1.0)
    burn_rates = "burn rate 2.00 over 1h, 2.00 over 6h, 2.00 over 3d, 2.00 over 28d"
    line = f"llm: SLO violated: {burn_rates}; the error budget of 28d is overspent by 100.0 %"
    assert line in RunSummary({LLM: burning}).text().splitlines()
    calm = totals(workload, *(tick(workload, NOW + 300 * i, engines(10, 0.005, 0)) for i in range(14)))
    assert (calm.as_dict()["slo_state"], "SLO met" in RunSummary({LLM: calm}).text()) == ("met", False)


@pytest.mark.parametrize(
    ("workload", "readings", "text"),
    [
        (PRICED, engines(10, 0.5, 0), "no slo is set"),
        (with_slo(PRICED), {}, "unknown (not measured)"),
        (with_slo(PRICED), {"engines.requests_per_s": fresh(10)}, "unknown (not measured)"),
        (with_slo(PRICED), {**engines(10, 0, 0), "engines.requests_per_s": stale(10)}, "unknown (not measured)"),
    ],
    ids=["no slo", "no readings", "no latency", "stale rate"],
)
def test_unknown_slo_attainment_is_not_a_share(
    workload: WorkloadSpec, readings: Mapping[str, Reading[float]], text: str
) -> None:
    result = totals(workload, *(tick(workload, NOW + 15 * i, readings) for i in range(2)))
    assert result.slo_attainment is None
    assert text in result.cells()


def test_interruptions_are_the_growth_of_the_counter_across_restarts() -> None:
    result = totals(PRICED, *(tick(PRICED, NOW + 15 * i, interrupted=n) for i, n in enumerate([5, 7, 1, 1])))
    assert result.interruptions == 3
    assert result.as_dict()["interruptions"] == 3


def test_ticks_with_a_failed_read_or_a_refused_write_have_errors() -> None:
    unread = tick(PRICED, NOW + 15)
    unread = replace(unread, observation=replace(unread.observation, source_errors={"queue": "timeout"}))
    refused = tick(PRICED, NOW + 30, result=Result.CONFLICT)
    result = totals(PRICED, tick(PRICED, NOW, result=Result.ACCEPTED), unread, refused)
    assert (result.errors, result.resizes, result.as_dict()["refused"]) == (2, 1, 1)


def test_ticks_that_a_defect_ended_are_counted_apart() -> None:
    summary = RunSummary()
    summary.add(tick(PRICED, NOW), PRICED)
    summary.add_failed({LLM: 3, WorkloadName("broken"): 1})
    assert [line.split()[:3] for line in summary.text().splitlines()[1:3]] == [["broken", "0", "1"], ["llm", "1", "3"]]


def test_text_adds_the_cost_of_all_workloads_and_marks_a_dry_run() -> None:
    summary = RunSummary()
    for name in ("chat", "summaries"):
        for i in range(2):
            one = replace(tick(PRICED, NOW + 15 * i), dry_run=True)
            observation = replace(one.observation, workload=WorkloadName(name))
            summary.add(replace(one, observation=observation), PRICED)
    lines = summary.text().splitlines()
    assert lines[0].split()[:3] == ["workload", "ticks", "failed"]
    assert [line.split()[0] for line in lines[1:3]] == ["chat", "summaries"]
    assert lines[3] == "cost of all workloads: $0.10"
    assert lines[4].startswith("Dry run: no pool was resized.")
    assert max(map(len, lines[:-1])) <= 110
