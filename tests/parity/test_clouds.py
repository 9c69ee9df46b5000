"""Live adapters of each cloud, over one simulated world, lead to the decisions of simulated adapters, tick by tick."""

from __future__ import annotations

import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import yaml

from policies.model import PoolName
from simulators.experiments.scenario import Case, load
from tests.parity.controllers import live_setup, pool_sizes, require_equal, run_ticks, simulated_setup
from tests.parity.rigs import CLOUDS

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent


@pytest.mark.parametrize("cloud", CLOUDS)
async def test_live_and_simulated_adapters_lead_to_equal_decisions(cloud: str, tmp_path: Path) -> None:
    rigs = CLOUDS[cloud](tmp_path)
    case = world_file(tmp_path, notices=rigs.notices)
    simulated = await run_ticks(case, simulated_setup)
    async with AsyncExitStack() as stack:
        live = await run_ticks(case, lambda world, case: live_setup(stack, rigs, world, case))
    assert sum(size[4] for size in pool_sizes(simulated[-1]).values()) == (3 if rigs.notices else 0), (
        "number of interruptions"
    )
    assert max(t.decision.target or 0 for t in simulated) >= 9
    resting = [pool_sizes(t)[PoolName("warm")][1] for t in simulated]
    assert (resting[0], min(resting), resting[-1]) == (2, 0, 2), "the warm pool drained and was refilled"
    require_equal(simulated, live)


def world_file(folder: Path, *, notices: bool) -> Case:
    """Return the world; without notices, one in which no zone interrupts machines."""
    shutil.copy(HERE / "workload.yaml", folder)
    scenario = yaml.safe_load((HERE / "world.yaml").read_text(encoding="utf-8"))
    if not notices:
        for pool in scenario["pools"].values():
            pool.pop("zones", None)

    file = folder / "world.yaml"
    file.write_text(yaml.safe_dump(scenario), encoding="utf-8")
    return load(file)
