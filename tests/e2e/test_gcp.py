"""The shared scenario on Google Cloud: Pub/Sub, a spot group and a spot node pool, standby machines, the audit log."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from scaler.clock import SystemClock
from tests.contracts.gcp import SINK, exhaust, preempted
from tests.e2e.cloud_story import REGULAR, SPOT, WARM, WARM_REPLICAS, run_scenario
from tests.servers.gcp import PROJECT, Gcp, gcp
from tests.servers.gcp_compute import Mig

CLUSTER = f"projects/{PROJECT}/locations/us-central1/clusters/serving"
ZONES = ("us-central1-a", "us-central1-b")
COUNT = "pubsub.googleapis.com/subscription/num_undelivered_messages"
BOOT_S = 1.0
REST_S = 3.0
INTERRUPTION_S = 2.5
"""Time from the notice to the interruption; Google gives at most 30 s. Seconds."""
RECREATION_S = 4.0


@dataclass
class GcpRig:
    """One project: a group and a node pool on spot, a group on demand with machines that stand by, a subscription."""

    cloud: Gcp
    groups: dict[str, Mig]
    env: Mapping[str, str] = field(default_factory=dict)

    def sources(self) -> Mapping[str, Any]:
        project = self.cloud.document()
        return {
            "queue": {
                "kind": "pubsub",
                "project": project,
                "subscription": "prompts",
                "by_region": False,
                "read_interval_s": 0.5,
            }
        }

    def pools(self) -> Mapping[str, Mapping[str, Any]]:
        project, notices = self.cloud.document(), {"notices": {"subscription": SINK}}
        return {
            SPOT[0]: {"kind": "gce_mig", "project": project, "name": SPOT[0], "location": ZONES[0], **notices},
            SPOT[1]: {
                "kind": "gke_node_pool",
                "project": project,
                "cluster": "serving",
                "location": "us-central1",
                "name": SPOT[1],
                **notices,
            },
            REGULAR: {"kind": "gce_mig", "project": project, "name": REGULAR, "location": ZONES[0]},
            WARM: {
                "kind": "gce_mig_standby",
                "project": project,
                "name": REGULAR,
                "location": ZONES[0],
                "refill": True,
            },
        }

    async def queue(self, messages: int) -> None:
        for metric in (COUNT, COUNT.replace("num_undelivered_messages", "oldest_unacked_message_age")):
            self.cloud.monitoring.record(metric, messages, SystemClock().now(), subscription_id="prompts")

    async def requested(self, pool: str) -> int:
        return self.groups[pool].target

    async def interrupt(self, pool: str) -> None:
        group = self.groups[pool]
        vm = group.running()[0]
        preempted(self.cloud, group, vm)
        asyncio.get_running_loop().call_later(INTERRUPTION_S, group.preempt, vm, RECREATION_S)

    async def exhaust(self, pool: str) -> None:
        exhaust(self.groups[pool], quota=False)

    async def warm(self) -> int:
        return sum(vm.status == "TERMINATED" and vm.target_status == "STOPPED" for vm in self.groups[REGULAR].vms)


@pytest.mark.slow
async def test_scale_out_interruption_and_scale_in_on_google_cloud(tmp_path: Path) -> None:
    async with gcp(tmp_path) as cloud:
        groups = {
            SPOT[0]: cloud.compute.add(Mig(PROJECT, ZONES[0], SPOT[0], ZONES[:1], boot_s=BOOT_S)),
            SPOT[1]: cloud.container.add(CLUSTER, SPOT[1], ZONES[1:], spot=True).migs[0],
            REGULAR: cloud.compute.add(Mig(PROJECT, ZONES[0], REGULAR, ZONES[:1], boot_s=BOOT_S, rest_s=REST_S)),
        }
        groups[SPOT[1]].boot_s = BOOT_S
        groups[REGULAR].rest("STOPPED", WARM_REPLICAS)
        groups[REGULAR].standby["mode"] = "SCALE_OUT_POOL"
        for name in (SINK, "prompts"):
            cloud.pubsub.subscribe(f"projects/{PROJECT}/subscriptions/{name}")
        rig = GcpRig(cloud, groups)
        await rig.queue(0)
        await run_scenario(rig, tmp_path)
