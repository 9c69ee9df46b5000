"""Contract of a route by an object of Kubernetes: a real API server, and a real Envoy behind a gateway controller."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scaler.config.kinds.gateway_routes import AiGatewayRoute, GatewayMetrics, HttpRoute
from scaler.ports import Conflict, Misconfigured, Permitted, RouteActuator, Unavailable
from tests.contracts.gateway_rig import GPUS, OPENAI, RouteKind, gateway_rig, route_rig
from tests.servers.control_plane import why_not
from tests.servers.daemon import until
from tests.servers.envoy import needs_envoy
from tests.servers.gateway_kinds import AI_GATEWAY, AI_ROUTES, GATEWAY, HTTP_ROUTES
from tests.servers.kube_real import shipped_rules
from tests.servers.tcp_fault import ProxyFault

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is one")]
HTTP = RouteKind(HTTP_ROUTES, f"{GATEWAY}/v1", "HTTPRoute", lambda s: HttpRoute(**s), {"rule": "llama"})
AI = RouteKind(AI_ROUTES, f"{AI_GATEWAY}/v1beta1", "AIGatewayRoute", lambda s: AiGatewayRoute(**s), {"rule_index": 1})
both_kinds = pytest.mark.parametrize("kind", [HTTP, AI], ids=["http_route", "ai_gateway_route"])
ROLE = "forescale-routes"


async def refusal(route: RouteActuator, error: type[Exception] = Misconfigured) -> str:
    """Return the error of the first read that is not about a pending observation."""
    caught: list[str] = []

    async def refused() -> bool:
        try:
            await route.status()
        except (Misconfigured, Unavailable) as e:
            caught.append(str(e) if isinstance(e, error) else "")
        else:
            caught.append("")
        return bool(caught[-1])

    await until(refused)
    return caught[-1]


@needs_envoy
@both_kinds
async def test_split_is_applied_and_measured(tmp_path: Path, kind: RouteKind) -> None:
    async with gateway_rig(tmp_path, kind) as env:
        assert (await env.status()).weights == {GPUS: 1}
        await env.split(7200)
        assert await env.weights() == {"vllm": 7200, "provider": 2800}
        before = await env.gateway.requests("vllm", "provider")
        await env.status(lambda status: status.requests_per_s is not None)
        assert set(await env.send(4000)) == {200}
        status = await env.status()
        after = await env.gateway.requests("vllm", "provider")
        counted = {GPUS: after["vllm"] - before["vllm"], OPENAI: after["provider"] - before["provider"]}
        assert {name: traffic.requests for name, traffic in status.traffic.items()} == counted
        assert sum(counted.values()) == 4000
        assert counted[OPENAI] / 4000 == pytest.approx(0.28, abs=0.03)  # four standard deviations
        assert all(traffic.errors == 0 for traffic in status.traffic.values())

        await env.split(0)
        for server in env.provider.servers.values():
            server.failing = True
        await env.status(lambda status: status.requests_per_s is not None)
        assert set(await env.send(20)) == {500}
        failed = (await env.status()).traffic[OPENAI]
        assert (failed.requests, failed.errors) == (20.0, 20.0)
        assert set(await env.send(20, "other")) == {200}, "the rule of the other model stays as it is"

        wrong = await env.open(traffic=GatewayMetrics(urls=env.traffic.urls, clusters={GPUS: "vlm"}))
        assert "no metrics of cluster 'vlm'; did you mean 'vllm'?; set traffic.clusters.gpus" in await refusal(wrong)
        shared = await env.open(traffic=GatewayMetrics(urls=env.traffic.urls, shared_cluster="vllm"))
        await shared.status()
        await env.send(20, "other")
        whole = (await shared.status()).value
        assert (whole.requests, set(whole.traffic)) == (20.0, {"vllm"}), "the demand without the backends"
        await env.gateway.stop()
        with pytest.raises(Unavailable):
            await env.route.status()


@both_kinds
async def test_another_writer_is_yielded_to(tmp_path: Path, kind: RouteKind) -> None:
    async with route_rig(tmp_path, kind) as env:
        await env.split(7200)
        observed = await env.status()
        assert observed.other_writer is None
        await env.edit(kind.rules(vllm=90, provider=10))
        with pytest.raises(Conflict, match="changed from gpus 7200, openai 2800 to gpus 90, openai 10: kubectl set it"):
            await env.apply(5000, observed)
        assert await env.weights() == {"vllm": 90, "provider": 10}
        writer = (await env.status()).other_writer
        assert str(writer).startswith("kubectl set it to gpus 90, openai 10 at ")
        await env.split(5000)
        assert await env.weights() == {"vllm": 5000, "provider": 5000}


async def test_change_of_anything_but_the_weights_is_no_conflict(tmp_path: Path) -> None:
    async with route_rig(tmp_path, HTTP) as env:
        observed = await env.status()
        await env.kube.call("PATCH", env.path(), {"metadata": {"labels": {"team": "chat"}}})
        await env.apply(7200, observed)
        assert await env.weights() == {"vllm": 7200, "provider": 2800}
        await env.status()
        with pytest.raises(Conflict, match="was read again since"):
            await env.apply(5000, observed)
        observed = await env.status()
        moved = HTTP.rules(provider=2800, vllm=7200)
        await env.edit([{"name": "new", "backendRefs": [{"name": "canary"}]}, *moved])
        await env.apply(6000, observed)
        rules = (await env.kube.call("GET", env.path()))["spec"]["rules"]
        assert [ref["weight"] for ref in rules[2]["backendRefs"]] == [4000, 6000], "the patch follows the names"
        assert rules[0]["backendRefs"][0]["weight"] == 1


async def test_write_with_a_lost_response_is_not_another_writer(tmp_path: Path) -> None:
    async with route_rig(tmp_path, HTTP) as env:
        observed = await env.status()
        env.kube.proxy.cut_after, env.kube.proxy.fault = 0, ProxyFault.CUT
        with pytest.raises(Unavailable):
            await env.apply(7200, observed)
        env.kube.proxy.fault = ProxyFault.NONE
        assert await env.weights() == {"vllm": 7200, "provider": 2800}
        status = await env.status()
        assert (status.weights, status.other_writer) == ({GPUS: 7200, OPENAI: 2800}, None)


@both_kinds
async def test_refused_write_names_the_permission(tmp_path: Path, kind: RouteKind) -> None:
    async with route_rig(tmp_path, kind) as env:
        observed = await env.status()
        checked = env.route
        assert isinstance(checked, Permitted)
        assert all(permit.granted for permit in await checked.permits())
        group = kind.api.partition("/")[0]
        only = [{**rule, "resourceNames": ["chat"]} for rule in shipped_rules("kubernetes-routes")]
        await env.kube.permit(only, ROLE)
        await env.kube.permitted("patch", f"{group}/{kind.plural}", granted=False)
        assert all(permit.granted for permit in await checked.permits()), "the permission for one object is enough"
        await env.kube.permit([{**rule, "verbs": ["get"]} for rule in only], ROLE)

        async def reported() -> bool:
            return any(not permit.granted for permit in await checked.permits())

        await until(reported)
        with pytest.raises(Misconfigured, match=r"is forbidden.*config/deploy/kubernetes-routes\.yaml"):
            await env.apply(7200, observed)
        assert await env.weights() == {"vllm": 1, "provider": 0}
        missing = [permit for permit in await checked.permits() if not permit.granted]
        action = f"patch {kind.plural}.{group} chat in namespace {env.kube.namespace}"
        assert [permit.action for permit in missing] == [action]
        assert "kubernetes-routes.yaml" in missing[0].detail


MISMATCHES: list[tuple[dict[str, Any], str]] = [
    ({"name": "chats"}, '"chats" not found'),
    ({"rule": "lama"}, "has no rule 'lama' (names: llama); correct rule, or set rule_index"),
    ({"rule": None}, "has 2 rules; set rule or rule_index to that of this workload"),
    ({"rule": None, "rule_index": 2}, "has 2 rules, so none has the number 2; set rule_index"),
    ({"rule": None, "rule_index": 0}, "rule 0 has no backendRef 'provider' (backendRefs: vllm); add it with weight 0"),
    ({"refs": {GPUS: "vllm"}}, "rule 'llama' has no backendRef 'openai' (backendRefs: vllm, provider)"),
]


async def test_mismatch_with_the_object_is_named(tmp_path: Path) -> None:
    async with route_rig(tmp_path, HTTP) as env:
        await env.status()
        for settings, message in MISMATCHES:
            assert message in await refusal(await env.open(**settings))
        assert await env.weights() == {"vllm": 1, "provider": 0}
        await env.edit(HTTP.rules(vllm=1, provider=1, canary=1))
        remedy = "which is no backend; add it to backends, or set its weight to 0"
        assert f"rule 'llama' sends requests to 'canary' (weight 1), {remedy}" in await refusal(env.route)
        await env.edit(HTTP.rules(vllm=1, provider=1, canary=0))
        await env.split(6000)
        assert await env.weights() == {"vllm": 6000, "provider": 4000, "canary": 0}


@both_kinds
async def test_gateway_that_has_not_applied_the_route_is_not_believed(tmp_path: Path, kind: RouteKind) -> None:
    async with route_rig(tmp_path, kind) as env:
        observed = await env.status()
        env.controller.paused = True
        await env.apply(7200, observed)
        assert "yet" in await refusal(env.route, Unavailable)
        env.controller.paused = False
        await env.status(lambda status: status.weights == {GPUS: 7200, OPENAI: 2800})
        env.controller.refused = ("Accepted", "NotAllowedByListeners", "no listener takes it")
        assert "is False: NotAllowedByListeners: no listener takes it" in await refusal(env.route)


async def test_unresolved_backend_is_reported(tmp_path: Path) -> None:
    async with route_rig(tmp_path, HTTP) as env:
        await env.status()
        env.controller.refused = ("ResolvedRefs", "BackendNotFound", "no Service provider")
        error = await refusal(env.route)
        assert "example.com/gateway-controller for edge: ResolvedRefs is False: BackendNotFound: no Service" in error


async def test_route_that_another_object_generates_is_refused(tmp_path: Path) -> None:
    async with route_rig(tmp_path, AI) as env:
        await env.status()
        env.kind = HTTP
        generated = await env.open(rule=None, rule_index=1)
        assert "AIGatewayRoute chat generates it and would revert each write; use kind ai_gateway" in await refusal(
            generated
        )


@needs_envoy
async def test_inference_pools_need_a_gateway_that_splits_them(tmp_path: Path) -> None:
    async with gateway_rig(tmp_path, HTTP) as env:
        rules = HTTP.rules(vllm=6000, provider=4000)
        for ref in rules[1]["backendRefs"]:
            ref |= {"group": "inference.networking.k8s.io", "kind": "InferencePool"}
        await env.edit(rules)
        error = await refusal(env.route)
        assert "example.com/gateway-controller is not known to split requests among InferencePools by weight" in error
        known = {"splits_inference_pools": (env.controller.name,)}
        assert "is verified by the requests to each; set traffic.clusters" in await refusal(await env.open(**known))
        env.route = await env.open(**known, traffic=env.traffic)
        await env.split(5000)
        await env.status(lambda status: status.requests_per_s is not None)
        await env.send(1000)
        assert (await env.status()).requests == 1000
        env.controller.first_only = True

        async def ignores_weights() -> bool:
            before = env.provider.chats
            await env.send(20)
            return env.provider.chats == before

        await until(ignores_weights)
        await env.send(1000)
        assert "the gateway does not split requests among InferencePools by weight" in await refusal(env.route)
