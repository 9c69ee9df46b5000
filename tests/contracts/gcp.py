"""The faults of pools and sources on Google Cloud, which are the server's, the wire's and the log sink's."""

from __future__ import annotations

import json
from typing import ClassVar

from aiohttp import web

from tests.contracts.fronted import CUT_AFTER
from tests.servers.gcp import PROJECT, Gcp
from tests.servers.gcp_compute import QUOTA, STOCKOUT, Mig, Vm, refusal, stamp
from tests.servers.tcp_fault import Weather

SINK = "preemptions"
THROTTLED = (403, "rateLimitExceeded", "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute'.")
DENIED = (403, "forbidden", "Required 'compute.instanceGroupManagers.update' permission")


class GcpFaults:
    """Ends all with `recover`."""

    there: Gcp
    zones: ClassVar[tuple[str, ...]] = ("us-central1-a",)

    async def hang(self) -> None:
        self.there.rest.weather = Weather.FROZEN

    async def refuse(self) -> None:
        self.there.rest.weather = Weather.RESET
        self.there.rest.tear_down()

    async def cut_short(self) -> bool:
        self.there.rest.weather, self.there.rest.cut_after = Weather.CUT, CUT_AFTER
        self.there.rest.tear_down()
        return True

    async def recover(self) -> None:
        self.there.rest.weather = Weather.CLEAR
        self.there.reads = self.there.writes = None
        self.there.lose = False


class PoolFaults(GcpFaults):
    async def throttle(self) -> None:
        self.there.writes = refusal(*THROTTLED, retry_after_s=1)

    async def forbid(self) -> None:
        self.there.writes = refusal(*DENIED)

    async def garble(self) -> None:
        self.there.writes = web.Response(body=b'{"kind": "compute#operation", "na')

    async def lose_answer(self) -> bool:
        self.there.lose = True
        return True


def preempted(there: Gcp, mig: Mig, vm: Vm) -> None:
    """The audit log tells of a machine, and the sink brings it."""
    entry = {
        "protoPayload": {"methodName": "compute.instances.preempted", "resourceName": mig.machine(vm)},
        "resource": {"type": "gce_instance", "labels": {"zone": vm.zone, "project_id": PROJECT}},
        "timestamp": stamp(),
        "severity": "INFO",
    }
    there.pubsub.publish(f"projects/{PROJECT}/subscriptions/{SINK}", json.dumps(entry).encode())


def exhaust(mig: Mig, *, quota: bool, zones: tuple[str, ...] | None = None) -> None:
    """Zones of a group, all by default, have nothing more to give."""
    mig.out.update(dict.fromkeys(zones or mig.zones, QUOTA if quota else STOCKOUT))
    mig.refuse()
