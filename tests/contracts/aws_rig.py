"""A pool on AWS for the actuator's contract: adapter -> TCP proxy -> endpoint with simulated machines, and moto."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import ClassVar
from urllib.parse import urlsplit

from aiohttp import web

from scaler.clouds.aws.account import AwsAccount, AwsNotices
from tests.contracts.actuator import ActuatorRig
from tests.contracts.fronted import CUT_AFTER
from tests.servers.aws import REGION, Aws, aws
from tests.servers.aws_compute import Compute, compute
from tests.servers.aws_events import event_queue, warn
from tests.servers.aws_wire import Refusal
from tests.servers.aws_world import Instance, InstanceSet, World
from tests.servers.tcp_fault import ProxyFault, TcpProxy, tcp_proxy

ZONES = ("us-east-1a", "us-east-1b")
THROTTLE = Refusal("Throttling", "Rate exceeded", retry_after_s=0.3)
FORBIDDEN = Refusal("AccessDenied", "User: arn:aws:iam::123456789012:user/x is not authorized to perform this", 403)


def half(_: str, whole: web.Response) -> web.Response:
    """Return a truncated response without a length error."""
    content = bytes(whole.body) if isinstance(whole.body, bytes) else b""
    return web.Response(body=content[: max(1, len(content) // 2)], content_type=whole.content_type)


class AwsRig(ActuatorRig):
    """Base of all rigs on AWS. `write` is the operation that sets the size."""

    write: ClassVar[str]

    def __init__(self, world: World, front: Compute, wire: TcpProxy, cloud: Aws, queue: str) -> None:
        self.world = world
        self.front = front
        self.wire = wire
        self.cloud = cloud
        self._queue = queue
        self._pending: list[str] = []
        self.build()
        self.world.settle()
        for instance in self.world.instances():
            instance.up = True

    @abstractmethod
    def build(self) -> None:
        """Create a pool of size 2."""

    @property
    @abstractmethod
    def instance_set(self) -> InstanceSet:
        """Return the instances that the pool counts."""

    def machines(self) -> list[Instance]:
        return self.instance_set.instances

    @property
    def account(self) -> AwsAccount:
        return AwsAccount(region=REGION, endpoint_url=f"http://127.0.0.1:{self.wire.port}")

    @property
    def notices(self) -> AwsNotices:
        return AwsNotices(queue_url=f"http://127.0.0.1:{self.wire.port}{urlsplit(self._queue).path}")

    async def size(self) -> int:
        return self.instance_set.desired

    async def set_size(self, replicas: int) -> None:
        self.instance_set.desired = replicas

    async def set_ready(self, replicas: int) -> None:
        self.world.ready(self.instance_set, replicas)

    async def hang(self) -> None:
        self.wire.fault = ProxyFault.FROZEN

    async def refuse(self) -> None:
        self.wire.fault = ProxyFault.RESET
        self.wire.tear_down()

    async def throttle(self) -> None:
        self.front.faults |= dict.fromkeys(("read", "write"), THROTTLE)

    async def forbid(self) -> None:
        self.front.faults["write"] = FORBIDDEN

    async def garble(self) -> None:
        self.front.spoils["write"] = half

    async def cut_short(self) -> bool:
        self.wire.fault, self.wire.cut_after = ProxyFault.CUT, CUT_AFTER
        self.wire.tear_down()
        return True

    async def lose_response(self) -> bool:
        self.front.lost = True
        return True

    async def writes(self) -> int:
        return self.front.count(self.write)

    async def announce_interruption(self, replicas: int) -> bool:
        self._pending = [i.id for i in self.machines() if i.up][:replicas]
        for machine in self._pending:
            await warn(self.cloud, machine)
        return True

    async def interrupt(self, replicas: int) -> bool:
        self.world.shortages["*", self.instance_set.market] = "capacity"
        self.world.remove(self._pending[:replicas])
        return True

    async def fail_late(self, *, quota: bool) -> bool:
        self.world.shortages["*", self.instance_set.market] = "quota" if quota else "capacity"
        self.world.remove([i.id for i in self.machines() if not i.up])
        return True

    async def recover(self) -> None:
        self.front.clear()
        self.wire.fault = ProxyFault.NONE


@asynccontextmanager
async def aws_rig(make: Callable[[World, Compute, TcpProxy, Aws, str], AwsRig]) -> AsyncIterator[AwsRig]:
    """Open a rig on its own servers."""
    world = World()
    async with aws() as cloud, compute(world, cloud.url) as front:
        port = urlsplit(front.url).port
        assert port is not None
        async with tcp_proxy("127.0.0.1", port) as wire:
            yield make(world, front, wire, cloud, await event_queue(cloud))
