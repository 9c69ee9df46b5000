"""Pub/Sub's subscriber service over gRPC with TLS: subscriptions, waiting messages, and its real errors."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import empty_pb2
from google.pubsub_v1 import types


@dataclass
class PubSub:
    """Subscriptions by path; `fault` is a status code and message that end every call."""

    port: int = 0
    subscriptions: dict[str, types.Subscription] = field(default_factory=dict)
    waiting: dict[str, deque[bytes]] = field(default_factory=dict)
    unacknowledged: dict[str, bytes] = field(default_factory=dict)
    fault: tuple[grpc.StatusCode, str] | None = None
    granted: set[str] | None = None
    requests: list[str] = field(default_factory=list)
    token_good: Callable[[str], bool] = lambda _: True
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _numbers: Any = field(default_factory=itertools.count)

    def subscribe(self, path: str, **more: Any) -> None:
        self.subscriptions[path] = types.Subscription(name=path, **more)
        self.waiting[path] = deque()

    def publish(self, path: str, data: bytes) -> None:
        self.waiting[path].append(data)
        self.arrived.set()

    async def get(self, request: Any, context: Any) -> Any:
        await self._let_in(context, "pubsub.subscriptions.get", request.subscription)
        return self.subscriptions[request.subscription]

    async def pull(self, request: Any, context: Any) -> Any:
        await self._let_in(context, "pubsub.subscriptions.consume", request.subscription)
        waiting = self.waiting[request.subscription]
        while not waiting:
            self.arrived.clear()
            await self.arrived.wait()
        received: list[types.ReceivedMessage] = []
        while waiting and len(received) < request.max_messages:
            ack_id = str(next(self._numbers))
            self.unacknowledged[ack_id] = waiting.popleft()
            received.append(
                types.ReceivedMessage(ack_id=ack_id, message=types.PubsubMessage(data=self.unacknowledged[ack_id]))
            )
        return types.PullResponse(received_messages=received)

    async def acknowledge(self, request: Any, context: Any) -> Any:
        await self._let_in(context, "pubsub.subscriptions.consume", request.subscription)
        for ack_id in request.ack_ids:
            self.unacknowledged.pop(ack_id, None)
        return empty_pb2.Empty()

    async def _let_in(self, context: Any, permission: str, path: str) -> None:
        self.requests.append(permission)
        token = dict(context.invocation_metadata()).get("authorization", "").removeprefix("Bearer ")
        if not self.token_good(token):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "Request had invalid authentication credentials.")
        if self.fault is not None:
            await context.abort(*self.fault)
        if self.granted is not None and permission not in self.granted:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "User not authorized to perform this action.")
        if path not in self.subscriptions:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"Resource not found (resource={path.rsplit('/', maxsplit=1)[-1]})."
            )


def _unary(request: Any, answer: Callable[..., Any], response: Any = None) -> Any:
    serialize = response.serialize if response is not None else lambda message: message.SerializeToString()
    return grpc.unary_unary_rpc_method_handler(
        answer, request_deserializer=request.deserialize, response_serializer=serialize
    )


@asynccontextmanager
async def pubsub(folder: Path) -> AsyncIterator[PubSub]:
    """Open a server with the certificate in `folder`."""
    service = PubSub()
    handlers = {
        "GetSubscription": _unary(types.GetSubscriptionRequest, service.get, types.Subscription),
        "Pull": _unary(types.PullRequest, service.pull, types.PullResponse),
        "Acknowledge": _unary(types.AcknowledgeRequest, service.acknowledge),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("google.pubsub.v1.Subscriber", handlers),))
    keys = ((folder / "key.pem").read_bytes(), (folder / "ca.pem").read_bytes())
    service.port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([keys]))
    await server.start()
    try:
        yield service
    finally:
        await server.stop(0)
