"""Contract of a route, on a real Envoy."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from policies.model import PoolName, WorkloadName
from policies.model.names import BackendName, RouteName
from policies.model.route import RouteDecision, RouteStatus
from policies.model.route_spec import Backend, Overflow, Provider
from scaler.clock import SystemClock
from scaler.config.kinds.envoy import Envoy
from scaler.ports import Conflict, Misconfigured, RouteActuator, Unavailable
from scaler.routes.envoy import open_envoy
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.servers.chat import ChatServers, chat_servers, send_chats
from tests.servers.daemon import until
from tests.servers.envoy import EnvoyServer, cluster, envoy, needs_envoy

pytestmark = [needs_envoy, pytest.mark.slow]
GPUS, OPENAI = BackendName("gpus"), BackendName("openai")
PROVIDER = Provider(usd_per_million_input_tokens=0.2, usd_per_million_output_tokens=0.6)


@dataclass
class Rig:
    gateway: EnvoyServer
    pool: ChatServers
    provider: ChatServers
    route: RouteActuator
    open: Callable[..., Any]

    async def split(self, gpus: int) -> RouteStatus:
        """Apply a split, and return the status that shows it."""
        weights = {GPUS: gpus, OPENAI: 10_000 - gpus}
        await self.route.apply(RouteDecision(weights, ""), (await self.route.status()).value)
        return await self.until(lambda s: s.weights == {n: w for n, w in weights.items() if w})

    async def until(self, holds: Callable[[RouteStatus], bool]) -> RouteStatus:
        async def holding() -> bool:
            return holds((await self.route.status()).value)

        await until(holding)
        return (await self.route.status()).value

    async def send(self, requests: int) -> list[int]:
        """Send requests, twenty at a time, and return their statuses."""
        return await send_chats(self.gateway.url, requests)


@asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    async with chat_servers(3, 2) as pool, chat_servers(4, 1) as provider:
        clusters = [cluster("gpus", pool.endpoints), cluster("openai", provider.endpoints, pool.endpoints)]
        for servers in (pool, provider):
            servers.token_s, servers.tokens = 0.0, 1
        async with envoy(folder, clusters) as gateway, Resources() as resources:

            async def open_route(**settings: Any) -> RouteActuator:
                backends = {GPUS: Backend(pool=PoolName("main")), OPENAI: Backend(provider=PROVIDER)}
                own = {"file": str(gateway.file), "admin_url": gateway.admin_url, "overflow": Overflow()}
                spec = Envoy(**{"backends": backends, **own, **settings})
                return await open_envoy(
                    spec, AdapterContext(resources, SystemClock(), DEADLINE_S), WorkloadName("llm"), RouteName("chat")
                )

            route = await open_route()
            missing = (await route.status()).value
            assert missing == RouteStatus({}), "a file that does not exist yet splits nothing"
            await route.apply(RouteDecision({GPUS: 10_000, OPENAI: 0}, ""), missing)
            await gateway.start()
            yield Rig(gateway, pool, provider, route, open_route)


async def test_split_is_applied_and_measured(tmp_path: Path) -> None:
    async with rig(tmp_path) as env:
        assert (await env.route.status()).value.weights == {GPUS: 10_000}
        await env.split(7200)
        await env.until(lambda status: status.requests_per_s is not None)
        assert set(await env.send(4000)) == {200}
        status = (await env.route.status()).value
        requests = {name: traffic.requests for name, traffic in status.traffic.items()}
        counted = await env.gateway.requests("gpus", "openai")
        assert requests == {name: float(count) for name, count in counted.items()}
        assert sum(requests.values()) == 4000
        assert requests[OPENAI] / 4000 == pytest.approx(0.28, abs=0.02)
        assert all(traffic.errors == 0 for traffic in status.traffic.values())


async def test_streams_continue_while_the_weights_change(tmp_path: Path) -> None:
    async with rig(tmp_path) as env:
        env.pool.token_s, env.pool.tokens = 0.1, 20
        streams = asyncio.create_task(env.send(20))
        await until(lambda: env.pool.chats >= 20)
        await env.split(0)
        assert not streams.done()
        assert await streams == [200] * 20
        assert env.provider.chats == 0


async def test_failures_of_a_backend_are_counted(tmp_path: Path) -> None:
    async with rig(tmp_path) as env:
        await env.split(0)
        for server in env.provider.servers.values():
            server.failing = True
        await env.until(lambda status: status.requests_per_s is not None)
        assert set(await env.send(20)) == {500}
        status = (await env.route.status()).value
        assert (status.traffic[OPENAI].requests, status.traffic[OPENAI].errors) == (20.0, 20.0)


async def test_rejection_answers_503_with_retry_after(tmp_path: Path) -> None:
    async with rig(tmp_path) as env:
        await env.route.apply(RouteDecision({}, "", retry_after_s=90.0), (await env.route.status()).value)
        await env.until(lambda status: status.rejects and status.requests_per_s is not None)
        async with aiohttp.ClientSession() as http, http.get(env.gateway.url) as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "90")
        status = (await env.route.status()).value
        assert (status.weights, status.rejected) == ({}, 1.0)


async def test_edited_file_is_another_writer_also_after_a_restart_of_the_daemon(tmp_path: Path) -> None:
    async with rig(tmp_path) as env:
        await env.split(7200)
        edited = env.gateway.file.read_text(encoding="utf-8").replace("7200", "9000").replace("2800", "1000")
        temporary = env.gateway.file.with_suffix(".new")
        temporary.write_text(edited, encoding="utf-8")
        temporary.replace(env.gateway.file)
        for route in (env.route, await env.open()):
            env.route = route
            status = await env.until(lambda status: status.weights == {GPUS: 9000, OPENAI: 1000})
            assert str(status.other_writer).startswith(f"another writer changed {env.gateway.file} at ")
        os.utime(env.gateway.file, (time.time() - 700, time.time() - 700))
        assert (await env.route.status()).value.other_writer is None


async def test_change_since_the_read_is_a_conflict(tmp_path: Path) -> None:
    async with rig(tmp_path) as env:
        observed = (await env.route.status()).value
        await env.split(5000)
        with pytest.raises(Conflict, match="changed since it was read"):
            await env.route.apply(RouteDecision({GPUS: 10_000, OPENAI: 0}, ""), observed)
        assert "5000" in env.gateway.file.read_text(encoding="utf-8")


async def test_restarted_envoy_keeps_the_split_and_counts_anew(tmp_path: Path) -> None:
    async with rig(tmp_path) as env:
        await env.split(5000)
        await env.send(100)
        await env.gateway.stop()
        with pytest.raises(Unavailable):
            await env.route.status()
        await env.gateway.start_again()
        status = (await env.route.status()).value
        assert (status.weights, status.traffic) == ({GPUS: 5000, OPENAI: 5000}, {})
        await env.until(lambda status: status.requests_per_s is not None)
        await env.send(100)
        assert (await env.route.status()).value.requests == 100


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"route_config": "other"}, "Envoy applies no route configuration 'other'"),
        ({"stat_prefix": "edge"}, "no statistics http.edge.rq_direct_response; set stat_prefix"),
        ({"clusters": {OPENAI: "gpt"}}, "Envoy has no cluster 'gpt'; add it to Envoy, or set clusters.openai"),
    ],
)
async def test_mismatch_with_the_bootstrap_is_named(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    async with rig(tmp_path) as env:
        with pytest.raises(Misconfigured, match=message):
            await (await env.open(**settings)).status()


async def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    async with rig(tmp_path) as env:
        route = await env.open(file="/nowhere/routes.json")
        with pytest.raises(Misconfigured, match=r"/nowhere/routes\.json: No such file or directory; the daemon must"):
            await route.apply(RouteDecision({GPUS: 10_000}, ""), RouteStatus({}))


async def test_file_is_valid_for_envoy_at_each_moment(tmp_path: Path) -> None:
    async with rig(tmp_path) as env:
        writing = asyncio.create_task(_write_often(env))
        while not writing.done():
            json.loads(env.gateway.file.read_bytes())
            await asyncio.sleep(0)
        await writing


async def _write_often(env: Rig) -> None:
    for gpus in range(0, 10_000, 500):
        await env.split(gpus)
