"""Contract of a route by LiteLLM's model group, on a strict counterpart of its proxy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from policies.model import PoolName, WorkloadName
from policies.model.names import BackendName, RouteName
from policies.model.route import RouteDecision, RouteStatus
from policies.model.route_spec import Backend, Provider
from scaler.adapters import open_route
from scaler.clouds.http_access import Access
from scaler.config.kinds.litellm import LiteLlm, LiteLlmMetrics
from scaler.config.secret import Secret
from scaler.ports import Conflict, Misconfigured, Permitted, RouteActuator, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.fakes import ManualClock
from tests.servers.litellm import ADMIN_KEY, USER_KEY, LiteLlmProxy, StoredDeployment, litellm_proxy

GPUS, OPENAI = BackendName("gpus"), BackendName("openai")
PROVIDER = Provider(usd_per_million_input_tokens=0.2, usd_per_million_output_tokens=0.6)
GROUP = "llama"


@dataclass
class Rig:
    proxy: LiteLlmProxy
    key_file: Path
    resources: Resources
    clock: ManualClock = field(default_factory=ManualClock)

    async def open(self, **changes: Any) -> RouteActuator:
        settings: dict[str, Any] = {
            "url": self.proxy.url,
            "model_group": GROUP,
            "backends": {GPUS: Backend(pool=PoolName("main")), OPENAI: Backend(provider=PROVIDER)},
            "deployments": {GPUS: "vllm", OPENAI: "gpt"},
            "access": Access(bearer_token=Secret(file=str(self.key_file))),
            "traffic": LiteLlmMetrics(urls=(f"{self.proxy.url}/metrics",)),
        }
        context = AdapterContext(self.resources, self.clock, DEADLINE_S)
        return await open_route(LiteLlm(**{**settings, **changes}), context, WorkloadName("llm"), RouteName("chat"))

    async def read(self, route: RouteActuator) -> RouteStatus:
        self.clock.advance(15)
        return (await route.status()).value

    async def split(self, route: RouteActuator, gpus: int) -> None:
        weights = {GPUS: gpus, OPENAI: 10_000 - gpus}
        await route.apply(RouteDecision(weights, ""), await self.read(route))


@asynccontextmanager
async def rig(folder: Path, **deployments: StoredDeployment) -> AsyncIterator[Rig]:
    key_file = folder / "key"
    key_file.write_text(ADMIN_KEY)
    present = {"vllm": StoredDeployment(GROUP, 1), "gpt": StoredDeployment(GROUP, 0), **deployments}
    async with litellm_proxy(**present, other=StoredDeployment("other", 5)) as proxy, Resources() as resources:
        yield Rig(proxy, key_file, resources)


async def test_split_is_applied_and_measured(tmp_path: Path) -> None:
    async with rig(tmp_path) as env:
        route = await env.open()
        first = await env.read(route)
        assert (first.weights, first.traffic) == ({GPUS: 1}, {})
        await env.split(route, 7200)
        status = await env.read(route)
        assert (status.weights, status.other_writer) == ({GPUS: 7200, OPENAI: 2800}, None)
        assert env.proxy.deployments["other"] == StoredDeployment("other", 5), "another group stays as it is"
        env.proxy.deployments["gpt"].ttft_s = 7.0
        env.proxy.chat(GROUP, 4000)
        status = await env.read(route)
        assert (status.requests, status.over_s) == (4000.0, 15.0)
        assert status.traffic[OPENAI].requests / 4000 == pytest.approx(0.28, abs=0.03)
        assert status.traffic[OPENAI].latency_s == 5.0, "the bucket from 5 to 10 s, of which the lower bound counts"
        assert status.traffic[GPUS].latency_s == 0.0
        quiet = await env.read(route)
        assert (quiet.requests, quiet.traffic[OPENAI].latency_s) == (0.0, None)


async def test_failures_count_against_a_deployment_and_errors_of_clients_do_not(tmp_path: Path) -> None:
    async with rig(tmp_path) as env:
        route = await env.open()
        await env.read(route)
        for status in ("500", "429", "", "400", "404"):
            env.proxy.deployments["vllm"].failing = status or "None"
            env.proxy.chat(GROUP, 10)
        traffic = (await env.read(route)).traffic[GPUS]
        assert (traffic.requests, traffic.errors) == (50.0, 30.0)


async def test_backend_without_weight_gets_no_requests_while_the_others_cool_down(tmp_path: Path) -> None:
    async with rig(tmp_path) as env:
        env.proxy.deployments["vllm"].cooling = True
        env.proxy.chat(GROUP)
        assert env.proxy.requests["gpt"] == 1, "LiteLLM sends requests to a deployment of weight 0"
        route = await env.open()
        await env.split(route, 10_000)
        assert env.proxy.deployments["gpt"].blocked
        with pytest.raises(AssertionError, match="clients get an error"):
            env.proxy.chat(GROUP)
        await env.split(route, 5000)
        env.proxy.chat(GROUP)
        assert env.proxy.requests["gpt"] == 2


async def test_a_backend_gains_requests_before_another_loses_them(tmp_path: Path) -> None:
    async with rig(tmp_path) as env:
        route = await env.open()
        await env.split(route, 0)
        gains = ("gpt", {"litellm_params": {"weight": 10_000}, "blocked": False})
        loses = ("vllm", {"litellm_params": {"weight": 0}, "blocked": True})
        assert env.proxy.writes == [gains, loses]


async def test_group_without_weights_splits_nothing_yet(tmp_path: Path) -> None:
    none = {"vllm": StoredDeployment(GROUP), "gpt": StoredDeployment(GROUP)}
    async with rig(tmp_path, **none) as env:
        route = await env.open()
        assert (await env.read(route)).weights == {}, "LiteLLM selects evenly then, or by rpm or tpm"
        with pytest.raises(Misconfigured, match="set zero_replicas to hold"):
            await route.apply(RouteDecision({}, "", retry_after_s=90.0), await env.read(route))
        env.proxy.deployments["vllm"].weight, env.proxy.deployments["gpt"].weight = 0.7, 0.3
        assert (await env.read(await env.open())).weights == {GPUS: 7000, OPENAI: 3000}


async def test_another_writer_is_yielded_to(tmp_path: Path) -> None:
    async with rig(tmp_path) as env:
        route = await env.open()
        observed = await env.read(route)
        env.proxy.deployments["gpt"].weight = 3
        changed = "changed from gpus 1 to gpus 1, openai 3: another writer set it"
        with pytest.raises(Conflict, match=changed):
            await route.apply(RouteDecision({GPUS: 7200, OPENAI: 2800}, ""), observed)
        assert env.proxy.writes == []
        assert str((await env.read(route)).other_writer).startswith("another writer set model group 'llama'")
        await env.split(route, 5000)
        env.clock.advance(601)
        assert (await env.read(route)).other_writer is None


@pytest.mark.parametrize("refused", [1, 2])
async def test_write_that_ends_half_way_is_not_another_writer(tmp_path: Path, refused: int) -> None:
    async with rig(tmp_path) as env:
        route = await env.open()
        env.proxy.refuse_write = refused
        with pytest.raises(Unavailable, match=r"HTTP 503: .*the database is not connected"):
            await env.split(route, 0)
        env.proxy.refuse_write = 0
        for _ in range(6):
            status = await env.read(route)
            assert status.other_writer is None
        assert status.weights == ({GPUS: 1} if refused == 1 else {GPUS: 1, OPENAI: 10_000})
        await env.split(route, 0)
        assert (await env.read(route)).weights == {OPENAI: 10_000}


async def test_proxy_that_has_not_reloaded_is_not_another_writer(tmp_path: Path) -> None:
    async with rig(tmp_path) as env:
        route = await env.open()
        await env.read(route)
        env.proxy.stale = {name: replace(d) for name, d in env.proxy.deployments.items()}
        await env.split(route, 7200)
        stale = await env.read(route)
        assert (stale.weights, stale.other_writer) == ({GPUS: 1}, None)
        present, env.proxy.stale = env.proxy.stale, None
        assert (await env.read(route)).other_writer is None
        env.proxy.stale = present
        env.clock.advance(60)
        assert (await env.read(route)).other_writer is not None, "a proxy has reloaded after a minute"


UNKNOWN = "model group 'llama' of {url} has no deployment 'vlm' (deployments: vllm, gpt); add it with weight 0, or set "
FROM_FILE = (
    "the deployment 'vllm' from its configuration file, which LiteLLM does not change; remove it there, and add it "
)
STRANGER = "sends requests to 'canary' (weight 2), which is no backend; add it to backends"
NO_GROUP = "model group 'lama' of {url} has no deployment 'vllm' (deployments: none)"


@pytest.mark.parametrize(
    ("deployments", "changes", "message"),
    [
        ({}, {"deployments": {GPUS: "vlm", OPENAI: "gpt"}}, UNKNOWN + "deployments.gpus"),
        ({"vllm": StoredDeployment(GROUP, 1, stored=False)}, {}, FROM_FILE + "with POST /model/new"),
        ({"canary": StoredDeployment(GROUP, 2)}, {}, STRANGER),
        ({}, {"model_group": "lama"}, NO_GROUP),
    ],
    ids=["unknown", "from_file", "stranger", "group"],
)
async def test_group_that_does_not_fit_is_named(
    tmp_path: Path, deployments: dict[str, StoredDeployment], changes: dict[str, Any], message: str
) -> None:
    async with rig(tmp_path, **deployments) as env:
        with pytest.raises(Misconfigured) as caught:
            await (await env.open(**changes)).status()
        assert message.format(url=env.proxy.url) in str(caught.value)


async def test_settings_that_ignore_the_weights_are_named(tmp_path: Path) -> None:
    async with rig(tmp_path) as env:
        route = await env.open()
        env.proxy.strategy = "latency-based-routing"
        with pytest.raises(
            Misconfigured, match="'latency-based-routing', which ignores weights; set it to simple-shuffle"
        ):
            await route.status()
        env.proxy.strategy, env.proxy.router_weights = "simple-shuffle", {GROUP: {"vllm": 1.0}}
        with pytest.raises(Misconfigured, match="weights of router_settings name 'llama' and override"):
            await route.status()
        env.proxy.router_weights, env.proxy.has_metrics = {}, False
        with pytest.raises(Misconfigured, match="/metrics: HTTP 404"):
            await route.status()
        assert (await env.read(await env.open(traffic=None))).requests_per_s is None


async def test_key_is_read_at_each_use_and_never_shown(tmp_path: Path) -> None:
    async with rig(tmp_path) as env:
        route = await env.open()
        assert isinstance(route, Permitted)
        granted = {permit.action: permit.granted for permit in await route.permits()}
        assert granted == {"GET /model/info": True, "GET /router/settings": True, "PATCH /model/{id}/update": None}
        env.key_file.write_text(USER_KEY)
        with pytest.raises(Misconfigured, match=r"HTTP 403: .*Only proxy admins can") as refused:
            await env.split(route, 5000)
        env.key_file.write_text("sk-unknown")
        with pytest.raises(Misconfigured, match="HTTP 401") as unknown:
            await route.permits()
        assert "sk-" not in str(refused.value) + str(unknown.value)
