"""EKS Pod Identity's agent, which runs on every node and returns a role's keys for a pod's token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from aiohttp import web

from tests.servers.site import listening


@dataclass
class Agent:
    """`tokens` are the received ones."""

    url: str = ""
    tokens: list[str] = field(default_factory=list)


@asynccontextmanager
async def pod_identity(port: int = 0) -> AsyncIterator[Agent]:
    """Open an agent at `port`, by default a free one."""
    agent = Agent()

    async def lend(request: web.Request) -> web.Response:
        agent.tokens.append(request.headers.get("Authorization", ""))
        until = datetime.now(UTC) + timedelta(hours=1)
        keys = {"AccessKeyId": "ASIAPOD", "SecretAccessKey": "s", "Token": "t", "AccountId": "123456789012"}
        return web.json_response({**keys, "Expiration": until.strftime("%Y-%m-%dT%H:%M:%SZ")})

    app = web.Application()
    app.router.add_get("/v1/credentials", lend)
    async with listening(app, port=port) as bound:
        agent.url = f"http://127.0.0.1:{bound}/v1/credentials"
        yield agent
