"""A strict counterpart of LiteLLM's proxy: its admin API, its weighted selection, and its metrics.

It follows the source of LiteLLM 1.110.2, whose proxy itself needs a database client that is downloaded at its start.
A field or call that it does not know is refused.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from tests.servers.site import listening

ADMIN_KEY: Final = "sk-admin-of-the-proxy"
USER_KEY: Final = "sk-of-a-team"
TTFT_BOUNDS_S: Final = (0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass
class StoredDeployment:
    """A deployment of a model group. A cooling one failed lately, and gets no requests."""

    group: str
    weight: float | None = None
    blocked: bool = False
    stored: bool = True
    cooling: bool = False
    failing: str = ""
    ttft_s: float = 0.2


@dataclass
class LiteLlmProxy:
    """The proxy. `stale` deployments are reported in place of the present ones, as by a proxy that did not reload."""

    deployments: dict[str, StoredDeployment] = field(default_factory=dict)
    strategy: str = "simple-shuffle"
    router_weights: dict[str, dict[str, float]] = field(default_factory=dict)
    stale: dict[str, StoredDeployment] | None = None
    writes: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    refuse_write: int = 0
    has_metrics: bool = True
    requests: Counter[str] = field(default_factory=Counter)
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    first_tokens: Counter[tuple[str, float]] = field(default_factory=Counter)
    url: str = ""
    rng: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311

    def chat(self, group: str, requests: int = 1) -> None:
        """Send requests to a group, each to a deployment that LiteLLM selects."""
        for _ in range(requests):
            name = self._select(group)
            deployment = self.deployments[name]
            self.requests[name] += 1
            if deployment.failing:
                self.failures[name, deployment.failing] += 1
            else:
                self.first_tokens[name, deployment.ttft_s] += 1

    def _select(self, group: str) -> str:
        """Select by weight; without any positive one, evenly. Blocked and cooling deployments are excluded before."""
        members = {name: d for name, d in self.deployments.items() if d.group == group}
        candidates = [name for name, d in members.items() if not d.blocked and not d.cooling]
        if not candidates:
            raise AssertionError("every deployment is blocked or cools down: clients get an error")
        weights = [self.deployments[name].weight or 0.0 for name in candidates]
        return self.rng.choices(candidates, weights if sum(weights) > 0 else None)[0]

    # --- the API

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._authorized])
        app.router.add_get("/model/info", self._info)
        app.router.add_get("/router/settings", self._settings)
        app.router.add_patch("/model/{id}/update", self._update)
        app.router.add_get("/metrics", self._metrics)
        return app

    @web.middleware
    async def _authorized(self, request: web.Request, handler: Any) -> web.StreamResponse:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if request.path != "/metrics" and key not in {ADMIN_KEY, USER_KEY}:
            return _error(401, "Authentication Error, Invalid proxy server token passed")
        if request.method == "PATCH" and key != ADMIN_KEY:
            return _error(403, "Only proxy admins can change a model's blocked flag.")
        response: web.StreamResponse = await handler(request)
        return response

    async def _info(self, request: web.Request) -> web.Response:
        present = self.deployments if self.stale is None else self.stale
        return web.json_response(
            {
                "data": [
                    {
                        "model_name": d.group,
                        "litellm_params": {
                            "model": "openai/llama",
                            **({} if d.weight is None else {"weight": d.weight}),
                        },
                        "model_info": {"id": name, "db_model": d.stored, "blocked": d.blocked},
                    }
                    for name, d in present.items()
                ]
            }
        )

    async def _settings(self, request: web.Request) -> web.Response:
        current = {"routing_strategy": self.strategy, "num_retries": 2}
        return web.json_response({"fields": [], "current_values": {**current, "weights": self.router_weights or None}})

    async def _update(self, request: web.Request) -> web.Response:
        name, body = request.match_info["id"], await request.json()
        if body.keys() != {"litellm_params", "blocked"} or body["litellm_params"].keys() != {"weight"}:
            return _error(422, f"unknown fields: {body}")
        if self.refuse_write and len(self.writes) + 1 >= self.refuse_write:
            return _error(503, "the database is not connected")
        deployment = self.deployments.get(name)
        if deployment is None:
            return _error(404, f"Model {name} not found on proxy.")
        if not deployment.stored:
            return _error(400, "Cannot edit config-based model. Store model in DB via /model/new first.")
        self.writes.append((name, body))
        deployment.weight, deployment.blocked = body["litellm_params"]["weight"], body["blocked"]
        return web.json_response({"model_id": name, "blocked": deployment.blocked})

    async def _metrics(self, request: web.Request) -> web.Response:
        if not self.has_metrics:
            return _error(404, "Not Found")
        lines = ["# TYPE litellm_deployment_total_requests_total counter"]
        for name, count in self.requests.items():
            lines.append(f'litellm_deployment_total_requests_total{{model_id="{name}",team="a"}} {count}')
        for (name, status), count in self.failures.items():
            labels = f'model_id="{name}",exception_status="{status}"'
            lines.append(f"litellm_deployment_failure_responses_total{{{labels}}} {count}")
        for name in self.deployments:
            times = {ttft_s: n for (own, ttft_s), n in self.first_tokens.items() if own == name}
            for bound in (*TTFT_BOUNDS_S, float("inf")):
                below, le = sum(n for t, n in times.items() if t <= bound), "+Inf" if bound > 1e9 else bound
                labels = f'model_id="{name}",le="{le}"'
                lines.append(f"litellm_llm_api_time_to_first_token_metric_bucket{{{labels}}} {below}")
        return web.Response(text="\n".join(lines) + "\n")


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "None", "code": str(status)}}, status=status)


@asynccontextmanager
async def litellm_proxy(**deployments: StoredDeployment) -> AsyncIterator[LiteLlmProxy]:
    proxy = LiteLlmProxy(deployments)
    async with listening(proxy.app()) as port:
        proxy.url = f"http://127.0.0.1:{port}"
        yield proxy
