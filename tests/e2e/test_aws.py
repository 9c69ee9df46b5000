"""The shared scenario on AWS: SQS, a spot group and a spot fleet, a group with a warm pool, EventBridge."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.cloud_story import REGULAR, SPOT, WARM, WARM_REPLICAS, run_scenario
from tests.servers.aws import KEYS, REGION, Aws, aws, isolate
from tests.servers.aws_compute import Compute, compute
from tests.servers.aws_events import event_queue, warn
from tests.servers.aws_world import Fleet, Group, InstanceSet, World

FLEET = "fleet-11111111-2222-3333-4444-555555555555"
ZONES = ("us-east-1a", "us-east-1b")
BOOT_S = 1.0
RETRY_S = 2.0
WARM_UP_S = 4.0
"""Time for a new machine of the warm pool to start, prepare and stop. Seconds."""
INTERRUPTION_S = 2.5
"""Time from the notice to the interruption; AWS gives 120 s. Seconds."""


@dataclass
class AwsRig:
    """One account: a group and a fleet on spot, a group on demand with its warm pool, a queue."""

    cloud: Aws
    endpoint: Compute
    prompts: str
    events: str
    env: Mapping[str, str] = field(default_factory=lambda: KEYS)

    def at(self, queue: str) -> str:
        return f"{self.endpoint.url}{urlsplit(queue).path}"

    @property
    def account(self) -> dict[str, Any]:
        return {"region": REGION, "endpoint_url": self.endpoint.url}

    def instance_set(self, pool: str) -> InstanceSet:
        return self.endpoint.world.fleets[FLEET] if pool == SPOT[1] else self.endpoint.world.groups[pool]

    def sources(self) -> Mapping[str, Any]:
        return {"queue": {"kind": "sqs", "queue_url": self.at(self.prompts), "account": self.account}}

    def pools(self) -> Mapping[str, Mapping[str, Any]]:
        notices = {"account": self.account, "notices": {"queue_url": self.at(self.events)}}
        return {
            SPOT[0]: {"kind": "asg", "group": SPOT[0], **notices},
            SPOT[1]: {"kind": "ec2_fleet", "fleet": FLEET, **notices},
            REGULAR: {"kind": "asg", "group": REGULAR, **notices},
            WARM: {"kind": "asg_warm_pool", "group": REGULAR, **notices},
        }

    async def queue(self, messages: int) -> None:
        await self.cloud.drain(self.prompts)
        await self.cloud.send(self.prompts, messages)

    async def requested(self, pool: str) -> int:
        return self.instance_set(pool).desired

    async def interrupt(self, pool: str) -> None:
        machine = next(i.id for i in self.instance_set(pool).instances if i.up)
        await warn(self.cloud, machine)
        asyncio.get_running_loop().call_later(INTERRUPTION_S, self.endpoint.world.remove, [machine])

    async def exhaust(self, pool: str) -> None:
        instance_set = self.instance_set(pool)
        self.endpoint.world.shortages |= {(zone, instance_set.market): "capacity" for zone in instance_set.zones}

    async def warm(self) -> int:
        warm = self.endpoint.world.groups[REGULAR].warm
        return sum(i.up for i in warm.instances) if warm is not None else 0


@pytest.mark.slow
async def test_scale_out_interruption_and_scale_in_on_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path, **KEYS)
    world = World(lag_s=BOOT_S, retry_s=RETRY_S)
    world.groups[SPOT[0]] = Group(SPOT[0], ZONES[:1], market="spot", max_size=20)
    world.fleets[FLEET] = Fleet(FLEET, ZONES[1:], market="spot")
    warm = InstanceSet("warm", ZONES, desired=WARM_REPLICAS, min_size=WARM_REPLICAS, lag_s=WARM_UP_S)
    world.groups[REGULAR] = Group(REGULAR, ZONES, max_size=20, warm=warm, prepared=WARM_REPLICAS)
    async with aws() as cloud, compute(world, cloud.url) as endpoint:
        await run_scenario(AwsRig(cloud, endpoint, await cloud.queue("prompts"), await event_queue(cloud)), tmp_path)
