"""A simulated AWS account, and adapters opened on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from policies.model import PoolName, PoolStatus, WorkloadName
from scaler.adapters import open_pool
from scaler.clock import SystemClock
from scaler.clouds.aws.account import AwsAccount, AwsNotices
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.servers.aws import REGION, Aws, aws
from tests.servers.aws_compute import Compute, compute
from tests.servers.aws_world import InstanceSet, World

A, B = "us-east-1a", "us-east-1b"
FLEET = "fleet-11111111-2222-3333-4444-555555555555"


@dataclass
class AwsEnvironment:
    """One account's servers. `open` opens adapters in `context`."""

    world: World
    cloud: Aws
    endpoint: Compute
    resources: Resources
    context: AdapterContext

    @property
    def account(self) -> AwsAccount:
        return AwsAccount(region=REGION, endpoint_url=self.endpoint.url)

    @property
    def warm(self) -> InstanceSet:
        """Return the warm pool of the group `llm`."""
        warm = self.world.groups["llm"].warm
        assert warm is not None
        return warm

    def notices(self, queue: str) -> AwsNotices:
        return AwsNotices(queue_url=f"{self.endpoint.url}{urlsplit(queue).path}")

    async def open(self, kind: type, name: str = "gpus", **keys: Any) -> Any:
        """Open a pool of this kind and name."""
        return await open_pool(kind(account=self.account, **keys), self.context, WorkloadName("llm"), PoolName(name))


@asynccontextmanager
async def aws_environment() -> AsyncIterator[AwsEnvironment]:
    """Open an empty account."""
    world = World()
    async with aws() as cloud, compute(world, cloud.url) as endpoint, Resources() as resources:
        yield AwsEnvironment(world, cloud, endpoint, resources, AdapterContext(resources, SystemClock(), DEADLINE_S))


async def read_status(pool: Any) -> PoolStatus:
    """Return a pool's present status."""
    status = (await pool.status()).value
    assert isinstance(status, PoolStatus)
    return status
