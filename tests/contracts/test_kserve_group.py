"""Contract of a route by KServe's routing groups: a real API server, and KServe's treatment of weights."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import pytest

from policies.model import PoolName, WorkloadName
from policies.model.names import BackendName, RouteName
from policies.model.route import RouteDecision, RouteStatus
from policies.model.route_spec import Backend
from scaler.adapters import open_route
from scaler.clock import SystemClock
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.config.kinds.kserve_group import KServeGroup
from scaler.ports import Conflict, Misconfigured, Permitted, Unavailable
from scaler.routes.kserve_group import KServeGroupActuator
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.scaler.clouds.kserve_place import KServePlace, kserve_place
from tests.servers.control_plane import why_not
from tests.servers.daemon import until
from tests.servers.kserve import GROUP
from tests.servers.kube_real import shipped_rules
from tests.servers.tcp_fault import ProxyFault

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is one")]
H100, L40S = BackendName("h100"), BackendName("l40s")


@dataclass
class GroupRig:
    """The group `chat` with the members `chat-h100` and `chat-l40s`."""

    place: KServePlace
    resources: Resources
    route: KServeGroupActuator

    async def add(self, name: str, weight: int | None, group: str = "chat") -> None:
        route = {"group": group} | ({} if weight is None else {"weight": weight})
        await self.place.add_llm_service(name, replicas=1, router={"route": route})

    async def edit(self, name: str, manager: str = "kubectl", **change: Any) -> None:
        await self.place.kube.call("PATCH", f"{self.place.path(name, llm=True)}?fieldManager={manager}", change)

    async def weights(self) -> list[int]:
        """Return the weights in the objects."""
        bodies = [await self.place.kube.call("GET", self.place.path(n, llm=True)) for n in ("chat-h100", "chat-l40s")]
        return [body["spec"]["router"]["route"]["weight"] for body in bodies]

    async def apply(self, h100: int, observed: RouteStatus) -> None:
        await self.route.apply(RouteDecision({H100: h100, L40S: 10_000 - h100}, ""), observed)

    async def status(self, holds: Callable[[RouteStatus], bool] = lambda _: True) -> RouteStatus:
        """Return the first status that holds; KServe may not have observed a change yet."""
        statuses: list[RouteStatus] = []

        async def holding() -> bool:
            try:
                statuses.append((await self.route.status()).value)
            except (Misconfigured, Unavailable):
                return False
            return holds(statuses[-1])

        await until(holding)
        return statuses[-1]

    async def split(self, h100: int) -> RouteStatus:
        """Apply a split, and return the status that shows it."""
        await self.apply(h100, await self.status())
        return await self.status(lambda status: status.weights.get(H100, 0) == h100)

    async def refusal(self, says: str) -> None:
        """Return once a read is refused with this text."""

        async def refused() -> bool:
            try:
                await self.route.status()
            except Misconfigured as e:
                return says in str(e)
            except Unavailable:
                return False
            return False

        await until(refused)


@asynccontextmanager
async def group_rig() -> AsyncIterator[GroupRig]:
    async with kserve_place() as place, Resources() as resources:
        spec = KServeGroup(
            group="chat",
            namespace=place.kube.namespace,
            members={H100: "chat-h100", L40S: "chat-l40s"},
            backends={H100: Backend(pool=PoolName("h100")), L40S: Backend(pool=PoolName("l40s"))},
            cluster=KubeCluster(kubeconfig=str(place.kube.kubeconfig)),
        )
        context = AdapterContext(resources, SystemClock(), DEADLINE_S)
        route = await open_route(spec, context, WorkloadName("chat"), RouteName("chat"))
        rig = GroupRig(place, resources, cast("KServeGroupActuator", route))
        await rig.add("chat-h100", 1)
        await rig.add("chat-l40s", 0)
        yield rig


def patched(rig: GroupRig) -> list[str]:
    """Return the members that were written, in order, from the audit log."""
    events = rig.place.kube.plane.audit_events()
    patches = [e for e in events if e["verb"] == "patch" and "fieldManager=forescale" in e["requestURI"]]
    written = [e["objectRef"] for e in patches if e["responseStatus"]["code"] == 200]
    return [ref["name"] for ref in written if ref["namespace"] == rig.place.kube.namespace]


async def test_split_is_written_to_each_member_the_larger_weight_first() -> None:
    async with group_rig() as env:
        assert (await env.status()).weights == {H100: 1}
        status = await env.split(7200)
        assert await env.weights() == [7200, 2800]
        assert status.other_writer is None
        await env.split(1000)
        assert await env.weights() == [1000, 9000]
        assert patched(env) == ["chat-h100", "chat-l40s", "chat-l40s", "chat-h100"]


async def test_a_write_of_the_status_is_no_conflict_and_another_writer_is() -> None:
    async with group_rig() as env:
        observed = await env.status()
        await env.edit("chat-h100", metadata={"labels": {"team": "chat"}})
        await env.apply(7200, observed)
        assert await env.weights() == [7200, 2800]
        observed = await env.status(lambda status: status.weights.get(H100) == 7200)
        await env.edit("chat-l40s", spec={"router": {"route": {"weight": 5000}}})
        with pytest.raises(Conflict, match="changed from h100 7200, l40s 2800 to h100 7200, l40s 5000: kubectl set it"):
            await env.apply(4000, observed)
        status = await env.status(lambda status: status.weights.get(L40S) == 5000)
        assert str(status.other_writer).startswith("kubectl set it to h100 7200, l40s 5000 at ")
        with pytest.raises(Conflict, match="was read again since"):
            await env.apply(4000, observed)


async def test_half_a_split_is_not_another_writer() -> None:
    async with group_rig() as env:
        observed = await env.status()
        rules = shipped_rules("kubernetes-kserve")
        only = [{**rule, "resourceNames": ["chat-h100"]} if rule["verbs"] == ["patch"] else rule for rule in rules]
        await env.place.kube.permit(only, "forescale-kserve")
        await env.place.kube.permitted("patch", f"{GROUP}/llminferenceservices", granted=False)
        with pytest.raises(Misconfigured, match="is forbidden"):
            await env.apply(7200, observed)
        assert await env.weights() == [7200, 0]
        assert (await env.status(lambda status: status.weights.get(H100) == 7200)).other_writer is None
        missing = [permit.action for permit in await env.route.permits() if not permit.granted]
        assert missing == [f"patch llminferenceservices.{GROUP} in namespace {env.place.kube.namespace}"]
        assert isinstance(env.route, Permitted)


async def test_write_with_a_lost_response_is_not_another_writer() -> None:
    async with group_rig() as env:
        observed = await env.status()
        proxy = env.place.kube.proxy
        proxy.cut_after, proxy.fault = 0, ProxyFault.CUT
        with pytest.raises(Unavailable):
            await env.apply(7200, observed)
        proxy.fault = ProxyFault.NONE
        assert (await env.status()).other_writer is None
        await env.split(7200)
        assert await env.weights() == [7200, 2800]


async def test_group_that_does_not_fit_is_refused() -> None:
    async with group_rig() as env:
        await env.status()
        await env.add("chat-a10", 3)
        await env.refusal("group chat in namespace")
        await env.refusal("sends requests to 'chat-a10' (weight 3), which is no backend; add it to backends")
        await env.edit("chat-a10", metadata={"annotations": {f"{GROUP}/stop": "true"}})
        assert (await env.status()).weights == {H100: 1}
        await env.edit("chat-l40s", spec={"router": {"route": {"weight": None}}})
        await env.refusal("LLMInferenceService chat-l40s has no weight; set spec.router.route.weight, to 0")
        await env.edit("chat-l40s", spec={"router": {"route": {"weight": 0, "group": "batch"}}})
        await env.refusal("LLMInferenceService chat-l40s is in the group 'batch'; set spec.router.route.group to chat")


async def test_weight_that_kserve_has_not_applied_is_unavailable() -> None:
    async with group_rig() as env:
        observed = await env.status()
        async with env.place.controller.cycle:  # KServe stands still
            await env.apply(7200, observed)
            with pytest.raises(Unavailable, match="KServe still applies the weight 1"):
                await env.route.status()
        await env.status(lambda status: status.weights == {H100: 7200, L40S: 2800})
