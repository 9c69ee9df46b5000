"""Faults of pools and sources on Google Cloud: of the server, the connection and the log sink."""

from __future__ import annotations

import json
from typing import ClassVar

from aiohttp import web

from tests.contracts.fronted import CUT_AFTER
from tests.servers.gcp import PROJECT, Gcp
from tests.servers.gcp_compute import QUOTA, STOCKOUT, Mig, Vm, refusal, stamp
from tests.servers.tcp_fault import ProxyFault

SINK = "preemptions"
THROTTLED = (403, "rateLimitExceeded", "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute'.")
DENIED = (403, "forbidden", "Required 'compute.instanceGroupManagers.update' permission")


class GcpFaults:
    """Faults that `recover` ends."""

    cloud: Gcp
    zones: ClassVar[tuple[str, ...]] = ("us-central1-a",)

    async def hang(self) -> None:
        self.cloud.rest.fault = ProxyFault.FROZEN

    async def refuse(self) -> None:
        self.cloud.rest.fault = ProxyFault.RESET
        self.cloud.rest.tear_down()

    async def cut_short(self) -> bool:
        self.cloud.rest.fault, self.cloud.rest.cut_after = ProxyFault.CUT, CUT_AFTER
        self.cloud.rest.tear_down()
        return True

    async def recover(self) -> None:
        self.cloud.rest.fault = ProxyFault.NONE
        self.cloud.reads = self.cloud.writes = None
        self.cloud.lose = False


class PoolFaults(GcpFaults):
    async def throttle(self) -> None:
        self.cloud.writes = refusal(*THROTTLED, retry_after_s=1)

    async def forbid(self) -> None:
        self.cloud.writes = refusal(*DENIED)

    async def garble(self) -> None:
        self.cloud.writes = web.Response(body=b'{"kind": "compute#operation", "na')

    async def lose_response(self) -> bool:
        self.cloud.lose = True
        return True


def preempted(cloud: Gcp, mig: Mig, vm: Vm) -> None:
    """Log a machine's preemption, which the log sink delivers."""
    entry = {
        "protoPayload": {"methodName": "compute.instances.preempted", "resourceName": mig.machine(vm)},
        "resource": {"type": "gce_instance", "labels": {"zone": vm.zone, "project_id": PROJECT}},
        "timestamp": stamp(),
        "severity": "INFO",
    }
    cloud.pubsub.publish(f"projects/{PROJECT}/subscriptions/{SINK}", json.dumps(entry).encode())


def exhaust(mig: Mig, *, quota: bool, zones: tuple[str, ...] | None = None) -> None:
    """Exhaust a group's zones, by default all of them."""
    mig.exhausted_zones.update(dict.fromkeys(zones or mig.zones, QUOTA if quota else STOCKOUT))
    mig.refuse()
