"""Simulated and live decisions agree: a run's journal replays equal and is the same in any process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policies.model import Fresh, Tick
from simulators.commands.simulate import simulate_to_journal
from simulators.experiments.run import simulate, traffic_of
from tests.golden.runs import forescale, journal_bytes, short, shortened

pytestmark = pytest.mark.slow

NAMES = ("chat", "faults", "spot", "batch-queue")
LONG_ENOUGH_S = 1500.0


@pytest.mark.parametrize("name", NAMES)
def test_simulated_journal_replays_equal(name: str, tmp_path: Path) -> None:
    case = short(name, tmp_path, LONG_ENOUGH_S)
    seed = case.scenario.seed
    simulate_to_journal(case, seed, traffic_of(case, seed), tmp_path / "journal", lambda _: None)
    result = forescale("replay", tmp_path / "journal", "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    ticks = (LONG_ENOUGH_S + case.scenario.settle_s) / case.workload.spec.interval_s
    assert report["equal"] == report["ticks"] == ticks
    assert report["different"] == report["history_not_recorded"] == report["damaged_lines"] == 0


def test_replay_with_another_workload_differs(tmp_path: Path) -> None:
    case = short("chat", tmp_path, LONG_ENOUGH_S)
    simulate_to_journal(case, 1, traffic_of(case, 1), tmp_path / "journal", lambda _: None)
    other = tmp_path / "other.yaml"
    text = (Path(__file__).parents[2] / "config/scenarios/workloads/chat-threshold.yaml").read_text(encoding="utf-8")
    text = text.replace("workload: chat-threshold", "workload: chat").replace("per_replica: 24", "per_replica: 6")
    other.write_text(text, encoding="utf-8")
    report = json.loads(forescale("replay", tmp_path / "journal", "--json", "--config", other).stdout)
    assert report["different"] > 0
    assert report["mean_target"]["chat"].keys() == {"recorded", "replayed"}
    assert report["first_differences"][0].keys() >= {"recorded", "replayed"}


@pytest.mark.parametrize("name", ["faults", "spot"])
def test_seed_gives_a_byte_identical_journal_in_any_process(name: str, tmp_path: Path) -> None:
    file = shortened(name, tmp_path, 900.0)
    journals = []
    for hash_seed, seed in ((0, 1), (4242, 1), (0, 2)):
        folder = tmp_path / f"{hash_seed}-{seed}"
        result = forescale("simulate", file, "--seed", seed, "--journal", folder, "--json", "-", hash_seed=hash_seed)
        assert result.returncode == 0, result.stderr
        journals.append((journal_bytes(folder), result.stdout))
    assert len(journals[0][0]) > 10_000
    assert journals[0] == journals[1]
    assert journals[0][0] != journals[2][0]


@pytest.mark.parametrize(("every_s", "lag_s"), [(7.0, 4.0), (15.0, 0.0), (20.0, 30.0)])
def test_policies_read_only_scrapes_older_than_the_lag(every_s: float, lag_s: float, tmp_path: Path) -> None:
    telemetry = {"scrape_interval_s": every_s, "lag_s": lag_s}
    case = short("chat", tmp_path, LONG_ENOUGH_S, telemetry=telemetry)
    ticks: list[Tick] = []
    simulate(case, 1, traffic_of(case, 1), record=[ticks.append])
    fresh = [(t.at, r) for t in ticks for r in t.observation.readings.values() if isinstance(r, Fresh)]
    scraped = [(r.measured_at - case.scenario.epoch_s) / every_s for _, r in fresh]
    assert len(fresh) > 2 * len(ticks)
    assert scraped == pytest.approx([round(n) for n in scraped], abs=1e-6)
    ages_s = [at - r.measured_at for at, r in fresh]
    assert min(ages_s) >= lag_s
    assert max(ages_s) < lag_s + every_s
