"""Actuator contract of Kubernetes, on the fake API server and a real control plane."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from policies.model import PoolName, WorkloadName
from scaler.adapters import open_pool
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.config.kinds.kubernetes import Kubernetes
from scaler.ports import Actuator
from scaler.shared_resources import AdapterContext
from tests.contracts.actuator import ActuatorContract, ActuatorRig
from tests.servers.control_plane import SCALER, WRITES, ControlPlane, why_not
from tests.servers.kube_fake import FakeKube, kube_fake, write_kubeconfig
from tests.servers.kube_objects import event, put_deployment, waiting_pod
from tests.servers.kube_real import KubeNamespace, kube_namespace, shipped_rules
from tests.servers.tcp_fault import ProxyFault, TcpProxy, tcp_proxy

pytestmark = pytest.mark.slow


class FakeRig(ActuatorRig):
    def __init__(self, fake: FakeKube, proxy: TcpProxy, kubeconfig: Path) -> None:
        self._fake = fake
        self._proxy = proxy
        self._kubeconfig = kubeconfig

    async def open(self, context: AdapterContext) -> Actuator:
        spec = Kubernetes(name="llm", cluster=KubeCluster(kubeconfig=str(self._kubeconfig)))
        return await open_pool(spec, context, WorkloadName("llm"), PoolName("gpus"))

    async def size(self) -> int:
        replicas: int = self._fake.get("deployments", "llm")["spec"]["replicas"]
        return replicas

    async def set_size(self, replicas: int) -> None:
        await self._fake.put("deployments", "llm", {"spec": {"replicas": replicas}})

    async def set_ready(self, replicas: int) -> None:
        await self._fake.put("deployments", "llm", {"status": {"readyReplicas": replicas}})

    async def announce_interruption(self, replicas: int) -> bool:
        for number in range(replicas):
            taint = {"key": "aws-node-termination-handler/spot-itn", "effect": "NoSchedule"}
            await self._fake.put("nodes", f"node-{number}", {"spec": {"taints": [taint]}})
        return True

    async def interrupt(self, replicas: int) -> bool:
        for number in range(replicas):
            await self._fake.delete("pods", f"llm-{number}")
            await self._fake.delete("nodes", f"node-{number}")
        await self.set_ready(2 - replicas)
        return True

    async def fail_late(self, *, quota: bool) -> bool:
        why = "GCE quota exceeded" if quota else "GCE out of resources"
        text = f"Node scale up in zones us-a associated with this pod failed: {why}. Pod is at risk."
        for number in (2, 3, 4):
            pod = await self._fake.put("pods", f"llm-{number}", waiting_pod("llm"))
            await self._fake.put("events", f"late-{number}", event(pod, "FailedScaleUp", text))
        return True

    async def cut_short(self) -> bool:
        self._proxy.fault, self._proxy.cut_after = ProxyFault.CUT, 60
        self._proxy.tear_down()
        return True

    async def lose_response(self) -> bool:
        self._fake.loses = True
        return True

    async def writes(self) -> int:
        return self._fake.calls.count(("patch", "deployments/scale"))

    async def hang(self) -> None:
        self._proxy.fault = ProxyFault.FROZEN

    async def refuse(self) -> None:
        self._proxy.fault = ProxyFault.RESET
        self._proxy.tear_down()

    async def throttle(self) -> None:
        self._fake.throttled = True

    async def garble(self) -> None:
        self._fake.garbage = b'{"spec": {"replicas": '

    async def forbid(self) -> None:
        self._fake.forbidden.add(("patch", "deployments/scale"))

    async def recover(self) -> None:
        self._proxy.fault = ProxyFault.NONE
        self._fake.throttled = False
        self._fake.garbage = None
        self._fake.loses = False
        self._fake.forbidden.clear()


class TestKubernetesFake(ActuatorContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self._tmp = tmp_path

    def rig(self) -> AbstractAsyncContextManager[ActuatorRig]:
        return self._rig()

    @asynccontextmanager
    async def _rig(self) -> AsyncIterator[ActuatorRig]:
        async with kube_fake() as fake, tcp_proxy("127.0.0.1", fake.port) as proxy:
            await put_deployment(fake, "llm", 2)
            yield FakeRig(fake, proxy, write_kubeconfig(self._tmp / "kubeconfig", proxy.port))


class RealRig(ActuatorRig):
    def __init__(self, kube_namespace: KubeNamespace) -> None:
        self._kube_namespace = kube_namespace
        self._stalled: list[asyncio.StreamWriter] = []

    async def open(self, context: AdapterContext) -> Actuator:
        cluster = KubeCluster(kubeconfig=str(self._kube_namespace.kubeconfig))
        spec = Kubernetes(name="llm", namespace=self._kube_namespace.namespace, cluster=cluster)
        return await open_pool(spec, context, WorkloadName("llm"), PoolName("gpus"))

    async def size(self) -> int:
        return await self._kube_namespace.size()

    async def set_size(self, replicas: int) -> None:
        await self._kube_namespace.set_size(replicas)

    async def set_ready(self, replicas: int) -> None:
        self._kube_namespace.nodes.ready = replicas

    async def hang(self) -> None:
        self._kube_namespace.plane.freeze()

    async def refuse(self) -> None:
        self._kube_namespace.proxy.fault = ProxyFault.RESET
        self._kube_namespace.proxy.tear_down()

    async def throttle(self) -> None:
        """Use up the server's limit of writes in flight, by requests whose bodies never end."""
        path = self._kube_namespace.path("deployments", "llm") + "/scale"
        for _ in range(WRITES):
            self._stalled.append(await stalled_write(self._kube_namespace.plane, path))

    async def garble(self) -> None:
        """Truncate every response, even the TLS handshake's: the proxy cannot read the encrypted content."""
        self._kube_namespace.proxy.fault, self._kube_namespace.proxy.cut_after = ProxyFault.CUT, 1000
        self._kube_namespace.proxy.tear_down()

    async def cut_short(self) -> bool:
        await self.garble()
        return True

    async def forbid(self) -> None:
        reading = [rule for rule in shipped_rules() if "patch" not in rule["verbs"]]
        await self._kube_namespace.permit(reading)
        await self._kube_namespace.permitted("patch", "apps/deployments/scale", granted=False)

    async def recover(self) -> None:
        self._kube_namespace.plane.thaw()
        self._kube_namespace.proxy.fault = ProxyFault.NONE
        await self._kube_namespace.permit(shipped_rules())
        await self._kube_namespace.permitted("patch", "apps/deployments/scale", granted=True)
        if self._stalled:
            while self._stalled:
                await abort_connection(self._stalled.pop())
            await self._kube_namespace.unthrottled()


async def stalled_write(plane: ControlPlane, path: str) -> asyncio.StreamWriter:
    """Send the head of a PATCH; the server then waits for its body."""
    trust = ssl.create_default_context(cafile=str(plane.certificate))
    lines = (
        f"PATCH {path} HTTP/1.1",
        "Host: here",
        f"Authorization: Bearer {SCALER}",
        "Content-Type: application/merge-patch+json",
        "Content-Length: 100",
        "Expect: 100-continue",
        "\r\n",
    )
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", plane.port, ssl=trust)
        writer.write("\r\n".join(lines).encode())
        if b"100 Continue" in await reader.readline():
            return writer
        await abort_connection(writer)  # refused: a write that just ended still counts


async def abort_connection(writer: asyncio.StreamWriter) -> None:
    """Close a connection without a message."""
    writer.close()
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@pytest.mark.slow
@pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is one")
class TestKubernetesReal(ActuatorContract):
    def rig(self) -> AbstractAsyncContextManager[ActuatorRig]:
        return self._rig()

    @asynccontextmanager
    async def _rig(self) -> AsyncIterator[ActuatorRig]:
        async with kube_namespace() as place:
            rig = RealRig(place)
            try:
                yield rig
            finally:
                await rig.recover()
