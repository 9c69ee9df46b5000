"""Compute Engine's metadata server: the machine's name, its account's token, and notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.servers.gcp import PROJECT, SERVICE_ACCOUNT
from tests.servers.site import listening

FLAVOR = {"Metadata-Flavor": "Google"}


@dataclass
class Metadata:
    """`values` by path under ``computeMetadata/v1/``; a change ends the waiting requests."""

    address: str = ""
    token: str = "ya29.workload-identity"
    values: dict[str, str] = field(default_factory=dict)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    requests: list[str] = field(default_factory=list)

    waits: dict[str, asyncio.Event] = field(default_factory=dict)

    async def waited_for(self, path: str) -> None:
        """Return when a client waits for a change of a value."""
        async with asyncio.timeout(5):
            await self.waits.setdefault(path, asyncio.Event()).wait()

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    async def set(self, path: str, value: str) -> None:
        async with self.changed:
            self.values[path] = value
            self.changed.notify_all()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/computeMetadata/v1/")
        self.requests.append(path)
        if request.headers.get("Metadata-Flavor") != "Google" and request.path != "/":
            return web.Response(status=403, text="Missing Metadata-Flavor:Google header.")
        if path.endswith("/token"):
            body = {"access_token": self.token, "expires_in": 3600, "token_type": "Bearer"}
            return web.json_response(body, headers=FLAVOR)
        if "service-accounts/" in path:
            scopes = ["https://www.googleapis.com/auth/cloud-platform"]
            return web.json_response(
                {"email": SERVICE_ACCOUNT, "scopes": scopes, "aliases": ["default"]}, headers=FLAVOR
            )
        if request.query.get("wait_for_change") == "true":
            await self._changed(path, request.query["last_etag"], float(request.query["timeout_sec"]))
        if path not in self.values:
            return web.Response(text="ok", headers=FLAVOR) if path in {"", "/"} else web.Response(status=404)
        value = self.values[path]
        return web.Response(text=value, headers={**FLAVOR, "ETag": etag(value)})

    async def _changed(self, path: str, last: str, timeout_s: float) -> None:
        self.waits.setdefault(path, asyncio.Event()).set()
        try:
            async with asyncio.timeout(timeout_s), self.changed:
                await self.changed.wait_for(lambda: etag(self.values[path]) != last)
        except TimeoutError:
            return


def etag(value: str) -> str:
    return f"{abs(hash(value)):x}"


@asynccontextmanager
async def metadata(name: str = "vllm-0", zone: str = "us-central1-a") -> AsyncIterator[Metadata]:
    """Open the server of the machine `name`."""
    server = Metadata()
    server.values = {
        "project/project-id": PROJECT,
        "instance/name": name,
        "instance/zone": f"projects/123456/zones/{zone}",
        "instance/preempted": "FALSE",
        "instance/maintenance-event": "NONE",
    }
    app = web.Application()
    app.router.add_get("/{path:.*}", server.answer)
    async with listening(app) as port:
        server.address = f"127.0.0.1:{port}"
        yield server
