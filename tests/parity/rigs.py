"""The rigs of each cloud: a source, and pools of machines with and without headroom."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policies.model import PoolName, WorkloadName
from scaler.adapters import open_pool, open_source
from scaler.config.kinds.aws_pools import Asg
from scaler.config.kinds.gcp_sources import PubSub
from scaler.ports import Actuator, Source
from scaler.shared_resources import AdapterContext
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
from tests.servers import aws_world
from tests.servers.aws_fault import attributes
from tests.servers.gcp import PROJECT

AGE = "pubsub.googleapis.com/subscription/oldest_unacked_message_age_by_region"


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
