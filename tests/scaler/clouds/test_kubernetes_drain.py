"""Drain of replicas: the choice of pods, the time limit, and routing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from policies.model import PoolName, PoolStatus, WorkloadName
from scaler.actuators.kubernetes import KubernetesResizer, open_kubernetes
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.drain_settings import Drain
from scaler.config.kinds.kubernetes import Kubernetes
from scaler.ports import Conflict, Misconfigured, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from tests.contracts.actuator import settled
from tests.fakes import ManualClock
from tests.patience import PATIENCE_S
from tests.servers.control_plane import why_not
from tests.servers.daemon import until
from tests.servers.kube_controller import Controllers, controllers
from tests.servers.kube_fake import FakeKube, kube_fake, write_kubeconfig
from tests.servers.kube_objects import put_deployment, ready_pod
from tests.servers.kube_real import KubeNamespace, kube_namespace
from tests.servers.pod_engines import PodEngines, pod_engines

ROUTED = "forescale.io/routed"
SINCE = "forescale.io/draining-since"
SETTLE_S, DEADLINE_S = 5.0, 120.0


class Stage:
    """Deployment `llm` of four pods, each with an engine at its own address: `llm-0` at 127.0.0.10 and so on."""

    def __init__(self, fake: FakeKube, engines: PodEngines, control: Controllers, kubeconfig: Path) -> None:
        self.fake = fake
        self.engines = engines
        self.control = control
        self.clock = ManualClock()
        self._kubeconfig = kubeconfig

    def load(self, *loads: float | None) -> None:
        """Set the running requests of each engine."""
        self.engines.loads = {f"127.0.0.{10 + number}": load for number, load in enumerate(loads)}

    async def open(self, resources: Resources, **spec: Any) -> KubernetesResizer:
        drain = Drain(routing_label=ROUTED, port=self.engines.port, settle_s=SETTLE_S, deadline_s=DEADLINE_S)
        cluster = KubeCluster(kubeconfig=str(self._kubeconfig))
        pool = Kubernetes(name="llm", cluster=cluster, drain=drain, **spec)
        return await open_kubernetes(
            pool, AdapterContext(resources, self.clock, 5.0), WorkloadName("chat"), PoolName("gpus")
        )

    async def tick(self, actuator: KubernetesResizer, target: int, after_s: float = 6.0) -> PoolStatus:
        """Run one tick of the controller: read, and write where needed."""
        self.clock.advance(after_s)
        await self.confirm(actuator)
        observed = (await actuator.status()).value
        if target != observed.desired or actuator.unfinished():
            await actuator.resize(target, observed)
        await self.quiet()
        return (await actuator.status()).value

    async def confirm(self, actuator: KubernetesResizer) -> None:
        """Change a pod, so that the watch confirms the state at the clock's present time."""
        await self.fake.put("pods", self.fake.all("pods")[0]["metadata"]["name"], {"status": {"touched": "yes"}})
        await settled(actuator, lambda _: True)

    async def quiet(self) -> None:
        """Return when the controllers are idle and the watches have reported their changes."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.fake.all("pods")) != self.size:  # noqa: ASYNC110 - the server has no event for it
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)

    @property
    def size(self) -> int:
        replicas: int = self.fake.get("deployments", "llm")["spec"]["replicas"]
        return replicas

    @property
    def out_of_routing(self) -> set[str]:
        return {p["metadata"]["name"] for p in self.fake.all("pods") if ROUTED not in p["metadata"]["labels"]}

    def annotations(self, pod: str) -> dict[str, str]:
        stored: dict[str, str] = self.fake.get("pods", pod)["metadata"].get("annotations", {})
        return stored


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with kube_fake() as fake, pod_engines() as engines:
        await put_deployment(fake, "llm", 4, labels={ROUTED: "true"})
        for number in range(4):
            await fake.put("pods", f"llm-{number}", {"status": {"podIP": f"127.0.0.{10 + number}"}})
        async with controllers(fake, "deployments", "llm") as control:
            control.labels = {ROUTED: "true"}
            yield Stage(fake, engines, control, write_kubeconfig(tmp_path / "kubeconfig", fake.port))


Opened = Callable[..., Awaitable[KubernetesResizer]]


@pytest.fixture
async def opened(stage: Stage) -> AsyncIterator[Opened]:
    async with Resources() as resources:

        async def opening(**spec: Any) -> KubernetesResizer:
            actuator = await stage.open(resources, **spec)
            await settled(actuator, lambda s: s.desired == 4)
            return actuator

        yield opening


async def test_least_busy_pod_is_removed_once_it_is_idle(stage: Stage, opened: Opened) -> None:
    stage.load(9, 2, 7, 5)
    actuator = await opened()
    assert (await stage.tick(actuator, 3)).desired == 3
    assert (stage.size, stage.out_of_routing) == (4, {"llm-1"})
    await stage.tick(actuator, 3, after_s=60)
    assert stage.size == 4  # it still has two requests running
    stage.load(9, 0, 7, 5)
    status = await stage.tick(actuator, 3)
    assert stage.control.removed == ["llm-1"]
    assert (stage.size, status.desired, status.ready, status.pending) == (3, 3, 3, 0)
    assert not actuator.unfinished()


async def test_draining_pod_is_neither_ready_nor_pending(stage: Stage, opened: Opened) -> None:
    stage.load(1, 1, 1, 1)
    status = await stage.tick(await opened(), 2)
    assert (status.desired, status.ready, status.pending, status.failed) == (2, 2, 0, 0)
    assert sum(part.ready for part in status.parts) == 2


async def test_an_idle_pod_waits_for_routes_to_settle(stage: Stage, opened: Opened) -> None:
    stage.load(0, 1, 1, 1)
    actuator = await opened()
    await stage.tick(actuator, 3)
    await stage.tick(actuator, 3, after_s=SETTLE_S - 1)
    assert stage.size == 4
    await stage.tick(actuator, 3, after_s=2)
    assert (stage.size, stage.control.removed) == (3, ["llm-0"])


async def test_drained_pod_is_removed_before_a_draining_one(stage: Stage, opened: Opened) -> None:
    stage.load(9, 2, 1, 8)
    actuator = await opened()
    await stage.tick(actuator, 2)
    assert stage.out_of_routing == {"llm-1", "llm-2"}
    stage.load(9, 0, 1, 8)
    status = await stage.tick(actuator, 2)
    assert (stage.size, stage.control.removed, status.desired) == (3, ["llm-1"], 2)
    stage.load(9, 0, 0, 8)
    await stage.tick(actuator, 2)
    assert (stage.size, stage.control.removed) == (2, ["llm-1", "llm-2"])


async def test_a_pod_with_unknown_load_is_not_idle(stage: Stage, opened: Opened) -> None:
    stage.load(None, 3, 2, 4)
    actuator = await opened()
    await stage.tick(actuator, 3)
    assert stage.out_of_routing == {"llm-2"}
    stage.load(None, 3, None, 4)
    await stage.tick(actuator, 3, after_s=60)
    assert stage.size == 4


async def test_busy_pod_is_removed_at_the_drain_deadline(stage: Stage, opened: Opened) -> None:
    stage.load(9, None, 9, 1)
    actuator = await opened()
    await stage.tick(actuator, 3)
    await stage.tick(actuator, 3, after_s=DEADLINE_S - 1)
    assert stage.size == 4
    await stage.tick(actuator, 3, after_s=2)
    assert (stage.size, stage.control.removed) == (3, ["llm-3"])


async def test_clock_jump_does_not_end_a_drain_early(stage: Stage, opened: Opened) -> None:
    stage.load(9, 9, 9, 1)
    actuator = await opened()
    await stage.tick(actuator, 3)
    stage.clock.jump_s = 3600.0
    await stage.tick(actuator, 3)
    assert stage.size == 4


async def test_returning_demand_reverts_a_drain(stage: Stage, opened: Opened) -> None:
    stage.load(9, 2, 7, 5)
    actuator = await opened()
    await stage.tick(actuator, 2)
    assert stage.out_of_routing == {"llm-1", "llm-3"}
    assert (await stage.tick(actuator, 3)).desired == 3
    assert stage.out_of_routing == {"llm-1"}
    status = await stage.tick(actuator, 6)
    assert (stage.size, stage.out_of_routing, status.desired) == (6, set(), 6)
    assert stage.annotations("llm-1") == {}
    assert stage.control.removed == []


async def test_new_daemon_continues_a_drain(stage: Stage, opened: Opened) -> None:
    stage.load(9, 2, 7, 5)
    await stage.tick(await opened(), 3)
    stage.load(9, 0, 7, 5)
    async with Resources() as resources:
        reopened = await stage.open(resources)
        await settled(reopened, lambda s: s.desired == 3)
        assert reopened.unfinished()
        await stage.tick(reopened, 3)
        await stage.tick(reopened, 3)
    assert (stage.size, stage.control.removed) == (3, ["llm-1"])


async def test_new_daemon_reverts_a_drain_after_demand_returns(stage: Stage, opened: Opened) -> None:
    stage.load(9, 2, 7, 5)
    await stage.tick(await opened(), 3)
    async with Resources() as resources:
        reopened = await stage.open(resources)
        await settled(reopened, lambda s: s.desired == 3)
        await stage.tick(reopened, 4)
    assert (stage.size, stage.out_of_routing) == (4, set())


async def test_status_read_during_a_drain_writes_nothing(stage: Stage, opened: Opened) -> None:
    stage.load(0, 0, 0, 0)
    actuator = await opened()
    await stage.tick(actuator, 2)
    stage.clock.advance(60)
    stage.fake.calls.clear()
    await stage.confirm(actuator)
    assert [call for call in stage.fake.calls if call[0] == "patch"] == []


async def test_an_unready_pod_is_removed_first(stage: Stage, opened: Opened) -> None:
    stage.load(0, 1, 1, 1)
    actuator = await opened()
    waiting: dict[str, Any] = {"status": {"phase": "Pending", "podIP": None, "conditions": []}}
    await stage.fake.put("pods", "llm-3", waiting)
    await settled(actuator, lambda s: s.ready == 3)
    await stage.tick(actuator, 3)
    await stage.tick(actuator, 3)
    assert (stage.size, stage.control.removed, stage.out_of_routing) == (3, ["llm-3"], set())


async def test_pods_that_were_never_created_need_no_drain(stage: Stage, opened: Opened) -> None:
    stage.load(1, 1, 1, 1)
    actuator = await opened()
    stage.control.running = False
    await actuator.resize(6, (await actuator.status()).value)
    observed = await settled(actuator, lambda s: s.desired == 6)
    await actuator.resize(4, observed)
    assert (stage.size, stage.out_of_routing) == (4, set())


async def test_no_drain_is_reverted_while_the_controller_removes_pods(stage: Stage, opened: Opened) -> None:
    stage.load(0, 1, 1, 1)
    actuator = await opened()
    await stage.tick(actuator, 3)
    stage.control.running = False
    stage.clock.advance(10)
    await actuator.resize(3, (await actuator.status()).value)
    status = await settled(actuator, lambda s: s.desired == 3)
    assert (stage.size, len(stage.fake.all("pods")), actuator.unfinished()) == (3, 4, False)
    await actuator.resize(3, status)
    assert stage.out_of_routing == {"llm-0"}


async def test_a_pod_with_a_pending_interruption_is_removed_first(stage: Stage, opened: Opened) -> None:
    stage.load(9, 2, 7, 5)
    actuator = await opened()
    await stage.fake.put("nodes", "node-2", {"spec": {"taints": [{"key": "karpenter.sh/disrupted"}]}})
    await settled(actuator, lambda s: s.interruption_pending == 1)
    await stage.tick(actuator, 3)
    assert stage.out_of_routing == {"llm-2"}


@pytest.mark.slow
async def test_scale_out_does_not_need_the_list_of_pods(stage: Stage, opened: Opened) -> None:
    stage.load(9, 2, 7, 5)
    actuator = await opened()
    await stage.tick(actuator, 3)
    stage.fake.forbidden |= {("list", "pods"), ("watch", "pods")}
    await stage.fake.drop_watches()
    await asyncio.sleep(0.5)  # the watch has ended, and no other can be opened
    stage.clock.advance(30)
    status = await settled(actuator, lambda s: s.desired == 3)
    await actuator.resize(5, status)
    assert stage.size == 6  # five and the draining one
    assert (await settled(actuator, lambda s: s.desired == 5)).pending > 0
    with pytest.raises(Unavailable, match="its pods cannot be listed now"):
        await actuator.resize(2, (await actuator.status()).value)


async def test_scale_in_during_a_rollout_is_a_conflict(stage: Stage, opened: Opened) -> None:
    stage.load(0, 0, 0, 0)
    actuator = await opened()
    await stage.fake.put("pods", "llm-0", {"metadata": {"labels": {"pod-template-hash": "new"}}})
    await asyncio.sleep(0.05)
    with pytest.raises(Conflict, match="scale-in waits for a rollout"):
        await stage.tick(actuator, 3)
    assert (stage.size, stage.out_of_routing) == (4, set())


async def test_unlistable_pods_make_the_status_unavailable(stage: Stage, tmp_path: Path) -> None:
    stage.fake.forbidden.add(("list", "pods"))
    async with Resources() as resources:
        actuator = await stage.open(resources)
        with pytest.raises(Unavailable, match=r"its pods cannot be listed now: .*cannot list resource"):
            await actuator.status()


async def test_routing_label_in_the_object_s_own_selector_is_misconfigured(stage: Stage, tmp_path: Path) -> None:
    await stage.fake.put("deployments", "llm", {"spec": {"selector": {"matchLabels": {"app": "llm", ROUTED: "true"}}}})
    async with Resources() as resources:
        actuator = await stage.open(resources)
        with pytest.raises(Misconfigured, match=r"its own selector has the label forescale\.io/routed"):
            await actuator.status()


async def test_pod_replaced_after_the_read_keeps_its_routing_label(stage: Stage, opened: Opened) -> None:
    stage.load(1, 0, 1, 1)
    actuator = await opened()
    stage.control.running = False
    stage.fake.silent = True  # the watch does not report it
    await stage.fake.delete("pods", "llm-1")
    await stage.fake.put("pods", "llm-1", ready_pod("llm", "node-1", labels={ROUTED: "true"}))
    await actuator.resize(3, (await actuator.status()).value)
    assert stage.out_of_routing == set()


async def test_stateful_set_drains_its_highest_ordinals(stage: Stage) -> None:
    stage.load(0, 0, 3, 0)
    stage.control.running = False
    deployment = stage.fake.get("deployments", "llm")
    await stage.fake.put("statefulsets", "llm", {"spec": deployment["spec"], "status": deployment["status"]})
    async with Resources() as resources, controllers(stage.fake, "statefulsets", "llm") as control:
        actuator = await stage.open(resources, object_kind="StatefulSet")
        await settled(actuator, lambda s: s.desired == 4)
        for _ in range(2):
            stage.clock.advance(6)
            await actuator.resize(2, (await actuator.status()).value)
            await asyncio.sleep(0.1)
        assert stage.out_of_routing == {"llm-2"}
        assert control.removed == ["llm-3"]
        stage.load(0, 0, 0, 0)
        stage.clock.advance(6)
        await actuator.resize(2, (await actuator.status()).value)
        await asyncio.sleep(0.1)
        assert control.removed == ["llm-3", "llm-2"]


@pytest.mark.slow
@pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is one")
async def test_a_real_api_server_accepts_the_writes_on_pods(clock: ManualClock) -> None:
    async with kube_namespace() as real, Resources() as resources:
        labels = {"metadata": {"labels": {ROUTED: "true"}}}
        pool = Kubernetes(
            name="llm",
            namespace=real.namespace,
            cluster=KubeCluster(kubeconfig=str(real.kubeconfig)),
            drain=Drain(routing_label=ROUTED, port=1, settle_s=0, deadline_s=5),
        )
        actuator = await open_kubernetes(
            pool, AdapterContext(resources, clock, 5.0), WorkloadName("chat"), PoolName("gpus")
        )
        observed = await settled(actuator, lambda s: s.ready == 2)
        for pod in (await real.call("GET", real.path("pods", api="api/v1")))["items"]:
            await real.call("PATCH", real.path("pods", pod["metadata"]["name"], "api/v1"), labels)
        await until(lambda: actuator._replica_observer is not None and actuator._replica_observer.pods.fresh)
        await actuator.resize(1, observed)
        assert (await settled(actuator, lambda s: s.desired == 1)).ready == 1
        assert (await real.size(), sorted(map(routed, await pods_of(real)))) == (2, [False, True])
        await actuator.resize(2, (await actuator.status()).value)
        assert sorted(map(routed, await pods_of(real))) == [True, True]
        await actuator.resize(1, await settled(actuator, lambda s: s.desired == 2))
        await settled(actuator, lambda s: s.desired == 1)
        clock.advance(6)  # its load is unknown, so it goes at the deadline
        await settled(actuator, lambda s: s.desired == 1)
        await actuator.resize(1, (await actuator.status()).value)
        assert await real.size() == 1


async def pods_of(real: KubeNamespace) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await real.call("GET", real.path("pods", api="api/v1")))["items"]
    return items


def routed(pod: dict[str, Any]) -> bool:
    return ROUTED in pod["metadata"]["labels"] and SINCE not in pod["metadata"].get("annotations", {})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
