"""Actuator contract of every kind of pool on Google Cloud."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from policies.model import PoolName, WorkloadName
from scaler.adapters import open_pool
from scaler.clouds.gcp.run import READ_S
from scaler.clouds.gcp.settings import GcpNotices
from scaler.config.kinds.gcp_managed_pools import CloudRunService, CloudRunWorkerPool, VertexEndpoint
from scaler.config.kinds.gcp_pools import GceMig, GceMigStandby, GkeNodePool, GkeTpuSlices
from scaler.ports import Actuator
from scaler.shared_resources import AdapterContext
from tests.contracts.actuator import ActuatorContract, ActuatorRig
from tests.contracts.gcp import SINK, PoolFaults, exhaust, preempted
from tests.servers import gcp_run
from tests.servers.gcp import PROJECT, Gcp, gcp
from tests.servers.gcp_compute import Mig
from tests.servers.gcp_container import Pool
from tests.servers.gcp_vertex import QUOTA, STOCKOUT
from tests.servers.spoiling import Ahead

pytestmark = pytest.mark.slow

ZONE = "us-central1-a"
CLUSTER = f"projects/{PROJECT}/locations/us-central1/clusters/serving"
ENDPOINT = f"projects/{PROJECT}/locations/us-central1/endpoints/123"
LOCATION = f"projects/{PROJECT}/locations/us-central1"
NAMES = (WorkloadName("llm"), PoolName("gpus"))
NOTICES = GcpNotices(subscription=SINK)


class GroupRig(PoolFaults, ActuatorRig):
    """A pool on one group of machines, `mig`."""

    mig: Mig

    async def set_size(self, replicas: int) -> None:
        self.mig.resize(replicas)

    async def set_ready(self, replicas: int) -> None:
        self.mig.serve(replicas)

    async def announce_interruption(self, replicas: int) -> bool:
        for vm in self.mig.running()[:replicas]:
            preempted(self.cloud, self.mig, vm)
        return True

    async def fail_late(self, *, quota: bool) -> bool:
        exhaust(self.mig, quota=quota)
        return True


class MigRig(GroupRig):
    """A group in one zone with two running machines."""

    def __init__(self, cloud: Gcp) -> None:
        self.cloud = cloud
        self.mig = cloud.compute.add(Mig(PROJECT, ZONE, "vllm", (ZONE,)))
        self.mig.resize(2)
        self.mig.boot()

    async def open(self, context: AdapterContext) -> Actuator:
        spec = GceMig(project=self.cloud.project(), name="vllm", location=ZONE, market="spot", notices=NOTICES)
        return await open_pool(spec, context, *NAMES)

    async def size(self) -> int:
        return self.mig.target

    async def writes(self) -> int:
        return self.mig.writes

    async def interrupt(self, replicas: int) -> bool:
        for vm in self.mig.running()[:replicas]:
            vm.status, vm.action = "TERMINATED", "RECREATING"
        return True


class StandbyRig(PoolFaults, ActuatorRig):
    """A group with one serving machine and two stopped ones."""

    def __init__(self, cloud: Gcp) -> None:
        self.cloud = cloud
        self.mig = cloud.compute.add(Mig(PROJECT, "us-central1", "vllm", (ZONE, "us-central1-b")))
        self.mig.resize(1)
        self.mig.rest("STOPPED", 2)
        self.mig.boot()

    async def open(self, context: AdapterContext) -> Actuator:
        project = self.cloud.project()
        spec = GceMigStandby(project=project, name="vllm", location="us-central1", tier="warm_node", serves=NAMES[1])
        return await open_pool(spec, context, *NAMES)

    async def size(self) -> int:
        return self.mig.stopped

    async def set_size(self, replicas: int) -> None:
        self.mig.rest("STOPPED", replicas)

    async def set_ready(self, replicas: int) -> None:
        self.mig.boot()

    async def writes(self) -> int:
        return self.mig.writes

    async def fail_late(self, *, quota: bool) -> bool:
        exhaust(self.mig, quota=quota)
        return True


class NodePoolRig(GroupRig):
    """A spot node pool in one zone with two nodes."""

    def __init__(self, cloud: Gcp) -> None:
        self.cloud = cloud
        self.pool: Pool = cloud.container.add(CLUSTER, "h100", (ZONE,), nodes_per_zone=2, spot=True)
        self.mig = self.pool.migs[0]

    async def open(self, context: AdapterContext) -> Actuator:
        spec = GkeNodePool(
            project=self.cloud.project(),
            cluster="serving",
            location="us-central1",
            name="h100",
            market="spot",
            notices=NOTICES,
        )
        return await open_pool(spec, context, *NAMES)

    async def size(self) -> int:
        return self.pool.size

    async def writes(self) -> int:
        return self.cloud.container.writes

    async def interrupt(self, replicas: int) -> bool:
        for vm in self.mig.running()[:replicas]:
            vm.status, vm.action = "STOPPING", "NONE"
        return True


class SlicesRig(PoolFaults, ActuatorRig):
    """Two slices of four hosts each."""

    def __init__(self, cloud: Gcp) -> None:
        self.cloud = cloud
        for number in range(2):
            cloud.container.add(CLUSTER, f"v5e-{number}", (ZONE,), nodes_per_zone=4, spot=True, topology="4x4")

    @property
    def pools(self) -> list[Pool]:
        return list(self.cloud.container.pools[CLUSTER].values())

    async def open(self, context: AdapterContext) -> Actuator:
        spec = GkeTpuSlices(
            project=self.cloud.project(),
            cluster="serving",
            location="us-central1",
            name="v5e",
            slice_zone=ZONE,
            machine_type="ct5lp-hightpu-4t",
            topology="4x4",
            market="spot",
            notices=NOTICES,
        )
        return await open_pool(spec, context, *NAMES)

    async def size(self) -> int:
        return len(self.pools)

    async def set_size(self, replicas: int) -> None:
        raise NotImplementedError

    async def set_ready(self, replicas: int) -> None:
        for number, pool in enumerate(self.pools):
            pool.migs[0].serve(4 if number < replicas else 3)

    async def run_out(self) -> bool:
        self.cloud.container.exhausted = True
        return True

    async def recover(self) -> None:
        await super().recover()
        self.cloud.container.exhausted = False

    async def lose_response(self) -> bool:
        return False  # a size takes several writes: a lost one has its own test

    async def announce_interruption(self, replicas: int) -> bool:
        for pool in self.pools[:replicas]:
            preempted(self.cloud, pool.migs[0], pool.migs[0].vms[2])
        return True

    async def interrupt(self, replicas: int) -> bool:
        for pool in self.pools[:replicas]:
            pool.migs[0].vms[2].status = "STOPPING"
        return True

    async def fail_late(self, *, quota: bool) -> bool:
        for pool in self.pools[2:]:
            exhaust(pool.migs[0], quota=quota)
        return True


class VertexRig(PoolFaults, ActuatorRig):
    """A deployed model with two replicas, on an endpoint whose operations end at once."""

    def __init__(self, cloud: Gcp) -> None:
        self.cloud = cloud
        self.model = cloud.vertex.add(ENDPOINT, "7", 2, scale_to_zero=True)

    async def open(self, context: AdapterContext) -> Actuator:
        place: dict[str, Any] = {"location": "us-central1", "endpoint": "123", "deployed_model": "7"}
        spec = VertexEndpoint(project=self.cloud.project(), **place, scale_to_zero=True, min_replicas=0)
        return await open_pool(spec, context, *NAMES)

    async def size(self) -> int:
        self.cloud.vertex.advance()
        return self.model.minimum

    async def set_size(self, replicas: int) -> None:
        self.model.minimum, self.model.maximum = replicas, max(1, replicas)

    async def set_ready(self, replicas: int) -> None:
        self.cloud.vertex.serve(self.model, replicas)

    async def run_out(self) -> bool:
        self.cloud.vertex.exhausted = True
        return True

    async def writes(self) -> int:
        return self.cloud.vertex.writes

    async def recover(self) -> None:
        await super().recover()
        self.cloud.vertex.exhausted = False

    async def fail_late(self, *, quota: bool) -> bool:
        (operation,) = self.cloud.vertex.operations
        operation.error = {"code": 8, "message": QUOTA} if quota else {"code": 14, "message": STOCKOUT}
        return True


class RunRig(PoolFaults, ActuatorRig):
    """A service with manual scaling and two instances. Its samples are visible at once."""

    def __init__(self, cloud: Gcp) -> None:
        self.cloud = cloud
        self.clock = Ahead()
        cloud.run.now = self.clock.now
        self.resource = self.add()

    def add(self) -> gcp_run.Resource:
        path = f"{LOCATION}/services/vllm"
        return self.cloud.run.add(path, 2, scalingMode="MANUAL", manualInstanceCount=2)

    def spec(self) -> CloudRunService | CloudRunWorkerPool:
        return CloudRunService(project=self.cloud.project(), location="us-central1", name="vllm")

    async def open(self, context: AdapterContext) -> Actuator:
        context.clock = self.clock
        return await open_pool(self.spec(), context, *NAMES)

    async def size(self) -> int:
        return self.resource.target

    async def set_size(self, replicas: int) -> None:
        self.resource.set("manualInstanceCount", replicas, "admin@example.com", 0.0)

    async def set_ready(self, replicas: int) -> None:
        self.clock.ahead_s += READ_S
        self.cloud.run.serve(self.resource, replicas)

    async def writes(self) -> int:
        return self.cloud.run.writes

    async def fail_late(self, *, quota: bool) -> bool:
        self.resource.stock = 2
        self.resource.failure = gcp_run.QUOTA if quota else gcp_run.STOCKOUT
        return True


class WorkerPoolRig(RunRig):
    """A worker pool with a manual count of two."""

    def add(self) -> gcp_run.Resource:
        return self.cloud.run.add(f"{LOCATION}/workerPools/vllm", 2, manualInstanceCount=2)

    def spec(self) -> CloudRunService | CloudRunWorkerPool:
        return CloudRunWorkerPool(project=self.cloud.project(), location="us-central1", name="vllm")


class GcpContract(ActuatorContract):
    kind: type[MigRig | StandbyRig | NodePoolRig | SlicesRig | VertexRig | RunRig]

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self._tmp = tmp_path

    def rig(self) -> AbstractAsyncContextManager[ActuatorRig]:
        return self._rig()

    @asynccontextmanager
    async def _rig(self) -> AsyncIterator[ActuatorRig]:
        async with gcp(self._tmp) as cloud:
            cloud.pubsub.subscribe(f"projects/{PROJECT}/subscriptions/{SINK}")
            yield self.kind(cloud)


class TestGceMig(GcpContract):
    kind = MigRig


class TestGceMigStandby(GcpContract):
    kind = StandbyRig


class TestGkeNodePool(GcpContract):
    kind = NodePoolRig


class TestGkeTpuSlices(GcpContract):
    kind = SlicesRig


class TestVertexEndpoint(GcpContract):
    kind = VertexRig


class TestCloudRunService(GcpContract):
    kind = RunRig


class TestCloudRunWorkerPool(GcpContract):
    kind = WorkerPoolRig
