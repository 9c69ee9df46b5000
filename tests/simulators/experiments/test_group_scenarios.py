"""Scenarios whose workloads are in a group: results, journal, the shipped scenario, and errors."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from policies.model import Fresh, Tick, WorkloadName
from policies.model.names import BackendName, RouteName
from scaler.cli import main
from scaler.config.load import workload_from
from scaler.config.problems import ConfigError
from scaler.journal.replay import replay
from simulators.experiments.group_cases import group_of
from simulators.experiments.group_results import summarize_groups
from simulators.experiments.results import summarize
from simulators.experiments.run import SimulationRun, simulate, traffic_of
from simulators.experiments.scenario import Case, load
from tests.golden.runs import SCENARIOS, short
from tests.simulators.world.files import files

EU, US = WorkloadName("eu"), WorkloadName("us")
BOTH: dict[str, str | None] = {"eu": "us", "us": "eu"}
PER_REPLICA = 1.5


def member(folder: Path, name: str, target: str | None, scenario: dict[str, Any], **options: Any) -> Path:
    """Write the files of a member in its own folder. Its route names `target`, or its own pool alone."""
    own = folder / name
    own.mkdir()
    route = {
        "kind": "envoy",
        "file": "/etc/envoy/routes/chat.json",
        "admin_url": "http://127.0.0.1:9901",
        "requests_per_replica_per_s": PER_REPLICA,
        "backends": {"gpus": {"pool": "gpus"}} | ({} if target is None else {"other": {"workload": target}}),
    }

    def change(s: dict[str, Any]) -> None:
        s["scenario"] = name
        s["traffic"]["duration_s"] = 300.0
        s |= scenario

    def change_workload(w: dict[str, Any]) -> None:
        w |= {"workload": name, "group": "llama", "max_replicas": 4, "slo": {"ttft_s": 1.0, "itl_s": 0.05}}
        w |= {"routes": {"chat": route}} | options

    return files(own, change, change_workload)


def group(folder: Path, targets: dict[str, str | None], eu: dict[str, Any], us: dict[str, Any], **options: Any) -> Path:
    """Write two scenarios that run at the same time and return the path of the first one."""
    member(folder, "us", targets["us"], us, **options)
    return member(folder, "eu", targets["eu"], {"concurrent_scenarios": ["../us/scenario.yaml"]} | eu)


def overloaded(folder: Path, targets: dict[str, str | None]) -> Path:
    """Write two scenarios of which the first has one node for a load of three."""
    pool = {
        "model": "steady.yaml",
        "price_usd_per_hour": 3.6,
        "zones": {"a": {"capacity": 1}},
        "failures": {"after_s": 30.0},
    }
    eu = {"pools": {"gpus": pool}, "traffic": {"kind": "poisson", "rps": 4.0, "duration_s": 600.0}}
    us = {"initial_replicas": {"gpus": 4}, "settle_s": 200.0}
    slo = {"slo": {"ttft_s": 1.0, "itl_s": 0.05, "share": 0.99}}
    return group(folder, targets, eu | slo, us | slo, min_replicas=4)


def simulated(case: Case) -> tuple[SimulationRun, list[Tick]]:
    ticks: list[Tick] = []
    return simulate(case, 1, traffic_of(case, 1), record=[ticks.append]), ticks


@pytest.mark.slow
@pytest.mark.parametrize("us", ["eu", None], ids=["both send", "one sends"])
def test_members_serve_one_another_and_each_request_counts_once(tmp_path: Path, us: str | None) -> None:
    case = load(overloaded(tmp_path, {"eu": "us", "us": us}))
    run, ticks = simulated(case)
    runs = (run, *run.concurrent)
    assert len({each.end_s for each in runs}) == 1, "the first one takes requests for as long as the second one sends"
    summaries = [summarize(each) for each in runs]
    assert sum(s.arrived for s in summaries) == sum(len(each.trace) for each in runs)
    assert summaries[1].arrived > 1.5 * len(run.concurrent[0].trace)
    assert not any(s.unfinished for s in summaries)
    (together,) = summarize_groups(run, summaries)
    assert together.requests == sum(s.arrived for s in summaries)
    assert together.attainment is not None
    assert together.sent[EU] > 0.4
    assert together.sent[US] == 0.0
    members = [tick.observation.members for tick in ticks if tick.workload == EU]
    assert all(isinstance(each[US], Fresh) for each in members[1:])
    workloads = {each.case.workload.fingerprint: each.case.workload for each in runs}
    assert all(compared.equal for compared in replay(ticks, workloads))


@pytest.mark.slow
def test_command_reports_the_group_and_a_report_reads_its_journal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, journal = overloaded(tmp_path, BOTH), tmp_path / "journal"
    assert main(["simulate", str(path), "--journal", str(journal)]) == 0
    out = capsys.readouterr().out
    line = r"^group of eu and us: 2,\d+ requests, .* of them within the SLO, \$.*; others carried .* of those of eu"
    assert re.search(line, out, re.MULTILINE)
    assert main(["simulate", str(path), "--json", "-"]) == 0
    (together,) = json.loads(capsys.readouterr().out)["groups"]
    assert together["workloads"] == ["eu", "us"]
    assert main(["report", str(journal), "--workload", "eu", "--policy", "self"]) == 0
    assert "Routes: left out; requests that other workloads carried are theirs" in capsys.readouterr().out


@pytest.mark.slow
def test_group_without_backends_that_are_workloads_runs_apart(tmp_path: Path) -> None:
    case = load(overloaded(tmp_path, {"eu": None, "us": None}))
    assert group_of(case) == ()
    run, _ = simulated(case)
    assert [len(each.world.arrived_requests) for each in (run, *run.concurrent)] == [
        len(each.trace) for each in (run, *run.concurrent)
    ]
    assert summarize_groups(run, [summarize(run)]) == []


@pytest.mark.parametrize(
    ("targets", "us", "message"),
    [
        ({"eu": "asia", "us": None}, {}, r"workload.yaml:\d+: routes.chat.backends.other.workload.*asia is not"),
        (BOTH, {"group": "qwen"}, r"other\.workload.*must be in group llama, as this workload is"),
        (
            {"eu": "us", "us": None},
            {"sources": {"watch": {"kind": "sqs", "queue_url": "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs"}},
             "policies": {"want": {"kind": "queue_depth", "target_per_replica": 4}}, "slo": None, "routes": {}},
            "us takes its requests from a queue",
        ),
    ],
    ids=["unknown", "another group", "queue"],
)  # fmt: skip
def test_backend_that_no_scenario_can_serve_is_rejected(
    tmp_path: Path, targets: dict[str, str | None], us: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(group(tmp_path, targets, {}, {}, **us))


def regions(folder: Path, eu: dict[str, float], us_region: str | None) -> Path:
    pool = {"model": "steady.yaml", "price_usd_per_hour": 3.6}
    us_pool = pool | ({} if us_region is None else {"region": us_region})
    changes = {"round_trip_s": eu, "pools": {"gpus": pool | {"region": "eu-west-1"}}}
    return group(folder, {"eu": "us", "us": None}, changes, {"pools": {"gpus": us_pool}})


def test_round_trips_name_the_regions_of_other_members(tmp_path: Path) -> None:
    case = load(regions(tmp_path, {"eu-west-1": 0.01, "us-east-1": 0.09}, "us-east-1"))
    assert group_of(case) == (EU, US)


@pytest.mark.parametrize(
    ("round_trip_s", "region", "message"),
    [
        ({"eu-west-1": 0.01}, "us-east-1", "pool gpus in region us-east-1, which is missing in round_trip_s of eu"),
        ({"eu-west-1": 0.01}, None, "has pool gpus in no region"),
        ({"eu-west-1": 0.01, "asia": 0.2, "us-east-1": 0.1}, "us-east-1", "has region asia, in which there is no pool"),
    ],
)
def test_round_trips_that_do_not_fit_the_members_are_rejected(
    tmp_path: Path, round_trip_s: dict[str, float], region: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(regions(tmp_path, round_trip_s, region))


@pytest.mark.parametrize("command", ["compare", "advise", "tune"])
def test_commands_for_one_workload_reject_a_group(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    path = group(tmp_path, BOTH, {"slo": {"ttft_s": 1.0}}, {})
    arguments = {"compare": ["--policies", "hpa"], "advise": [], "tune": ["--out", str(tmp_path / "tuned.yaml")]}
    assert main([command, str(path), *arguments[command]]) == 2
    assert f"but {command} handles one workload" in capsys.readouterr().err


def without_routes(case: Case) -> Case:
    document = {key: value for key, value in case.workload.document.items() if key != "routes"}
    return dataclasses.replace(case, workload=workload_from(document))


@pytest.mark.slow
def test_group_serves_within_the_slo_through_the_stock_out_of_a_region() -> None:
    case = load(SCENARIOS / "group-stockout.yaml")
    run, ticks = simulated(case)
    west = run.concurrent[0]
    summaries = [summarize(run), summarize(west)]
    (together,) = summarize_groups(run, summaries)
    assert together.attainment is not None
    assert together.attainment > 0.999
    assert together.cost_usd == pytest.approx(66.4, rel=0.1)
    assert together.sent[case.workload.name] == pytest.approx(0.21, abs=0.1)
    at_s, ready = np.array(west.timeline.at_s), np.array(west.timeline.ready)
    assert ready[(at_s > 1800) & (at_s < 5400)].max() > ready[at_s < 1800].max(), "the second region grows"
    splits = [
        (tick.at - case.scenario.epoch_s, tick.decision.routes[RouteName("chat")].weights)
        for tick in ticks
        if tick.workload == case.workload.name
    ]
    away_s = [at for at, weights in splits if weights.get(BackendName("west"), 0)]
    assert min(away_s) > 1800
    assert max(away_s) < 6000, "all requests return within 10 minutes"


@pytest.mark.slow
def test_region_alone_violates_the_slo_in_its_stock_out(tmp_path: Path) -> None:
    changes = {"concurrent_scenarios": [str(SCENARIOS / "group-stockout" / "west.yaml")]}
    case = without_routes(dataclasses.replace(short("group-stockout", tmp_path, 3900.0, **changes), concurrent=()))
    assert summarize(simulated(case)[0]).attainment["all"] < 0.9
