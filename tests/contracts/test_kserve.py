"""Actuator contract of KServe's objects on a real control plane, with KServe's treatment of their children."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from policies.model import PoolName, WorkloadName
from scaler.adapters import open_pool
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.config.kinds.kserve import KServe, ObjectKind
from scaler.ports import Actuator
from scaler.shared_resources import AdapterContext
from tests.contracts.actuator import ActuatorContract, ActuatorRig
from tests.contracts.test_kubernetes import abort_connection, stalled_write
from tests.scaler.clouds.kserve_place import KServePlace, kserve_place
from tests.servers.control_plane import WRITES, why_not
from tests.servers.kserve import GROUP
from tests.servers.kube_real import shipped_rules
from tests.servers.tcp_fault import ProxyFault

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is one"),
]


class KServeRig(ActuatorRig):
    """An LLMInferenceService, whose `replicas` are the size."""

    object_kind: ObjectKind = "LLMInferenceService"
    manifest, role = "kubernetes-kserve", "forescale-kserve"
    resource = f"{GROUP}/llminferenceservices"
    child = "llm-kserve"

    def __init__(self, place: KServePlace) -> None:
        self._place = place
        self._stalled: list[asyncio.StreamWriter] = []

    async def create(self) -> None:
        await self._place.add_llm_service(replicas=2)

    def path(self) -> str:
        """Return the path that the size is written to."""
        return self._place.path("llm", llm=True)

    async def open(self, context: AdapterContext) -> Actuator:
        kube = self._place.kube
        cluster = KubeCluster(kubeconfig=str(kube.kubeconfig))
        spec = KServe(name="llm", namespace=kube.namespace, cluster=cluster, object_kind=self.object_kind)
        return await open_pool(spec, context, WorkloadName("chat"), PoolName("gpus"))

    async def size(self) -> int:
        replicas: int = (await self._place.kube.call("GET", self.path()))["spec"]["replicas"]
        return replicas

    async def set_size(self, replicas: int) -> None:
        await self._place.kube.call("PATCH", f"{self.path()}?fieldManager=kubectl", {"spec": {"replicas": replicas}})

    async def set_ready(self, replicas: int) -> None:
        self._place.kube.nodes.ready = replicas

    async def hang(self) -> None:
        self._place.kube.plane.freeze()

    async def refuse(self) -> None:
        self._place.kube.proxy.fault = ProxyFault.RESET
        self._place.kube.proxy.tear_down()

    async def throttle(self) -> None:
        """Use up the server's limit of writes in flight, by requests whose bodies never end."""
        for _ in range(WRITES):
            self._stalled.append(await stalled_write(self._place.kube.plane, self.path()))

    async def garble(self) -> None:
        """Truncate every response, even the TLS handshake's: the proxy cannot read the encrypted content."""
        self._place.kube.proxy.fault, self._place.kube.proxy.cut_after = ProxyFault.CUT, 1000
        self._place.kube.proxy.tear_down()

    async def cut_short(self) -> bool:
        await self.garble()
        return True

    async def fail_late(self, *, quota: bool) -> bool:
        if quota:
            return False  # KServe reports no reason in a form that tells a quota
        await self._place.controller.refuse("llm", "LLMInferenceServiceConfig base not found")
        await self._place.kube.set_size(2, self.child)
        return True

    async def forbid(self) -> None:
        reading = [rule for rule in shipped_rules(self.manifest) if "patch" not in rule["verbs"]]
        await self._place.kube.permit(reading, self.role)
        await self._place.kube.permitted("patch", self.resource, granted=False)

    async def recover(self) -> None:
        self._place.kube.plane.thaw()
        self._place.kube.proxy.fault = ProxyFault.NONE
        await self._place.kube.permit(shipped_rules(self.manifest), self.role)
        await self._place.kube.permitted("patch", self.resource, granted=True)
        if self._stalled:
            while self._stalled:
                await abort_connection(self._stalled.pop())
            await self._place.kube.unthrottled(f"{self.path()}?dryRun=All")


class ExternalRig(KServeRig):
    """An InferenceService of class `external`, whose Deployment has the size."""

    object_kind = "InferenceService"
    manifest, role = "kubernetes", "forescale"
    resource = "apps/deployments/scale"
    child = "llm-predictor"

    async def create(self) -> None:
        await self._place.add_service(autoscalerClass="external")

    def path(self) -> str:
        return self._place.kube.path("deployments", self.child) + "/scale"

    async def size(self) -> int:
        return await self._place.kube.size(self.child)

    async def set_size(self, replicas: int) -> None:
        await self._place.kube.set_size(replicas, self.child)

    async def fail_late(self, *, quota: bool) -> bool:
        failure = {"reason": "ModelLoadFailed", "message": "no such file", "time": "2026-11-30T12:34:56Z"}
        self._place.controller.model_failure["llm"] = failure
        return not quota


class KServeContract(ActuatorContract):
    kind: type[KServeRig]

    def rig(self) -> AbstractAsyncContextManager[ActuatorRig]:
        return self._rig()

    @asynccontextmanager
    async def _rig(self) -> AsyncIterator[ActuatorRig]:
        async with kserve_place() as place:
            rig = self.kind(place)
            await rig.create()
            await place.ready(rig.child, 2)
            try:
                yield rig
            finally:
                await rig.recover()


class TestLLMInferenceService(KServeContract):
    kind = KServeRig


class TestInferenceService(KServeContract):
    kind = ExternalRig
