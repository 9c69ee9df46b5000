"""An HTTPRoute of a real API server, compiled for a real Envoy: a burst overflows and returns."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.chat_rig import TOLERANCE, measured_share, ready, rises_once
from tests.e2e.overflow_story import BURST_PER_S, CHAT, GPUS, OPENAI, story
from tests.servers.control_plane import why_not
from tests.servers.daemon import daemon, until
from tests.servers.envoy import EnvoyServer, needs_envoy
from tests.servers.gateway import gateway_controller
from tests.servers.gateway_kinds import GATEWAY, HTTP_ROUTES, install
from tests.servers.kube_real import kube_namespace

pytestmark = [needs_envoy, pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is one")]


@asynccontextmanager
async def http_route(gateway: EnvoyServer) -> AsyncIterator[dict[str, Any]]:
    """Yield a route in an HTTPRoute, which a controller compiles for the gateway."""
    async with kube_namespace() as kube:
        await install(kube)
        refs = [{"name": GPUS, "weight": 1}, {"name": OPENAI, "weight": 0}]
        spec = {"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": refs}]}
        names = {"apiVersion": f"{GATEWAY}/v1", "kind": "HTTPRoute", "metadata": {"name": "chat"}}
        await kube.call("POST", kube.path(HTTP_ROUTES, api=f"apis/{GATEWAY}/v1"), {**names, "spec": spec})
        async with gateway_controller(kube, gateway.file):
            yield {
                "kind": "http_route",
                "name": "chat",
                "namespace": kube.namespace,
                "cluster": {"kubeconfig": str(kube.kubeconfig)},
                "traffic": {"urls": [f"{gateway.admin_url}/stats/prometheus"]},
            }


async def test_burst_overflows_through_an_http_route_and_returns_after_a_kill(tmp_path: Path) -> None:
    async with story(tmp_path, http_route) as told:
        told.clients.per_s = BURST_PER_S
        await told.until_share(lambda share: share > 0.4)
        await told.daemon.stop(signal.SIGKILL)
        before = told.ticks()
        decided = before[-1][0].decision.routes[CHAT].weights.get(OPENAI, 0) / 10_000
        servers = (told.engines, told.provider)
        share = await measured_share(told.gateway, GPUS, OPENAI, decided, servers)
        assert share == pytest.approx(decided, abs=TOLERANCE)

        async with daemon(str(told.file), journal=tmp_path / "journal") as told.daemon:
            await until(lambda: len(told.ticks()) > len(before), told.daemon)
            first, status = told.ticks()[len(before)]
            assert first.decision.routes[CHAT].weights == status.weights, "a start without counters keeps the split"
            await told.until_share(lambda share: share == 0.0)
            told.clients.stopping = True
            ticks = told.ticks()
        assert told.clients.failures == []
        assert told.engines.awake >= 5
        burst = next(i for i, (tick, _) in enumerate(ticks) if (tick.decision.routes[CHAT].demand or 0.0) > 4.0)
        assert ticks[burst][0].decision.routes[CHAT].weights[OPENAI] > 4000, "overflow begins in the tick that sees it"
        assert ready(ticks[-1][0]) > ready(ticks[burst][0])
        assert rises_once(ticks, CHAT, OPENAI), [tick.decision.routes[CHAT].weights for tick, _ in ticks]
