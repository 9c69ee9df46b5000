"""The shipped scenarios show the behaviour that their comments describe."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from policies.model import Absent, PoolName, RuleId, SignalName, Stale, Tick
from scaler.cli import main
from simulators.experiments.results import ResultSummary, summarize
from simulators.experiments.run import SimulationRun, simulate, traffic_of
from simulators.experiments.scenario import Case, load, load_workload
from simulators.world.infrastructure.events import NodeEventKind
from simulators.world.rng import streams
from simulators.world.traffic.shapes import Poisson
from simulators.world.traffic.trace import TraceError
from simulators.world.traffic.writers import write

pytestmark = pytest.mark.slow

SCENARIOS = Path(__file__).resolve().parents[3] / "config" / "scenarios"
FILES = sorted(SCENARIOS.glob("*.yaml"))


def case_of(name: str, workload: str | None = None) -> Case:
    case = load(SCENARIOS / f"{name}.yaml")
    if workload is None:
        return case
    file = SCENARIOS / "workloads" / f"{workload}.yaml"
    return case.under(load_workload(file), str(file))


@cache
def simulated(name: str, workload: str | None = None) -> tuple[SimulationRun, ResultSummary, list[Tick]]:
    case, ticks = case_of(name, workload), list[Tick]()
    run = simulate(case, case.scenario.seed, traffic_of(case, case.scenario.seed), record=[ticks.append])
    return run, summarize(run), ticks


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_every_scenario_has_a_purpose_and_the_name_of_its_file(file: Path) -> None:
    assert file.read_text(encoding="utf-8").startswith("# Purpose: ")
    assert load(file).scenario.scenario == file.stem


def test_every_shipped_workload_belongs_to_a_scenario() -> None:
    files = [*FILES, *SCENARIOS.glob("group-stockout/*.yaml")]
    report = "\n".join(file.read_text(encoding="utf-8") for file in files)
    assert [f.name for f in (SCENARIOS / "workloads").glob("*.yaml") if f"workloads/{f.name}" not in report] == []


def peak(workload: str) -> float:
    return max(simulated("trap", workload)[0].timeline.desired)


def test_hpa_value_target_overshoots_with_slow_starts() -> None:
    assert peak("trap-hpa-value") > 1000


def test_hpa_average_value_target_scales_with_the_backlog() -> None:
    assert peak("trap-hpa-average-value") == pytest.approx(162, rel=0.15)


def test_a_backlog_target_sized_for_the_start_up_avoids_the_overshoot() -> None:
    summary = simulated("trap", "trap")[1]
    assert peak("trap") <= 30
    assert summary.slo_met
    assert summary.cost_usd < 0.2 * simulated("trap", "trap-hpa-average-value")[1].cost_usd


def test_a_replica_of_the_trap_scenario_serves_ten_requests_per_second() -> None:
    run = simulated("trap", "trap")[0]
    finished_ps = np.sort(run.world.kernel.requests.finished_ps)
    answered = np.searchsorted(finished_ps, 180 * 10**12) - np.searchsorted(finished_ps, 60 * 10**12)
    assert answered / 120 == pytest.approx(10, rel=0.05)


def test_batches_scale_the_workers_from_zero_and_back_each_time() -> None:
    ready = np.array(simulated("batch-queue")[0].timeline.ready)
    working = ready > 0
    starts = np.flatnonzero(working[1:] & ~working[:-1])
    ends = np.flatnonzero(~working[1:] & working[:-1])
    assert not working[0]
    assert not working[-1]
    assert len(starts) == len(ends) >= 4


def test_messages_of_a_failed_worker_are_redelivered_and_none_is_lost() -> None:
    run, summary, _ = simulated("batch-queue")
    cut = [e.lost_requests for e in run.world.pools[PoolName("workers")].events if e.kind is NodeEventKind.FAILED]
    deliveries = run.world.kernel.requests.deliveries
    assert summary.streams_cut == sum(cut) > 0
    assert summary.finished == summary.arrived
    assert int((deliveries > 1).sum()) > 0


def test_redelivered_messages_wait_out_their_visibility_timeout() -> None:
    run = simulated("batch-queue")[0]
    requests = run.world.kernel.requests
    waited_s = (requests.finished_ps - requests.arrived_ps) / 10**12
    assert waited_s[requests.deliveries > 1].min() >= 120


def test_a_deadline_policy_meets_the_slo_at_lower_cost() -> None:
    by_depth, by_deadline = simulated("batch-queue")[1], simulated("batch-queue", "batch-queue-predictive")[1]
    assert by_deadline.slo_met
    assert by_deadline.finished == by_deadline.arrived
    assert by_deadline.cost_usd < 0.8 * by_depth.cost_usd


def test_spot_serves_while_available_and_outages_violate_no_slo() -> None:
    run, summary, _ = simulated("spot")
    sizes = {name: np.array(size) for name, size in run.timeline.pools.items()}
    spot = run.world.pools[PoolName("spot")]
    assert summary.slo_met
    assert summary.interruptions > 0
    assert sizes[PoolName("spot")].max() > 0
    assert {spot.offer.zones[e.zone].capacity for e in spot.events if e.kind is NodeEventKind.INTERRUPTED} == {3}
    assert {*summary.cost_by_market_usd} == {"reserved", "spot", "on_demand"}
    assert summary.cost_by_market_usd["reserved"] == pytest.approx(2 * 4.13 * run.end_s / 3600, rel=1e-6)


def test_slow_starts_violate_the_slo_for_eight_minutes_after_a_rise() -> None:
    run, summary, _ = simulated("cold-start")
    kernel = run.world.kernel
    arrival_s = kernel.requests.arrived_ps / 10**12
    ttft_s = (kernel.requests.first_token_ps - kernel.requests.arrived_ps) / 10**12
    during_rise = (arrival_s > 2460) & (arrival_s < 2400 + 480)
    before_rise = arrival_s < 2400
    assert not summary.slo_met
    assert np.median(ttft_s[before_rise]) < 0.1
    assert np.median(ttft_s[during_rise]) > 1.0


def test_a_shared_budget_limits_the_batch_workload_in_favour_of_chat() -> None:
    run, _, ticks = simulated("fleet")
    limit = run.case.scenario.fleet.max_usd_per_hour
    assert limit is not None
    assert 0.95 * limit < run.peak_usage["usd_per_hour"] <= limit
    limited = [
        t for t in ticks if t.workload == "batch-queue" and any(s.rule == RuleId.FLEET for s in t.decision.steps)
    ]
    decisions = [t.decision for t in limited]
    assert any((d.target or 0) + 2 < (d.demand or 0) for d in decisions), "the limited workload had more demand"
    assert summarize(run.concurrent[0]).finished == summarize(run.concurrent[0]).arrived


def test_missing_data_under_faults_prevents_scale_in() -> None:
    _, summary, ticks = simulated("faults")
    load = [SignalName(f"engines.{quantity}") for quantity in ("running", "waiting", "requests_per_s")]
    blind = [t for t in ticks if any(isinstance(t.observation.readings[s], Stale | Absent) for s in load)]
    lowered = [t for t in blind if t.decision.target is not None and t.decision.target < (t.decision.current or 0)]
    assert len(blind) > 0.2 * len(ticks)
    assert lowered == []
    assert summary.blind_ticks > 0
    assert summary.refused > 0


def test_the_faults_scenario_injects_every_fault_it_names() -> None:
    case, ticks = case_of("faults"), list[Tick]()
    for seed in range(1, 9):  # one fault affects only scale-out, which happens a dozen times per run
        simulate(case, seed, traffic_of(case, seed), record=[ticks.append])
    messages = " ".join(
        [e for t in ticks for e in (*t.observation.source_errors.values(), *t.observation.pool_errors.values())]
        + [o.reason for t in ticks for o in t.outcomes]
        + [r.reason for t in ticks for r in t.observation.readings.values() if isinstance(r, Absent)]
    )
    for message in ("connection reset", "too many requests", "no response within", "not permitted", "no capacity"):
        assert message in messages, message


def test_the_trace_option_replaces_the_scenarios_traffic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TraceError, match=r"requests\.csv\.gz"):
        traffic_of(case_of("trace"), 1)
    trace = Poisson(rps=5.0, duration_s=300.0).requests(streams(1))
    write(trace, tmp_path / "own.csv.gz")
    command = ["simulate", str(SCENARIOS / "trace.yaml"), "--trace", str(tmp_path / "own.csv.gz"), "--json", "-"]
    assert main(command) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["arrived"] == report["finished"] == len(trace)
    assert report["trace"] == trace.digest()[:16]
    assert report["duration_s"] == pytest.approx(trace.duration_s + 300.0)
