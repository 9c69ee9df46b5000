"""Status contract of a pool that KEDA or an HPA resizes, on the fake API server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from policies.model import PoolName, WorkloadName
from scaler.adapters import open_pool
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.config.kinds.kubernetes import Published
from scaler.ports import Actuator, Misconfigured, Permitted, Publishing
from scaler.shared_resources import AdapterContext
from tests.contracts.actuator import ActuatorRig, StatusContract, attempt, settled
from tests.contracts.test_kubernetes import FakeRig
from tests.servers.kube_fake import kube_fake, write_kubeconfig
from tests.servers.kube_objects import put_deployment
from tests.servers.tcp_fault import tcp_proxy

pytestmark = pytest.mark.slow


class PublishedRig(FakeRig):
    async def open(self, context: AdapterContext) -> Actuator:
        spec = Published(name="llm", cluster=KubeCluster(kubeconfig=str(self._kubeconfig)))
        return await open_pool(spec, context, WorkloadName("llm"), PoolName("gpus"))

    async def add_autoscaler(self, plural: str) -> None:
        """Create an HPA or a ScaledObject of the Deployment."""
        await self._fake.put(plural, "mine", {"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "llm"}}})


class TestPublished(StatusContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self._tmp = tmp_path

    def rig(self) -> AbstractAsyncContextManager[ActuatorRig]:
        return self._rig()

    @asynccontextmanager
    async def _rig(self) -> AsyncIterator[PublishedRig]:
        async with kube_fake() as fake, tcp_proxy("127.0.0.1", fake.port) as proxy:
            await put_deployment(fake, "llm", 2)
            yield PublishedRig(fake, proxy, write_kubeconfig(self._tmp / "kubeconfig", proxy.port))

    async def test_size_is_never_written(self, opened: tuple[ActuatorRig, Actuator]) -> None:
        rig, actuator = opened
        status = await settled(actuator, lambda s: s.ready == 2)
        assert isinstance(await attempt(actuator, 7, status), Misconfigured)
        assert await rig.writes() == 0

    async def test_size_of_the_partner_is_pending_and_no_other_writer(
        self, opened: tuple[ActuatorRig, Actuator]
    ) -> None:
        rig, actuator = opened
        await settled(actuator, lambda s: s.ready == 2)
        await rig.set_size(7)
        status = await settled(actuator, lambda s: s.desired == 7)
        assert (status.ready, status.pending, status.other_writer) == (2, 5, None)

    @pytest.mark.parametrize(
        ("plural", "name"),
        [(None, None), ("horizontalpodautoscalers", "HPA mine"), ("scaledobjects", "KEDA ScaledObject mine")],
    )
    async def test_partner_is_named(
        self, opened: tuple[ActuatorRig, Actuator], plural: str | None, name: str | None
    ) -> None:
        rig, actuator = opened
        assert isinstance(rig, PublishedRig)
        assert isinstance(actuator, Publishing)
        if plural is not None:
            await rig.add_autoscaler(plural)
        status = await settled(actuator, lambda s: s.ready == 2)
        assert (actuator.partner(), status.other_writer) == (name, None)

    async def test_permission_to_write_is_not_needed(self, opened: tuple[ActuatorRig, Actuator]) -> None:
        _, actuator = opened
        assert isinstance(actuator, Permitted)
        await settled(actuator, lambda s: s.ready == 2)
        actions = [permit.action for permit in await actuator.permits()]
        assert "get deployments.apps in namespace default" in actions
        assert not [action for action in actions if action.startswith("patch")]
