"""The role for Google Cloud is enough for all that the adapters do, and grants nothing that they do not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from policies.model import Fresh, PoolStatus
from scaler.adapters import open_source
from scaler.clouds.gcp.settings import GcpNotices, GcpReservation
from scaler.config.kinds.gcp_pools import GceMig, GceMigStandby, GkeNodePool, GkeTpuSlices
from scaler.config.kinds.gcp_sources import CloudMonitoring, PubSub
from scaler.ports import Actuator
from tests.contracts.gcp import SINK, exhaust, preempted
from tests.scaler.clouds.gcp_place import CLUSTER, ZONES, There, seen, there
from tests.servers.gcp import PROJECT

FILE = Path(__file__).parents[3] / "config" / "deploy" / "gcp-role.yaml"
ROLE, NOTICES = (set(d["includedPermissions"]) for d in yaml.safe_load_all(FILE.read_text()))
RESERVED = GcpReservation(name="gpus", zone=ZONES[0])
COUNT = "pubsub.googleapis.com/subscription/num_undelivered_messages"
GPU = "kubernetes.io/container/accelerator/duty_cycle"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[There]:
    async with there(tmp_path) as found:
        found.cloud.permit(ROLE | NOTICES)
        for name in (SINK, "prompts"):
            found.cloud.pubsub.subscribe(f"projects/{PROJECT}/subscriptions/{name}")
        found.cloud.compute.reserve(PROJECT, ZONES[0], "gpus", 8)
        yield found


def pools(here: There) -> list[Any]:
    """One of every kind, with all that it can read."""
    project, place = here.cloud.project(), {"cluster": "serving", "location": "us-central1"}
    heard: dict[str, Any] = {"market": "spot", "reservation": RESERVED, "notices": GcpNotices(subscription=SINK)}
    shape: dict[str, Any] = {"slice_zone": ZONES[0], "machine_type": "ct5lp-hightpu-4t", "topology": "4x4"}
    made: dict[str, Any] = {**place, **heard}
    return [
        GceMig(project=project, name="vllm", location=ZONES[0], **heard),
        GceMigStandby(project=project, name="vllm", location=ZONES[0], tier="warm_node"),
        GkeNodePool(project=project, name="h100", **made),
        GkeTpuSlices(project=project, name="v5e", **shape, **made),
    ]


async def up_and_down(pool: Actuator) -> PoolStatus:
    """Every write, and the reads that follow one."""
    before = await seen(pool)
    await pool.resize(before.desired + 1, before)
    await pool.resize(before.desired, await seen(pool, lambda s: s.desired == before.desired + 1))
    return await seen(pool, lambda s: s.desired == before.desired)


async def test_the_role_is_enough_and_nothing_in_it_is_never_asked_for(here: There) -> None:
    mig = here.mig()
    here.cloud.container.add(CLUSTER, "h100", ZONES[:1], nodes_per_zone=1, spot=True)
    here.cloud.container.add(CLUSTER, "v5e-0", ZONES[:1], nodes_per_zone=4, spot=True, topology="4x4")
    for spec in pools(here):
        here.cloud.container.slow = spec.__class__ is GkeNodePool
        pool = await here.pool(spec)
        if here.cloud.container.slow:
            await pool.resize(2, await seen(pool))
            await seen(pool)  # follows the operation
            here.cloud.container.slow = False
            here.cloud.container.finish()
            await seen(pool)
        status = await up_and_down(pool)
        assert status.reserved is not None or isinstance(spec, GceMigStandby)
    exhaust(mig, quota=False)
    mig.resize(4)
    pool = await here.pool(pools(here)[0])
    assert (await seen(pool)).shortfall is not None
    preempted(here.cloud, mig, mig.vms[0])
    assert (await seen(pool, lambda s: s.interruption_pending == 1)).ready == 2
    here.cloud.monitoring.tell(COUNT, 7, here.clock.now(), subscription_id="prompts")
    here.cloud.monitoring.tell(GPU, 50, here.clock.now(), namespace_name="llm")
    project = here.cloud.project()
    for source, quantity in (
        (PubSub(project=project, subscription="prompts", by_region=False), "visible"),
        (CloudMonitoring(project=project, preset="gke_gpu"), "utilization"),
    ):
        found = await (await open_source(source, here.context)).sample()
        assert isinstance(found[quantity], Fresh)
    called = {*here.cloud.asked, *here.cloud.pubsub.asked}
    assert called == ROLE | NOTICES
    counted = {operation for _, operation, _ in here.context.calls.results}
    assert counted == called, "what is counted is named as it is permitted"


async def test_what_each_kind_says_that_it_needs_is_granted(here: There) -> None:
    asked: list[Any] = [await here.pool(spec) for spec in pools(here)]
    asked.append(await open_source(PubSub(project=here.cloud.project(), subscription="prompts"), here.context))
    needed = {p.action for adapter in asked for p in await adapter.permits()}
    assert needed == ROLE | NOTICES


@pytest.mark.parametrize("without", sorted(ROLE - {"pubsub.subscriptions.get", "monitoring.timeSeries.list"}))
async def test_check_tells_of_each_permission_that_is_missing(here: There, without: str) -> None:
    here.cloud.permit(ROLE - {without})
    denied = set[str]()
    for spec in pools(here):
        pool: Any = await here.pool(spec)
        denied |= {p.action for p in await pool.permits() if p.granted is False and "consume" not in p.action}
    assert denied == {without}
