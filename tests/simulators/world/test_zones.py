"""Cost allocation in a simulated world with changing zone capacity and headroom tiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from policies.model import Fresh, PoolName, PoolStatus, RuleId, Tick
from scaler.config.problems import ConfigError
from scaler.journal.replay import replay
from simulators.experiments.run import simulate, traffic_of
from simulators.experiments.scenario import load
from simulators.world.infrastructure.events import NodeEventKind
from simulators.world.infrastructure.node_lifecycle import Tier
from tests.simulators.world.files import files

ZONES = Path(__file__).resolve().parents[3] / "config" / "scenarios" / "zones.yaml"


@pytest.mark.slow
def test_zones_scenario_exercises_interruptions_and_cost_allocation() -> None:
    case, ticks = load(ZONES), list[Tick]()
    done = simulate(case, 1, traffic_of(case, 1), record=[ticks.append])
    events = [e for pool in done.world.pools.values() for e in pool.events]
    assert {e.kind for e in events} == {NodeEventKind.NOTICE, NodeEventKind.INTERRUPTED}, (
        "zones are interrupted, with notice"
    )
    reserved = [t.observation.pools[PoolName("reserved")] for t in ticks]
    assert all(r.value.ready == 2 for r in reserved if hasattr(r, "value")), "reserved nodes are used first and kept"
    on_demand = [t.decision.targets[PoolName("on-demand")] for t in ticks]
    assert max(on_demand) > 0
    assert sum(n == 0 for n in on_demand) > len(on_demand) / 2, "on-demand nodes are removed when cheaper ones serve"
    rules = {s.rule for t in ticks for s in t.decision.steps}
    assert {
        RuleId.COST_ALLOCATION,
        RuleId.INTERRUPTION_PENDING,
        RuleId.SHORTAGE,
        RuleId.MAKE_BEFORE_BREAK,
    } <= rules
    replayed = replay(ticks, {case.workload.fingerprint: case.workload})
    assert all(c.equal for c in replayed)


def add_slept_tier(workload: dict[str, Any]) -> None:
    """Add a tier of slept engines to the pool."""
    (name, pool), *_ = workload["pools"].items()
    tier = {"tier": "slept", "serves": name, "min_replicas": 2, "lead_time_s": 1.0}
    workload["pools"] = {name: pool, "slept": {**pool, **tier}}


def test_headroom_tier_replicas_are_resting_nodes_of_the_serving_pool(tmp_path: Path) -> None:
    case, ticks = load(files(tmp_path, lambda s: s.update(settle_s=300.0), add_slept_tier)), list[Tick]()
    done = simulate(case, 1, traffic_of(case, 1), record=[ticks.append])
    assert case.pools == dict.fromkeys(case.workload.spec.pools, PoolName("gpus"))
    gpus = done.world.pools[PoolName("gpus")]
    assert gpus.headroom[Tier.SLEPT] == 2
    assert ticks[-1].observation.pools[PoolName("slept")] == Fresh(PoolStatus(2, 2), ticks[-1].at)
    assert all(t.decision.current == gpus_of(t) for t in ticks), "resting nodes are not part of the size"
    assert gpus.bill(done.world.now_ps, lambda _: 0).headroom > 0


def gpus_of(tick: Tick) -> int:
    """Return the desired size of the serving pool."""
    reading = tick.observation.pools[PoolName("gpus")]
    assert isinstance(reading, Fresh)
    return reading.value.desired


@pytest.mark.parametrize(
    ("tier", "message"),
    [
        ({"serves": "gpu"}, "names 'gpu', which is not a serving pool"),
        ({"serves": None}, "slept requires serves"),
        ({"lead_time_s": 120.0}, "must be below lead_time_s of gpus, 120 s"),
        ({"tier": "serving"}, "is for headroom tiers only"),
        ({"serves": "slept"}, "names 'slept', which is not a serving pool"),
    ],
    ids=["no such pool", "of no pool", "no sooner", "serves itself", "of a tier"],
)
def test_an_invalid_headroom_tier_is_rejected(tmp_path: Path, tier: dict[str, Any], message: str) -> None:
    def change(workload: dict[str, Any]) -> None:
        add_slept_tier(workload)
        workload["pools"]["slept"].update(tier)

    with pytest.raises(ConfigError, match=message):
        load(files(tmp_path, change_workload=change))
