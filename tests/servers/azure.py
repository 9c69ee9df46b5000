"""Azure on 127.0.0.1: Resource Manager over TLS, Entra's tokens, metrics, and Scheduled Events over plain HTTP.

It has its own implementation behind real protocols: long-running operations, etags, throttling headers, the services'
error texts, and a check of the role's actions for every call. The resources are in `azure_compute`, `azure_bus` and
`azure_metrics`.
"""

from __future__ import annotations

import fnmatch
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from scaler.clouds.azure.account import AzureAccount
from tests.servers.certificate import self_signed
from tests.servers.site import listening
from tests.servers.spoiling import Mangle, mangled

SUBSCRIPTION: Final = "11111111-2222-3333-4444-555555555555"
TENANT: Final = "99999999-8888-7777-6666-555555555555"
CLIENT: Final = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
TOKEN: Final = "arm-token"
ASSERTION: Final = "a-service-account's-token"
EVERYTHING: Final = ("*",)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def refusal(status: int, code: str, message: str = "", **headers: str) -> web.Response:
    """Return an error in Resource Manager's format."""
    body = {"error": {"code": code, "message": message or code}}
    return web.json_response(body, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})


@dataclass
class Operation:
    """A long-running operation."""

    action: str
    status: str = "InProgress"
    error: dict[str, Any] | None = None
    end_time: str = ""


@dataclass
class Azure:
    """One subscription. Faults last until `clear`."""

    folder: Path
    tls: ssl.SSLContext
    granted: tuple[str, ...] = EVERYTHING
    requests: Counter[str] = field(default_factory=Counter)
    operations: dict[str, Operation] = field(default_factory=dict)
    resources: dict[str, Handler] = field(default_factory=dict)
    lists: dict[str, Callable[[web.Request], list[dict[str, Any]]]] = field(default_factory=dict)
    throttled: bool = False
    garbled: bool = False
    forbidden: bool = False
    losing: bool = False
    mangle: Mangle | None = None
    """Changes each accepted response, named by method and path."""
    batch: Handler | None = None
    """Handles ``metrics:getBatch``."""
    token_value: str = TOKEN
    tokens_given: int = 0
    tokens_refused: int = 0
    port: int = 0
    trust: str = ""

    def clear(self) -> None:
        self.throttled = self.garbled = self.forbidden = self.losing = False

    def account(self, port: int | None = None, **more: Any) -> AzureAccount:
        """Return the account to reach it, perhaps through a proxy's `port`."""
        base = f"https://127.0.0.1:{port or self.port}"
        token_file = self.folder / "service-account-token"
        token_file.write_text(ASSERTION)
        return AzureAccount(
            subscription_id=SUBSCRIPTION,
            credential="workload_identity",
            tenant_id=TENANT,
            client_id=CLIENT,
            token_file=str(token_file),
            arm_url=base,
            authority_url=f"https://127.0.0.1:{self.port}",
            ca_file=self.trust,
            **more,
        )

    def document(self) -> dict[str, Any]:
        """Return the account as a configuration has it."""
        account = self.account()
        return {key: value for key in AzureAccount.__dataclass_fields__ if (value := getattr(account, key)) is not None}

    def begin(self, request: web.Request, action: str) -> dict[str, str]:
        """Return the headers with the URL of a new operation."""
        name = f"op-{len(self.operations)}"
        self.operations[name] = Operation(action)
        provider = action.partition("/")[0]
        kind = action.split("/")[2]
        place = f"/subscriptions/{SUBSCRIPTION}/providers/{provider}/locations/eastus/{kind}/{name}"
        return {"Azure-AsyncOperation": f"https://{request.host}{place}?api-version=2025-01-01"}

    def end(self, error: tuple[str, str] | None = None, at: str = "") -> None:
        """End the operations in progress: with success, or with an error's code and message."""
        for operation in self.operations.values():
            if operation.status == "InProgress":
                operation.status = "Failed" if error else "Succeeded"
                operation.end_time = at
                if error:
                    operation.error = {"code": error[0], "message": error[1]}

    def grants(self, action: str) -> bool:
        return any(fnmatch.fnmatch(action.lower(), g.lower()) for g in self.granted)

    # HTTP.

    @web.middleware
    async def front(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.endswith("/oauth2/v2.0/token"):
            return await handler(request)
        if self.throttled:
            return refusal(429, "TooManyRequests", "slow down", Retry_After="1")
        if request.headers.get("Authorization") != f"Bearer {self.token_value}":
            self.tokens_refused += 1
            return refusal(401, "InvalidAuthenticationToken", "The access token is invalid.")
        write = request.method != "GET" and not request.path.endswith(":getBatch")
        if write and self.garbled:
            return web.Response(text='{"sku": {"capac', content_type="application/json")
        if write and self.forbidden:
            return denied(action_of(request))
        answer = await handler(request)
        if isinstance(answer, web.Response):
            answer = mangled(f"{request.method} {request.path}", answer, self.mangle)
        if write and self.losing and answer.status < 300:
            assert request.transport is not None
            request.transport.abort()
        return answer

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form.get("client_assertion") != ASSERTION or form.get("client_id") != CLIENT:
            wrong = {"error": "invalid_client", "error_description": "AADSTS700211: No matching federated identity."}
            return web.json_response(wrong, status=401)
        self.tokens_given += 1
        lives = {"expires_in": 3600, "ext_expires_in": 3600}
        return web.json_response({"token_type": "Bearer", "access_token": self.token_value, **lives})

    async def resource(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/metrics:getBatch") and self.batch is not None:
            return await self.batch(request)
        action = action_of(request)
        self.requests[action] += 1
        if not self.grants(action):
            return denied(action)
        if not request.query.get("api-version"):
            return refusal(400, "MissingApiVersionParameter", "The api-version query parameter is required.")
        path = request.path.rstrip("/").lower()
        if "/locations/" in path and path not in self.lists:
            return self.operation(request.path.rpartition("/")[2])
        if path.endswith("/providers/microsoft.authorization/permissions"):
            roles = [{"actions": list(self.granted), "notActions": [], "dataActions": [], "notDataActions": []}]
            return web.json_response({"value": roles})
        if path in self.resources:
            return await self.resources[path](request)
        if path in self.lists:
            return web.json_response({"value": self.lists[path](request)})
        if request.method == "GET" and path.endswith(("/autoscalesettings", "/virtualmachines")):
            return web.json_response({"value": []})
        return refusal(404, "ResourceNotFound", f"The Resource {request.path} was not found.")

    def operation(self, name: str) -> web.Response:
        stored = self.operations.get(name)
        if stored is None:
            return refusal(404, "NotFound", "The entity was not found.")
        body: dict[str, Any] = {"name": name, "status": stored.status}
        if stored.error:
            body["error"] = stored.error
        if stored.end_time:
            body["endTime"] = stored.end_time
        return web.json_response(body)


def denied(action: str) -> web.Response:
    text = f"The client {CLIENT!r} does not have authorization to perform action {action!r} over the scope."
    return refusal(403, "AuthorizationFailed", text)


def action_of(request: web.Request) -> str:
    """Return the role action that grants this call."""
    path = request.path.rstrip("/")
    provider, *segments = path.rpartition("/providers/")[2].split("/")
    if "/locations/" in path:
        return f"{provider}/{segments[0]}/{segments[2]}/read"
    types = "/".join(segments[::2])
    if request.method == "POST" and len(segments) % 2:
        return f"{provider}/{types}/action"
    return f"{provider}/{types}/{'read' if request.method in {'GET', 'POST'} else 'write'}"


@asynccontextmanager
async def azure(folder: Path) -> AsyncIterator[Azure]:
    """Open an empty subscription."""
    context, trust = self_signed(folder)
    cloud = Azure(folder, context, trust=trust)
    async with served(cloud):
        yield cloud


@asynccontextmanager
async def served(cloud: Azure) -> AsyncIterator[None]:
    app = web.Application(middlewares=[cloud.front])
    app.router.add_post("/{tenant}/oauth2/v2.0/token", cloud.token)
    app.router.add_route("*", "/subscriptions/{rest:.*}", cloud.resource)
    async with listening(app, tls=cloud.tls) as cloud.port:
        yield


@dataclass
class Events:
    """Scheduled Events: one document for all hosts, or one per host in the path."""

    events: list[dict[str, Any]] = field(default_factory=list)
    requests: Counter[str] = field(default_factory=Counter)
    incarnation: int = 1
    silent: bool = False
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/metadata/scheduledevents"

    @property
    def relays(self) -> str:
        return f"http://127.0.0.1:{self.port}/{{host}}/metadata/scheduledevents"

    def announce(self, event_type: str, *machines: str, source: str = "Platform", status: str = "Scheduled") -> str:
        """Add an event; return its id."""
        self.incarnation += 1
        event_id = f"event-{self.incarnation}"
        self.events.append(
            {
                "EventId": event_id,
                "EventType": event_type,
                "ResourceType": "VirtualMachine",
                "Resources": list(machines),
                "EventStatus": status,
                "NotBefore": "Fri, 27 Nov 2026 18:29:47 GMT",
                "Description": "",
                "EventSource": source,
                "DurationInSeconds": -1,
            }
        )
        return event_id

    def withdraw(self, event_id: str) -> None:
        self.events = [e for e in self.events if e["EventId"] != event_id]

    async def answer(self, request: web.Request) -> web.Response:
        self.requests[request.match_info.get("host", "")] += 1
        if request.headers.get("Metadata") != "true" or request.query.get("api-version") != "2020-07-01":
            return web.json_response({"error": "Bad request: Metadata header or api-version is wrong"}, status=400)
        if self.silent:
            return web.Response(status=503)
        return web.json_response({"DocumentIncarnation": self.incarnation, "Events": self.events})


@asynccontextmanager
async def scheduled_events() -> AsyncIterator[Events]:
    """Open a metadata service."""
    events = Events()
    app = web.Application()
    app.router.add_get("/metadata/scheduledevents", events.answer)
    app.router.add_get("/{host}/metadata/scheduledevents", events.answer)
    async with listening(app) as events.port:
        yield events
