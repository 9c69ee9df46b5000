"""Comparison of policies: the same seeds for all in any process; intervals, verdicts and regret."""

from __future__ import annotations

import dataclasses
import json
import math
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.model.spec import Slo
from scaler.cli import main
from simulators.experiments.compare import Comparison, Replication, compare
from simulators.experiments.contenders.contenders import contenders
from simulators.experiments.results import ResultSummary
from simulators.experiments.scenario import load
from simulators.reporting import comparison
from simulators.reporting.table import MAX_NAME, folded, seconds
from simulators.world.traffic.trace import RequestTrace
from simulators.world.traffic.writers import write

pytestmark = pytest.mark.slow

SCENARIO = """
scenario: small
workload: workloads/small.yaml
traffic: {kind: TRAFFIC, duration_s: 900, prompt: {mean_tokens: 900, cv: 0.5}, output: {mean_tokens: 150, cv: 0.5}}
pools:
  gpus:
    model: llama-3.1-8b-h100-vllm
    price_usd_per_hour: 6.88
    market: spot
    zones: {a: {losses_per_node_hour: 3}}
    start_up: {node: {median_s: 20, sigma: 0.5}, image: {median_s: 5}, weights: {median_s: 5}}
initial_replicas: {gpus: 1}
settle_s: 60
slo: {ttft_s: 0.4, itl_s: 0.03, share: 0.9}
"""
WORKLOAD = """
workload: small
max_replicas: 6
interval_s: 15
sources:
  engines: {kind: prometheus, url: "http://prometheus:9090", preset: vllm, read: [running, waiting, kv_cache_usage]}
policies:
  concurrency: {kind: concurrency, target_per_replica: 12}
pools:
  gpus: {kind: kubernetes, name: vllm, namespace: llm}
"""
POISSON = "poisson, rps: 6"
CROWD = "flash_crowd, base_rps: 5, factor: 6, at_s: 200"


def write_scenario(folder: Path, traffic: str = POISSON) -> Path:
    """Write a small scenario and its workload: a quarter of an hour on spot nodes with interruptions."""
    (folder / "workloads").mkdir()
    (folder / "workloads" / "small.yaml").write_text(WORKLOAD)
    file = folder / "small.yaml"
    file.write_text(SCENARIO.replace("TRAFFIC", traffic))
    return file


@cache
def compared(traffic: str, policies: tuple[str, ...], count: int, jobs: int = 1) -> Comparison:
    case = load(write_scenario(Path(mkdtemp()), traffic))
    return compare(contenders(case, policies), range(1, count + 1), jobs=jobs)


def crowd(count: int = 3) -> Comparison:
    return compared(CROWD, ("static:replicas=5", "hpa:target=24"), count)


def test_contenders_share_requests_per_seed_and_seeds_differ() -> None:
    result = crowd()
    traces = [{result.runs[name][r].summary.trace for name in result.names} for r in range(3)]
    assert all(len(traces_of_seed) == 1 for traces_of_seed in traces)
    assert len(set.union(*traces)) == 3
    assert not result.replayed


def test_the_same_policy_twice_has_equal_results() -> None:
    result = compared(CROWD, ("self:interval_s=15",), 2)
    own, repeated = ([dataclasses.asdict(r.summary) for r in result.runs[name]] for name in result.names)
    assert own == repeated
    assert all(c.equal and not c.significant for c in result.contrasts())


def test_parallel_processes_do_not_change_the_results() -> None:
    policies = ("static:replicas=5", "hpa:target=24")
    serial, parallel = compared(CROWD, policies, 2), compared(CROWD, policies, 2, jobs=2)
    assert json.dumps(serial.runs, default=dataclasses.asdict) == json.dumps(parallel.runs, default=dataclasses.asdict)
    assert list(comparison.lines(serial)) == list(comparison.lines(parallel))


def test_comparison_progress_runs_from_zero_to_one() -> None:
    case = load(write_scenario(Path(mkdtemp())))
    shares: list[float] = []
    compare(contenders(case, []), [1, 2], progress=shares.append)
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_a_replayed_trace_keeps_its_requests_and_varies_other_randomness() -> None:
    case = load(write_scenario(Path(mkdtemp())))
    trace = RequestTrace(np.arange(0, 600, 0.2), np.full(3000, 900), np.full(3000, 100))
    result = compare(contenders(case, ["static:replicas=3"]), [1, 2], trace)
    assert result.replayed
    assert len({r.summary.ttft_s.mean for r in result.runs["static:replicas=3"]}) == 2
    assert "all replay the same requests" in "\n".join(comparison.notes(result))


def summary(**figures: object) -> ResultSummary:
    """Return a real run's figures with some changed."""
    base = crowd().runs["small"][0].summary
    return dataclasses.replace(base, **figures)  # type: ignore[arg-type]


def comparison_of(
    costs: dict[str, list[float]], attainment: dict[str, list[float]], oracle: str | None = None
) -> Comparison:
    runs = {
        name: tuple(
            Replication(summary(cost_usd=cost, attainment={"all": share}, slo_met=share >= 0.9))
            for cost, share in zip(costs[name], attainment[name], strict=True)
        )
        for name in costs
    }
    count = len(next(iter(costs.values())))
    return Comparison("made", Slo(ttft_s=1.0, share=0.9), tuple(range(count)), False, oracle, runs)


ALIKE = [0.95, 0.96, 0.94, 0.95]


def test_differences_are_paired_and_corrected_for_multiple_comparisons() -> None:
    result = comparison_of(
        {"own": [10, 20, 30, 40], "dear": [12, 22.1, 31.9, 42], "noisy": [9, 25, 27, 44]},
        {"own": ALIKE, "dear": ALIKE, "noisy": [0.99, 0.91, 0.97, 0.93]},
    )
    contrasts = {(c.name, c.measure): c for c in result.contrasts()}
    expensive = contrasts["dear", "cost_usd"]
    assert expensive.estimate.mean == pytest.approx(2.0)
    assert expensive.significant
    assert not contrasts["noisy", "cost_usd"].significant
    assert contrasts["dear", "attainment"].equal
    text = "\n".join(comparison.lines(result))
    assert "No significant difference: noisy in cost, noisy in SLO." in text
    assert "+$2.00 ± " in text


def test_one_replication_supports_no_significance_claim() -> None:
    result = comparison_of({"own": [10], "other": [12]}, {"own": [0.95], "other": [0.94]})
    text = "\n".join(comparison.lines(result))
    assert "so differences may be noise" in text
    assert "±" not in text
    assert "p=" not in text
    assert "+$2.00 (+20.0%)" in text


def test_regret_is_reported_only_for_policies_that_met_the_slo() -> None:
    result = comparison_of(
        {"own": [10.0, 11.0], "cheap": [4.0, 4.0], "oracle": [5.0, 5.0]},
        {"own": [0.95, 0.95], "cheap": [0.95, 0.5], "oracle": [0.9, 0.9]},
        oracle="oracle",
    )
    regrets = result.regrets()
    assert set(regrets) == {"own", "cheap"}
    assert regrets["own"].usd is not None
    assert regrets["own"].usd.mean == 5.5
    assert regrets["own"].share == pytest.approx(1.1)
    assert (regrets["cheap"].usd, regrets["cheap"].missed) == (None, 1)
    assert [c.name for c in result.contrasts()] == ["cheap", "cheap"]
    assert "SLO missed in 1 of 2" in "\n".join(comparison.lines(result))


def test_the_headline_names_the_cheapest_policy_that_met_the_slo() -> None:
    attainment = {"own": [0.95, 0.95], "cheap": [0.95, 0.5], "mid": [0.91, 0.92]}
    text = comparison.headline(comparison_of({"own": [10, 10], "cheap": [4, 4], "mid": [7, 9]}, attainment))
    assert text == (
        "2 of 3 policies met the SLO target of 90% in every replication: mid and own. The cheapest of them is mid at"
        " $8.00, -20.0% compared with own, which also met the target."
    )
    assert "No policy met" in comparison.headline(comparison_of({"own": [1.0]}, {"own": [0.1]}))


def test_contenders_that_met_the_slo_come_first_each_group_by_cost() -> None:
    costs = {"own": [10.0, 10.0], "cheap": [4.0, 4.0], "mid": [7.0, 9.0], "dear": [90.0, 90.0], "bad": [3.0, 3.0]}
    attainment = {
        "own": [0.8, 0.95],
        "cheap": [0.95, 0.5],
        "mid": [0.91, 0.92],
        "dear": [0.99, 0.99],
        "bad": [0.1, 0.2],
    }
    result = comparison_of(costs, attainment)
    assert result.names == ["mid", "dear", "bad", "cheap", "own"]
    assert result.base == "own"
    rows = comparison.ranking(result)
    assert [cells[0] for _, cells in rows] == [
        "met",
        "met",
        "missed by 80.00 points in 2 of 2",
        "missed by 40.00 points in 1 of 2",
        "missed by 10.00 points in 1 of 2",
    ]
    assert [cells[-1] for _, cells in rows] == ["-20.0%", "+800.0%", "-70.0%", "-60.0%", "baseline"]
    assert [result.missed_by(name) for name in result.names] == pytest.approx([0.0, 0.0, 0.8, 0.4, 0.1])


def test_without_an_slo_nothing_is_judged_and_the_order_is_by_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, page = write_scenario(tmp_path), tmp_path / "c.html"
    file.write_text("\n".join(line for line in file.read_text().splitlines() if not line.startswith("slo:")))
    options = ("--policies", "static:replicas=5", "--replications", "1", "--jobs", "1")
    code, out, _ = run(capsys, file, *options, "--html", page)
    assert code == 0
    for shown in (out, page.read_text()):
        assert "No SLO is given (slo in the scenario), so no policy is judged and the order is by cost" in shown
        assert "missed" not in shown
        assert "100.00%" not in shown
    report = json.loads(run(capsys, file, *options, "--json", "-")[1])
    assert (report["slo"], report["slo_share"]) == (None, None)
    assert {(r["slo_met"], r["slo_missed_by"]) for r in report["ranking"]} == {(None, None)}
    assert [r["cost_usd"] for r in report["ranking"]] == sorted(r["cost_usd"] for r in report["ranking"])
    assert {d["measure"] for d in report["differences"]} == {"cost_usd"}
    code, _, err = run(capsys, file, "--policies", "oracle", "--replications", "1")
    assert code == 2
    assert "--policies" in err
    assert "requires an SLO: set slo in the scenario" in err


NAMES = st.lists(st.text("abcdefghij:=;.-_", min_size=1, max_size=90), min_size=1, max_size=9, unique=True)


@given(NAMES, st.integers(80, 120), st.text("x", min_size=1, max_size=25))
def test_a_folded_table_fits_the_width_and_truncates_nothing(names: list[str], width: int, cell: str) -> None:
    rows = [(f"row {k}", [f"{cell}{k}.{column}" for column in range(len(names))]) for k in range(3)]
    table_lines = list(folded(rows, names, "corner", width))
    assert max(map(len, table_lines)) <= width
    words = " ".join(table_lines).split()
    assert sorted(w for w in words if "." in w and w[0] == "x") == sorted(c for _, cells in rows for c in cells)
    shown = "".join("".join(table_lines).split())
    assert all(
        part in shown for name in names for part in [name[k : k + MAX_NAME] for k in range(0, len(name), MAX_NAME)]
    )


def test_quantiles_are_medians_with_their_range_and_means_have_intervals() -> None:
    result = crowd()
    rows = dict(comparison.figures(result))
    p99 = sorted(r.summary.ttft_s.p99 for r in result.runs["small"])
    shown = [seconds(v) for v in (p99[1], p99[0], p99[2])]
    column = result.names.index("small")
    assert rows["TTFT p99"][column] == f"{shown[0]} ({shown[1]} to {shown[2]})"
    assert "±" in rows["cost"][column]


def test_nan_figures_are_shown_as_missing() -> None:
    result = comparison_of({"own": [1.0, 1.0], "b": [2.0, 2.5]}, {"own": [math.nan] * 2, "b": [0.9, 0.9]})
    assert dict(comparison.figures(result))["SLO attainment"][result.names.index("own")] == "-"
    assert math.isnan(next(c.p for c in result.contrasts() if c.measure == "attainment"))


def test_a_warm_up_too_short_for_the_steady_state_is_reported() -> None:
    own = crowd().runs["small"]
    settled, late, never = (
        dataclasses.replace(crowd(), runs={"small": tuple(dataclasses.replace(r, unsettled_s=s) for r in own)})
        for s in (5.0, 400.0, -1.0)
    )
    assert list(comparison.warm_up_notes(settled)) == []
    assert "reaches its steady state 400 s after the warm-up" in next(comparison.warm_up_notes(late))
    assert "reaches no steady state" in next(comparison.warm_up_notes(never))
    assert all(r.unsettled_s is None for r in own)
    assert all(r.unsettled_s is not None for r in compared(POISSON, (), 1).runs["small"])


def test_the_oracle_costs_no_more_than_policies_that_meet_the_slo() -> None:
    result = compared(POISSON, ("static:replicas=5", "oracle"), 1)
    regret = result.regrets()["static:replicas=5"]
    assert regret.usd is not None
    assert regret.usd.mean > 0
    bound = result.runs["oracle"][0].bound_usd
    assert bound is not None
    assert bound <= result.runs["oracle"][0].summary.cost_usd


def tables_of(out: str) -> list[str]:
    """Return the lines of a report's tables: its sentences start with a capital letter or a digit."""
    return [line for line in out.splitlines() if "  " in line]


def run(capsys: pytest.CaptureFixture[str], *args: str | Path) -> tuple[int, str, str]:
    code = main(["compare", *map(str, args)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command_prints_a_table_and_writes_json_and_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, figures, page = write_scenario(tmp_path), tmp_path / "c.json", tmp_path / "c.html"
    outputs = ("--json", figures, "--html", page)
    code, out, _ = run(capsys, file, "--policies", "static:replicas=2", "--replications", "2", "--jobs", "1", *outputs)
    assert code == 0
    assert "difference from baseline" in out
    assert max(map(len, tables_of(out))) <= 100
    assert "2 replications, seeds 1 to 2" in out
    report = json.loads(figures.read_text())
    assert report["seeds"] == [1, 2]
    assert [entry["policy"] for entry in report["ranking"]] == list(report["policies"])
    assert report["slo"]["share"] == report["slo_share"] == 0.9
    assert [len(runs) for runs in report["policies"].values()] == [2, 2]
    assert {d["measure"] for d in report["differences"]} == {"cost_usd", "attainment"}
    assert "Scenario small, 2 policies" in page.read_text()
    repeated = run(
        capsys, file, "--policies", "static:replicas=2", "--replications", "2", "--jobs", "1", "--json", "-"
    )[1]
    assert repeated == figures.read_text()


def test_the_command_accepts_a_trace_and_a_first_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, trace = write_scenario(tmp_path), tmp_path / "t.csv"
    write(RequestTrace(np.arange(0, 300, 0.5), np.full(600, 500), np.full(600, 50)), trace)
    code, out, _ = run(
        capsys, file, "--trace", trace, "--seed", "7", "--replications", "1", "--json", "-", "--jobs", "1"
    )
    assert code == 0
    report = json.loads(out)
    assert (report["seeds"], report["same_requests"]) == ([7], True)
    assert report["policies"]["small"][0]["arrived"] == 600


def test_the_command_reports_an_slo_that_cannot_be_met(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_scenario(tmp_path)
    file.write_text(file.read_text().replace("ttft_s: 0.4", "ttft_s: 0.0001"))
    code, out, err = run(capsys, file, "--policies", "oracle", "--replications", "1", "--jobs", "1")
    assert (code, out) == (2, "")
    assert err.startswith("forescale: ")


def test_a_page_of_one_policy_shows_its_replications(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "c.html"
    assert run(capsys, write_scenario(tmp_path), "--replications", "2", "--jobs", "1", "--html", page)[0] == 0
    assert "All replications" in page.read_text()


def test_the_command_reports_all_problems_before_any_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_scenario(tmp_path)
    code, _, err = run(capsys, file, "--replications", "0", "--jobs", "0")
    assert code == 2
    assert "--replications = 0: must be 1 to" in err
    assert "--jobs = 0: must be 1 to" in err
    code, _, err = run(capsys, file, "--policies", "nobody,keda-queue")
    assert code == 2
    assert "2 problems found" in err
