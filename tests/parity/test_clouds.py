"""Live adapters of each cloud, over one simulated world, lead to the decisions of simulated adapters, tick by tick."""

from __future__ import annotations

import dataclasses
import itertools
import math
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from policies.history.ticks import History
from policies.model import Fresh, PoolName, Result, Tick, WorkloadName
from scaler.adapters import open_pool, open_source
from scaler.clock import SystemClock
from scaler.clouds.api_budget import Api, Bucket, Calls
from scaler.config.kinds.aws_pools import Asg
from scaler.config.kinds.gcp_sources import PubSub
from scaler.controller import Controller
from scaler.ports import Actuator, Source
from scaler.setup import Setup
from scaler.shared_resources import AdapterContext, Resources
from simulators.experiments.run import HISTORY_S, build_world, run_end_s, traffic_of
from simulators.experiments.scenario import Case, load
from simulators.world import ports
from simulators.world.world import World
from tests.contracts import (
    test_asg,
    test_asg_warm_pool,
    test_azure_pools,
    test_azure_sources,
    test_gcp_pools,
    test_gcp_sources,
    test_kubernetes,
    test_sqs,
)
from tests.contracts.actuator import ActuatorRig
from tests.contracts.aws_rig import ZONES, AwsRig, aws_rig
from tests.contracts.source import SourceRig
from tests.parity.mirror import MirroredPool, MirroredSource, Only, sizes
from tests.servers import aws_world
from tests.servers.aws import KEYS, isolate
from tests.servers.aws_fault import attributes
from tests.servers.gcp import PROJECT

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
SEED = 3
DEADLINE_S = 8.0
"""Deadline of one live request, which a machine beside other work keeps. Seconds."""
AGE = "pubsub.googleapis.com/subscription/oldest_unacked_message_age_by_region"
Make = Callable[[World, Case], Awaitable[Setup]]


@dataclass(frozen=True)
class Rigs:
    """The rigs of one cloud's source and pools."""

    source: Callable[[], AbstractAsyncContextManager[SourceRig]]
    pool: Callable[[], AbstractAsyncContextManager[ActuatorRig]]
    warm: Callable[[], AbstractAsyncContextManager[ActuatorRig]]
    notices: bool = True
    together: bool = False
    """Whether all pools belong to one account and share its resources."""


class SqsWithStubbedCounts(test_sqs.SqsRig):
    """SQS whose front reports the counts, so that thousands of messages need not be sent."""

    async def answer(self, value: float) -> None:
        self._front.faults["sqs"] = attributes(
            ApproximateNumberOfMessages=str(int(value)),
            ApproximateNumberOfMessagesNotVisible="0",
            ApproximateNumberOfMessagesDelayed="0",
        )


class CallsWithLargeBudgets(Calls):
    """Budgets 1000 times as large, since the fifteen seconds of a tick take milliseconds here."""

    def bucket(self, api: Api, scope: Hashable, now: float) -> Bucket:
        return super().bucket(dataclasses.replace(api, per_s=1000 * api.per_s), scope, now)


def folders(inside: Path) -> Iterator[Path]:
    """Return new folders, one for the credentials of each rig."""
    for number in itertools.count():
        folder = inside / str(number)
        folder.mkdir()
        yield folder


def kubernetes(folder: Path) -> Rigs:
    pool = rig_factory(folders(folder))(test_kubernetes.TestKubernetesFake)
    return Rigs(lambda: test_sqs.rig({}, SqsWithStubbedCounts), pool, pool, notices=False)


class GroupInSharedAccount(test_asg.AsgRig):
    """One of several groups in one account; interrupted machines are replaced at once."""

    number = 0

    def build(self) -> None:
        GroupInSharedAccount.number += 1
        self._group = f"group-{GroupInSharedAccount.number}"
        self.world.groups[self._group] = aws_world.Group(self._group, ZONES, desired=2, max_size=20)

    @property
    def instance_set(self) -> aws_world.Group:
        return self.world.groups[self._group]

    async def open(self, context: AdapterContext) -> Actuator:
        spec = Asg(group=self._group, account=self.account, notices=self.notices)
        return await open_pool(spec, context, WorkloadName("llm"), PoolName(self._group))

    async def interrupt(self, replicas: int) -> bool:
        self.world.remove(self._pending[:replicas])
        return True


def amazon(_: Path) -> Rigs:
    opened_rigs: list[AwsRig] = []

    @asynccontextmanager
    async def pool(kind: type[AwsRig] = GroupInSharedAccount) -> AsyncIterator[ActuatorRig]:
        if opened_rigs:
            first = opened_rigs[0]
            yield kind(first.world, first.front, first.wire, first.cloud, first._queue)
        else:
            async with aws_rig(GroupInSharedAccount) as first:
                opened_rigs.append(first)
                yield first

    return Rigs(
        lambda: test_sqs.rig({}, SqsWithStubbedCounts), pool, lambda: pool(test_asg_warm_pool.WarmRig), together=True
    )


class PubSubWithoutReadInterval(test_gcp_sources.PubSubRig):
    """Pub/Sub whose backlog is read on every tick, since fifteen simulated seconds take milliseconds here."""

    async def open(self, context: AdapterContext) -> Source:
        self.cloud.pubsub.subscribe(f"projects/{PROJECT}/subscriptions/{test_gcp_sources.NAME}")
        spec = PubSub(project=self.cloud.project(), subscription=test_gcp_sources.NAME, read_interval_s=0.001)
        return await open_source(spec, context)

    async def answer(self, value: float) -> None:
        self.cloud.monitoring.series.clear()
        await super().answer(value)
        about = {"subscription_id": test_gcp_sources.NAME, "project_id": PROJECT}
        self.cloud.monitoring.record(AGE, 0.0, self.now(), labels={"region": "us-central1"}, **about)


class PubSubContract(test_gcp_sources.TestPubSub):
    kind = PubSubWithoutReadInterval


class RestoringVmssRig(test_azure_pools.VmssRig):
    """A scale set that replaces evicted machines, as in the simulated world."""

    async def interrupt(self, replicas: int) -> bool:
        capacity = self.nodes.capacity
        self.nodes.evict(replicas, "delete")
        self.nodes.resize(capacity)
        return True


class ScaleSet(test_azure_pools.TestVmss):
    rig_class = RestoringVmssRig


class RefilledStandbyRig(test_gcp_pools.StandbyRig):
    """Standby machines, of which the missing ones are being created."""

    async def set_ready(self, replicas: int) -> None:
        resting = [vm for vm in self.mig.vms if vm.target_status == "STOPPED"]
        for i, vm in enumerate(resting):
            vm.status, vm.action = ("TERMINATED", "NONE") if i < replicas else ("", "CREATING")


class Standby(test_gcp_pools.TestGceMigStandby):
    kind = RefilledStandbyRig


def google(folder: Path) -> Rigs:
    rig = rig_factory(folders(folder))
    return Rigs(rig(PubSubContract), rig(test_gcp_pools.TestGceMig), rig(Standby))


def azure(folder: Path) -> Rigs:
    rig = rig_factory(folders(folder))
    return Rigs(rig(test_azure_sources.TestServiceBus), rig(ScaleSet), rig(test_azure_pools.TestStandby))


def rig_factory(new: Iterator[Path]) -> Callable[[type[Any]], Callable[[], Any]]:
    """Return a function that opens a contract's rigs, each with its own folder."""

    def open_rig(contract: type[Any]) -> Any:
        suite = contract()
        suite._tmp = next(new)
        return suite.rig()

    return lambda contract: lambda: open_rig(contract)


CLOUDS: dict[str, Callable[[Path], Rigs]] = {
    "kubernetes": kubernetes,
    "aws": amazon,
    "gcp": google,
    "azure": azure,
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path, **KEYS)
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST"):
        monkeypatch.delenv(name, raising=False)


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
    for one, other in zip(simulated, live, strict=True):
        assert pool_sizes(one) == pool_sizes(other)
        assert one.observation.readings == other.observation.readings
        assert one.decision == other.decision
        assert outcomes(one) == outcomes(other)


def pool_sizes(tick: Tick) -> dict[PoolName, tuple[int, ...]]:
    return {n: sizes(r.value) for n, r in tick.observation.pools.items() if isinstance(r, Fresh)}


def outcomes(tick: Tick) -> list[tuple[PoolName, int, int, Result]]:
    return [(o.pool, o.before, o.after, o.result) for o in tick.outcomes]


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


async def simulated_setup(world: World, case: Case) -> Setup:
    setup = ports.setup(world, case.workload, case.pools, {})
    sources = {name: Only(source, "visible") for name, source in setup.sources.items()}
    return dataclasses.replace(setup, sources=sources, ports_may_wait=True)


async def live_setup(stack: AsyncExitStack, rigs: Rigs, world: World, case: Case) -> Setup:
    """Return the simulated setup with a live adapter between the controller and each part of the world."""
    simulated = await simulated_setup(world, case)
    clock, wall = ports.SimulatedClock(world), SystemClock()

    async def new_resources() -> Resources:
        resources = await stack.enter_async_context(Resources())
        resources.calls = CallsWithLargeBudgets()
        return resources

    shared = await new_resources()

    async def opening() -> AdapterContext:
        return AdapterContext(shared if rigs.together else await new_resources(), wall, DEADLINE_S)

    sources: dict[str, Source] = {}
    for name, source in simulated.sources.items():
        rig = await stack.enter_async_context(rigs.source())
        sources[name] = MirroredSource(source, rig, await rig.open(await opening()), wall)
    actuators: dict[PoolName, Actuator] = {}
    for pool, actuator in simulated.actuators.items():
        tier = case.workload.spec.pools[pool].tier
        shape = await stack.enter_async_context(rigs.pool() if tier == "serving" else rigs.warm())
        actuators[pool] = MirroredPool(actuator, shape, await shape.open(await opening()), clock)
    return dataclasses.replace(simulated, sources=sources, actuators=actuators)


async def run_ticks(case: Case, make: Make) -> list[Tick]:
    """Run the controller on every tick of the world's duration."""
    trace = traffic_of(case, SEED)
    world = build_world(case, SEED, trace)
    clock, ticks = ports.SimulatedClock(world), list[Tick]()
    spec = case.workload.spec
    history = History(max(HISTORY_S, spec.lookback_s), step_s=spec.interval_s)
    controller = Controller(await make(world, case), clock, history, ticks.append)
    for number in range(math.ceil(run_end_s(case, trace) / spec.interval_s)):
        due = case.scenario.epoch_s + number * spec.interval_s
        await clock.sleep_until(due)
        await controller.tick(due)
    return ticks
