"""The swarm: fixed seeds that must pass, coverage of all features, and invariants that can fail."""

from __future__ import annotations

import collections
import signal
import subprocess
import sys
from typing import Any, get_args

import pytest
import yaml

from policies.model import Tick
from policies.recommend.registry import POLICIES as REGISTERED
from simulators.experiments import run
from simulators.world.faults import Fault, FaultSettings
from simulators.world.queue import SimulatedQueue
from simulators.world.traffic.generate import GENERATORS
from tests.foreground import FOREGROUND
from tests.fuzz.worlds import policies, traffic
from tests.fuzz.worlds.__main__ import main
from tests.fuzz.worlds.injected_zeros import InjectedZeros
from tests.fuzz.worlds.invariants import INVARIANTS, sentence
from tests.fuzz.worlds.search import REPEAT_EVERY, judge
from tests.fuzz.worlds.tick_context import TickContext
from tests.fuzz.worlds.world import SCENARIO, WORKLOAD, draw
from tests.patience import PATIENCE_S
from tests.simulators.world.makers import case, trace, workload

FAST = range(1, 11)
CHUNKS = [range(first, first + 20) for first in range(11, 51, 20)]


def failures(seeds: range) -> list[str]:
    return [str(verdict.failure) for seed in seeds if (verdict := judge(seed)).failure is not None]


@pytest.mark.slow
def test_first_ten_worlds_hold_all_invariants() -> None:
    assert failures(FAST) == []


@pytest.mark.slow
@pytest.mark.parametrize("seeds", CHUNKS, ids=[f"seeds {c[0]} to {c[-1]}" for c in CHUNKS])
def test_worlds_hold_all_invariants(seeds: range) -> None:
    assert failures(seeds) == []


# --- worlds


def test_seed_reproduces_the_same_world() -> None:
    assert draw(7) == draw(7)
    assert draw(7).files[SCENARIO] != draw(8).files[SCENARIO]


def test_every_traffic_and_policy_kind_is_generated() -> None:
    """A new kind needs a line in ``tests/fuzz/worlds/traffic.py`` or ``policies.py``."""
    assert set(traffic.TRAFFIC) == set(GENERATORS)
    own = {kind for kind, path in REGISTERED.items() if not path.startswith("policies.recommend.peers.")}
    assert set(policies.POLICIES) == own


@pytest.mark.slow
def test_two_hundred_worlds_cover_every_feature() -> None:
    drawn_values: dict[str, set[Any]] = collections.defaultdict(set)
    for seed in range(200):
        world = draw(seed)
        scenario, scaled = yaml.safe_load(world.files[SCENARIO]), yaml.safe_load(world.files[WORKLOAD])
        drawn_values["traffic"].add(scenario["traffic"]["kind"])
        drawn_values["faults"].update(w["fault"] for w in scenario["faults"])
        drawn_values["policies"].update(p["kind"] for p in scaled["policies"].values())
        drawn_values["pools"].add(len(scenario["pools"]))
        drawn_values["sources"].update(s["kind"] for s in scaled["sources"].values())
        for pool in scenario["pools"].values():
            for key in ("market", "on_shortage", "replace", "on_notice"):
                drawn_values[key].add(pool.get(key))
            failures = pool.get("failures", {})
            drawn_values["then"].add(failures.get("then"))
            drawn_values["late quota"].add(failures.get("quota", False))
            drawn_values["reports"].update(pool["reports"])
            drawn_values["zones"].add(len(pool["zones"]))
        drawn_values["quantum"].update(pool.get("quantum", 1) for pool in scaled["pools"].values())
        drawn_values["zero"].add(scaled["min_replicas"] == 0)
        drawn_values["paused"].add(scaled["paused"])
        drawn_values["service"].add(scenario.get("queue", {}).get("service"))
    assert drawn_values["traffic"] == set(GENERATORS)
    assert drawn_values["faults"] == set(get_args(Fault))
    assert drawn_values["policies"] == set(policies.POLICIES)
    assert drawn_values["pools"] == {1, 2, 3, 4}
    assert drawn_values["sources"] == {"prometheus", "scrape", "sqs"}
    assert drawn_values["market"] == {"on_demand", "spot", "reserved"}
    assert drawn_values["on_shortage"] == {"wait", "refuse", "partial"}
    assert drawn_values["then"] == {None, "retry", "stay", "roll_back"}
    assert drawn_values["reports"] == {"parts", "reserved"}
    assert drawn_values["zones"] == {1, 2, 3}
    assert drawn_values["quantum"] == {1, 2, 3, 4, 8}
    assert drawn_values["late quota"] == {True, False}
    assert drawn_values["replace"] == drawn_values["zero"] == drawn_values["paused"] == {True, False}
    assert drawn_values["service"] == {None, "sqs", "pubsub", "service_bus"}


# --- false zeros


@pytest.mark.parametrize(
    ("service", "throttled_share", "faults"),
    [
        ("sqs", 0.0, [FaultSettings(fault="zero", share=0.4, where="sources")]),
        ("service_bus", 0.5, []),
        ("service_bus", 0.3, [FaultSettings(fault="zero", share=0.3), FaultSettings(fault="hang", share=0.3)]),
    ],
)
def test_injected_zeros_are_derived_from_the_fault_seed(
    service: Any, throttled_share: float, faults: list[FaultSettings]
) -> None:
    """The queue is never empty, so every 0 is false."""
    queue = SimulatedQueue(service=service, throttled_share=throttled_share)
    scenario = case(workload("sqs", max_replicas=1), queue=queue, faults=tuple(faults))
    ticks: list[Tick] = []
    run.simulate(scenario, 5, trace(*[(0.01 * k, 20, 2000) for k in range(2000)]), record=[ticks.append])
    injected_zeros = InjectedZeros(scenario, 5)
    known = [bool(injected_zeros.sources(tick)) for tick in ticks]
    zeros = [
        not tick.observation.source_errors
        and all(getattr(r, "value", 1) == 0 for r in tick.observation.readings.values())
        for tick in ticks
    ]
    assert known[1:] == zeros[1:]
    assert 0 < sum(known) < len(known)


# --- reports


def fussy(context: TickContext) -> str | None:
    """Nothing lasts."""
    return "it lasted" if len(context.past) == 3 else None


def clumsy(context: TickContext) -> str | None:
    """Nothing is divided by what has not happened yet."""
    return f"{1 / len(context.past)}"


def test_failure_report_has_seed_tick_sentence_decision_and_command() -> None:
    verdict = judge(6, [fussy])
    assert verdict.failure is not None
    assert (verdict.ticks, verdict.failure.tick_number, verdict.failure.at_s) == (3, 3, 45.0)
    text = str(verdict.failure)
    assert text.startswith("seed 6, turn 3 (45 s): fussy: it lasted\n  must hold: Nothing lasts.\n")
    assert "python -m tests.fuzz.worlds --seed 6\n" in text
    assert "swarm at " in text
    assert "Policies:" in text


def test_exception_in_a_world_is_a_failure() -> None:
    failure = judge(6, [clumsy]).failure
    assert failure is not None
    assert failure.violation.name == "nothing_raises"
    assert "ZeroDivisionError" in str(failure)


def test_every_invariant_has_a_docstring_sentence() -> None:
    sentences = [sentence(invariant) for invariant in INVARIANTS]
    assert all(s.endswith(".") and len(s) > 20 for s in sentences)
    assert len(set(sentences)) == len(sentences)


# --- the command


@pytest.mark.slow
def test_command_judges_one_world_or_several(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    assert main(["--seed", str(REPEAT_EVERY), "--keep", str(tmp_path / "kept")]) == 0
    assert (tmp_path / "kept" / SCENARIO).read_text() == draw(REPEAT_EVERY).files[SCENARIO]
    assert main(["--first", "3", "--worlds", "2"]) == 0
    out, err = capsys.readouterr()
    assert not out
    assert "swarm: 2 of 2 worlds, " in err
    assert ", 0 failed, " in err


@pytest.mark.parametrize("given", [["--keep", "x"], ["--worlds", "0"], ["--jobs", "0"], ["--first", "-1"]])
def test_command_rejects_invalid_arguments(given: list[str]) -> None:
    with pytest.raises(SystemExit) as e:
        main(given)
    assert e.value.code == 2


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_interrupts_the_command_without_a_traceback(jobs: str) -> None:
    command = [*FOREGROUND, sys.executable, "-m", "tests.fuzz.worlds", "--worlds", "100000", "--jobs", jobs]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as swarm:
        assert swarm.stderr is not None
        assert swarm.stderr.readline() == "swarm: seeds 1 to 100000\n"
        swarm.send_signal(signal.SIGINT)
        _, err = swarm.communicate(timeout=PATIENCE_S)
    assert swarm.returncode == 130
    assert "swarm: interrupted\n" in err
    assert "Traceback" not in err
