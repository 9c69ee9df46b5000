"""Concurrent workloads under one fleet's limits: the daemon's quota ledger in simulated worlds."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from policies.model import Tick, WorkloadName
from policies.quota.fleet_quota import FleetLimits
from scaler.cli import main
from scaler.config.problems import ConfigError
from scaler.journal.replay import replay
from simulators.experiments import run
from simulators.experiments.scenario import Case, load
from tests.simulators.world.files import files
from tests.simulators.world.makers import case, trace, workload

BUSY = trace(*[(0.1 * k, 20, 200) for k in range(3000)])
"""Ten requests per second of two seconds each: ten replica equivalents at two requests per replica."""
CHAT, BATCH = WorkloadName("chat"), WorkloadName("batch")


def world(folder: Path, name: str, replicas: int = 8, rps: float = 10.0, **options: Any) -> Path:
    """Write the files of a scenario in its own folder, with its workload and load."""
    own_folder = folder / name
    own_folder.mkdir()

    def change(s: dict[str, Any]) -> None:
        s["scenario"] = name
        s["traffic"] |= {"rps": rps, "duration_s": 600.0}
        s |= options.pop("scenario", {})

    def change_workload(w: dict[str, Any]) -> None:
        w |= {"workload": name, "max_replicas": replicas, **options}
        w["pools"]["gpus"]["price_usd_per_hour"] = 3.6

    return files(own_folder, change, change_workload)


def simulated(path: Path, seed: int = 1) -> tuple[run.SimulationRun, list[Tick]]:
    case_, ticks = load(path), list[Tick]()
    return run.simulate(case_, seed, run.traffic_of(case_, seed), record=[ticks.append]), ticks


def sizes(ticks: list[Tick]) -> dict[WorkloadName, list[int]]:
    targets = defaultdict(list)
    for tick in ticks:
        targets[tick.workload].append(tick.decision.target or 0)
    return targets


@pytest.mark.parametrize("limit", [{"max_gpus": 9}, {"max_usd_per_hour": 9 * 3.6}], ids=["GPUs", "money"])
def test_concurrent_workloads_never_exceed_the_fleet_limit(tmp_path: Path, limit: dict[str, float]) -> None:
    world(tmp_path, "batch")
    run_, ticks = simulated(
        world(tmp_path, "chat", scenario={"fleet": limit, "concurrent_scenarios": ["../batch/scenario.yaml"]})
    )
    targets = sizes(ticks)
    assert max(a + b for a, b in zip(targets[CHAT], targets[BATCH], strict=True)) == 9
    assert run_.peak_usage["gpus"] == 9
    assert {s.rule for t in ticks for s in t.decision.steps} >= {"fleet"}
    assert all(t.observation.grant is not None for t in ticks)


def test_a_higher_priority_gets_its_need_and_equal_priorities_share(tmp_path: Path) -> None:
    world(tmp_path, "batch")
    options = {"fleet": {"max_gpus": 9}, "concurrent_scenarios": ["../batch/scenario.yaml"]}
    equal = sizes(simulated(world(tmp_path, "chat", scenario=options))[1])
    assert min(equal[CHAT][25], equal[BATCH][25]) >= 3
    (tmp_path / "second").mkdir()
    world(tmp_path / "second", "batch")
    first = sizes(simulated(world(tmp_path / "second", "chat", priority=5, scenario=options))[1])
    assert (first[CHAT][25], first[BATCH][25]) == (8, 1)


def test_a_single_workload_respects_the_fleet_limit() -> None:
    ticks: list[Tick] = []
    limited = case(workload(max_replicas=8), fleet=FleetLimits(max_gpus=3))
    run_ = run.simulate(limited, 1, BUSY, record=[ticks.append])
    assert max(run_.timeline.desired) == 3
    free = run.simulate(case(workload(max_replicas=8)), 1, BUSY)
    assert (max(free.timeline.desired), free.peak_usage) == (8, {})


def test_each_workload_ticks_at_its_own_interval_and_ends_at_its_own_time(tmp_path: Path) -> None:
    world(tmp_path, "batch", interval_s=20, scenario={"settle_s": 300.0})
    run_, ticks = simulated(
        world(tmp_path, "chat", interval_s=15, scenario={"concurrent_scenarios": ["../batch/scenario.yaml"]})
    )
    times = [tick.at for tick in ticks]
    assert times == sorted(times)
    epoch_s = run_.case.scenario.epoch_s
    for name, interval_s, each_run in ((CHAT, 15.0, run_), (BATCH, 20.0, run_.concurrent[0])):
        own_ticks = [t.at - epoch_s for t in ticks if t.workload == name]
        assert own_ticks == [interval_s * k for k in range(len(own_ticks))]
        assert each_run.end_s - interval_s <= own_ticks[-1] < each_run.end_s
    assert (run_.end_s, run_.concurrent[0].end_s) == (660.0, 900.0)


def test_without_limits_concurrent_workloads_decide_independently(tmp_path: Path) -> None:
    alone = sizes(simulated(world(tmp_path, "chat"))[1])
    (tmp_path / "both").mkdir()
    world(tmp_path / "both", "batch")
    options = {"concurrent_scenarios": ["../batch/scenario.yaml"]}
    assert sizes(simulated(world(tmp_path / "both", "chat", scenario=options))[1])[CHAT] == alone[CHAT]


def test_concurrent_runs_are_reproducible_with_their_own_random_streams(tmp_path: Path) -> None:
    world(tmp_path, "batch")
    path = world(tmp_path, "chat", scenario={"concurrent_scenarios": ["../batch/scenario.yaml"]})
    (first_run, first), (second_run, second) = simulated(path), simulated(path)
    assert first == second
    assert first_run.concurrent[0].trace.digest() == second_run.concurrent[0].trace.digest() != first_run.trace.digest()
    assert simulated(path, seed=2)[0].concurrent[0].trace.digest() != first_run.concurrent[0].trace.digest()


def test_every_grant_is_recorded_and_replays(tmp_path: Path) -> None:
    world(tmp_path, "batch")
    options = {"fleet": {"max_gpus": 9}, "concurrent_scenarios": ["../batch/scenario.yaml"]}
    run_, ticks = simulated(world(tmp_path, "chat", scenario=options))
    workloads = {r.case.workload.fingerprint: r.case.workload for r in (run_, *run_.concurrent)}
    assert all(compared.equal for compared in replay(ticks, workloads))


def test_the_command_reports_all_workloads_and_the_peak_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world(tmp_path, "batch")
    path = world(
        tmp_path, "chat", scenario={"fleet": {"max_gpus": 9}, "concurrent_scenarios": ["../batch/scenario.yaml"]}
    )
    journal = tmp_path / "journal"
    assert main(["simulate", str(path), "--journal", str(journal)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == ["chat", "batch"]
    assert "peak fleet usage: 9 GPUs (limit 9) and 32.4 USD per hour (no limit)" in out
    assert main(["replay", str(journal)]) == 0
    assert main(["explain", str(journal), "--workload", "batch"]) == 0
    assert "daemon.fleet.max_gpus is 9" in capsys.readouterr().out
    assert main(["simulate", str(path), "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["peak_usage"] == {"gpus": 9, "usd_per_hour": pytest.approx(32.4)}
    assert [other["ticks"] for other in report["concurrent_scenarios"]] == [report["ticks"]]


def test_another_policy_keeps_the_same_concurrent_workloads(tmp_path: Path) -> None:
    world(tmp_path, "batch")
    case_ = load(world(tmp_path, "chat", scenario={"concurrent_scenarios": ["../batch/scenario.yaml"]}))
    changed = case_.under(dataclasses.replace(case_.workload, fingerprint="other"), "other.yaml")
    assert changed.concurrent == case_.concurrent
    with pytest.raises(ConfigError, match="two workloads have the name batch"):
        case_.under(case_.concurrent[0].workload, "batch.yaml")


def loaded(folder: Path, other: dict[str, Any], own: dict[str, Any], minimum: int = 1) -> Case:
    path = world(folder, "batch", scenario=other, min_replicas=minimum)
    if own.get("concurrent_scenarios") == "twice":
        own = {**own, "concurrent_scenarios": ["../batch/scenario.yaml"] * 2}
    assert path.is_file()
    return load(world(folder, "chat", scenario={"concurrent_scenarios": ["../batch/scenario.yaml"], **own}))


@pytest.mark.parametrize(
    ("other", "own", "message"),
    [
        ({"start": "2026-01-06T00:00:00+00:00"}, {}, "batch starts at 2026-01-06.*set the same start in both"),
        (
            {"concurrent_scenarios": ["../batch/scenario.yaml"], "fleet": {"max_gpus": 4}},
            {},
            "has concurrent_scenarios",
        ),
        ({"fleet": {"max_gpus": 4}}, {}, "has fleet limits of its own"),
        ({}, {"concurrent_scenarios": "twice"}, "two workloads have the name batch"),
        (
            {},
            {"fleet": {"max_gpus": 1}},
            "fleet.max_gpus: .*must be at least 2, the need of all workloads' min_replicas",
        ),
        ({}, {"fleet": {"max_gpu": 1}}, "unknown key .did you mean 'max_gpus'"),
        ({}, {"concurrent_scenarios": ["gone.yaml"]}, "gone.yaml"),
    ],
    ids=["other start", "nested", "two limits", "same name", "minimums", "slip of the pen", "no such file"],
)
def test_scenarios_that_cannot_run_concurrently_are_rejected(
    tmp_path: Path, other: dict[str, Any], own: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        loaded(tmp_path, other, own)


def test_a_cost_limit_requires_a_price_for_every_pool(tmp_path: Path) -> None:
    path = world(tmp_path, "chat", scenario={"fleet": {"max_usd_per_hour": 40.0}})
    document = yaml.safe_load((path.parent / "workload.yaml").read_text())
    del document["pools"]["gpus"]["price_usd_per_hour"]
    (path.parent / "workload.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError, match=r"requires the price of every pool: pools\.gpus of workload chat has none"):
        load(path)
