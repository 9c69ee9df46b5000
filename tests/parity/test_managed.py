"""Live adapters of managed endpoints, over one simulated world, lead to the decisions of simulated adapters.

Load rises: two managed pools grow through one lock, which refuses the pool that asks meanwhile. Capacity is missing,
late, and machines take the rest. Load falls: the machines stay for their minimum billed time. What a failed update
leaves differs by cloud, and the world has that physics: SageMaker rolls back and holds the lock meanwhile; Vertex AI
keeps the size, and the replicas without a machine fail; Azure OpenAI returns to the old size at once.

Pools whose ready replicas come from a metric minutes late, by design, have no equal in the world and are left out:
online deployments of Azure ML, and Cloud Run.
"""

from __future__ import annotations

import shutil
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from policies.model import Fresh, PoolName, Result, RuleId, Tick
from scaler.setup import Setup
from simulators.experiments.scenario import Case, load
from simulators.world.world import World
from tests.parity.controllers import live_setup, require_equal, run_ticks, simulated_setup
from tests.parity.endpoints import ENDPOINTS
from tests.parity.mirrored_endpoint import ClockOfWorld, mirror_endpoint
from tests.parity.rigs import CLOUDS

pytestmark = pytest.mark.slow

HERE: Final = Path(__file__).parent
MANAGED: Final = (PoolName("a"), PoolName("b"))
REST: Final = PoolName("rest")
FAILED_UPDATES: Final[dict[str, dict[str, Any]]] = {
    "aws": {},
    "gcp": {"failures": {"after_s": 150, "then": "stay"}},
    "azure": {"rollback": {"median_s": 0}},
}
"""What differs from the world's file: `failures` of a pool, or the `rollback` of its updates."""


@pytest.mark.parametrize("cloud", ENDPOINTS)
async def test_live_and_simulated_endpoints_lead_to_equal_decisions(cloud: str, tmp_path: Path) -> None:
    case = managed_world(cloud, tmp_path)
    simulated = await run_ticks(case, simulated_setup)
    check_physics(simulated, rolls_back=cloud != "gcp")
    async with AsyncExitStack() as stack:

        async def live(world: World, case: Case) -> Setup:
            folder = tmp_path / "endpoint"
            folder.mkdir()
            rigs = await stack.enter_async_context(ENDPOINTS[cloud](folder, ClockOfWorld(world)))
            return await live_setup(
                stack, CLOUDS[cloud](tmp_path), world, case, lambda s: mirror_endpoint(stack, rigs, world, case, s)
            )

        require_equal(simulated, await run_ticks(case, live))


def managed_world(cloud: str, folder: Path) -> Case:
    """Return the world with the failed updates of a cloud."""
    shutil.copy(HERE / "managed-workload.yaml", folder)
    scenario = yaml.safe_load((HERE / "managed-world.yaml").read_text(encoding="utf-8"))
    for pool in MANAGED:
        updates = {k: v for k, v in FAILED_UPDATES[cloud].items() if k == "rollback"}
        failures = FAILED_UPDATES[cloud].get("failures", scenario["pools"][pool]["failures"])
        scenario["pools"][pool] |= {"updates": scenario["pools"][pool]["updates"] | updates, "failures": failures}
    file = folder / "managed-world.yaml"
    file.write_text(yaml.safe_dump(scenario), encoding="utf-8")
    return load(file)


def check_physics(ticks: list[Tick], *, rolls_back: bool) -> None:
    """Check that the run has what the adapters must agree about: locks, failed updates and minimum billing."""
    locked = {o.pool for t in ticks for o in t.outcomes if o.result is Result.CONFLICT}
    assert locked == set(MANAGED), "no update was refused because of the other pool's"
    statuses = [(pool, r.value) for t in ticks for pool in MANAGED if isinstance(r := t.observation.pools[pool], Fresh)]
    assert {pool for pool, status in statuses if status.pending} == set(MANAGED), "no update was in progress"
    assert {pool for pool, status in statuses if status.shortfall} == set(MANAGED), "no update failed"
    assert any(status.failed for _, status in statuses) != rolls_back
    kept = [t.decision.steps for t in ticks if any(step.rule is RuleId.MIN_BILLED for step in t.decision.steps)]
    assert kept, "no replica stayed for its minimum billed time"
    last = {pool: r.value.desired for pool, r in ticks[-1].observation.pools.items() if isinstance(r, Fresh)}
    assert last == {**dict.fromkeys(MANAGED, 1), REST: 0}, "something was not handed back"
