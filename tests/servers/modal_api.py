"""Modal's control plane as far as autoscaler settings and statistics go: gRPC on loopback, with the SDK's messages.

It is strict: an absent field leaves a setting as it is, a write with a known idempotency key is applied once, a
deployment resets every setting, a maximum of 0 is none, statistics have a range of at most seven days up to now, and
unknown methods are unimplemented. It proves the contract as understood, not Modal.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from grpclib import GRPCError, Status
from grpclib.const import Cardinality, Handler
from grpclib.encoding.proto import ProtoCodec
from grpclib.server import Server
from modal._utils.grpc_utils import custom_detail_codec
from modal_proto import api_pb2

FIELDS: Final = ("min_containers", "max_containers", "buffer_containers", "scaledown_window")
MAX_RANGE_S: Final = 7 * 86_400.0
"""Maximum time range of statistics. Seconds."""
TOKEN: Final = ("ak-test", "as-test")


@dataclass
class DeployedFunction:
    """A function with the settings of its code, the present ones, and its containers."""

    app: str
    name: str
    id: str
    deployed: dict[str, int] = field(default_factory=dict)
    settings: dict[str, int] = field(default_factory=dict)
    running: int = 0
    backlog: int = 0
    inputs: int = 0
    """Inputs that run."""
    stats: api_pb2.ServerGetTimeRangeStatsResponse = field(default_factory=api_pb2.ServerGetTimeRangeStatsResponse)
    """Statistics of a server, whatever the range."""
    ranges_s: list[float] = field(default_factory=list)
    """Lengths of the ranges that were read. Seconds."""

    def deploy(self) -> None:
        """Deploy the app again, which resets every setting."""
        self.settings = dict(self.deployed)


class Codec(ProtoCodec):
    """The wire format, or garbage while `garbled` names the type of a response."""

    garbled: frozenset[str] = frozenset()

    def encode(self, message: Any, message_type: Any) -> bytes:
        return b"\xff\xff\xff" if message_type.__name__ in self.garbled else super().encode(message, message_type)


class Modal:
    """One workspace. `fault` is the failure of writes, and `down` the one of all calls."""

    def __init__(self) -> None:
        self.functions: dict[str, DeployedFunction] = {}
        self.codec = Codec()
        self.fault = ""
        self.reads_fault = ""
        self.updates: list[dict[str, int]] = []
        self.calls: list[str] = []
        self.throttle_s = 0.1
        self._applied: set[str] = set()

    def add(self, function: DeployedFunction) -> DeployedFunction:
        function.deploy()
        self.functions[function.id] = function
        return function

    def __mapping__(self) -> dict[str, Handler]:
        answers: tuple[tuple[str, Callable[[Any, Any], Awaitable[Any]]], ...] = (
            ("FunctionGet", self._get),
            ("FunctionGetById", self._get_by_id),
            ("FunctionGetCurrentStats", self._stats),
            ("FunctionGetSchedulingParams", self._params),
            ("FunctionUpdateSchedulingParams", self._update),
            ("ServerGetTimeRangeStats", self._server_stats),
        )
        return {f"/modal.client.ModalClient/{name}": self._handler(name, answer) for name, answer in answers}

    def _handler(self, name: str, answer: Callable[[Any, Any], Awaitable[Any]]) -> Handler:
        async def handle(stream: Any) -> None:
            self.calls.append(name)
            token = (stream.metadata.get("x-modal-token-id"), stream.metadata.get("x-modal-token-secret"))
            if token != TOKEN:
                raise GRPCError(Status.UNAUTHENTICATED, "Token ID is malformed or unknown")
            await self._fail(self.fault if name.startswith("FunctionUpdate") else self.reads_fault)
            await stream.send_message(await answer(await stream.recv_message(), stream.metadata))

        response = "FunctionStats" if name == "FunctionGetCurrentStats" else f"{name}Response"
        return Handler(handle, Cardinality.UNARY_UNARY, getattr(api_pb2, f"{name}Request"), getattr(api_pb2, response))

    async def _fail(self, fault: str) -> None:
        match fault:
            case "hang":
                await asyncio.Event().wait()
            case "refuse":
                raise GRPCError(Status.UNAVAILABLE, "try again")
            case "throttle":
                policy = api_pb2.RPCRetryPolicy(retry_after_secs=self.throttle_s)
                raise GRPCError(Status.RESOURCE_EXHAUSTED, "rate limit exceeded", [policy])
            case "plan":
                raise GRPCError(Status.RESOURCE_EXHAUSTED, "the plan allows 10 GPUs")
            case "forbid":
                raise GRPCError(Status.PERMISSION_DENIED, "this token may only read")
            case "conflict":
                raise GRPCError(Status.ABORTED, "the app is being deployed")

    async def _get(self, request: Any, _: Any) -> Any:
        found = [f for f in self.functions.values() if (f.app, f.name) == (request.app_name, request.object_tag)]
        if not found:
            raise GRPCError(Status.NOT_FOUND, f"no function {request.object_tag}")
        function = found[0]
        return api_pb2.FunctionGetResponse(
            function_id=function.id, handle_metadata=_metadata(function), function=_data(function)
        )

    async def _get_by_id(self, request: Any, _: Any) -> Any:
        function = self._function(request)
        return api_pb2.FunctionGetByIdResponse(handle_metadata=_metadata(function), function=_data(function))

    async def _stats(self, request: Any, _: Any) -> Any:
        function = self._function(request)
        return api_pb2.FunctionStats(
            backlog=function.backlog, num_total_tasks=function.running, num_running_inputs=function.inputs
        )

    async def _server_stats(self, request: Any, _: Any) -> Any:
        server = self._function(request)
        since_s, until_s = (time.ToMicroseconds() / 1e6 for time in (request.since, request.until))
        if not 0 < until_s - since_s <= MAX_RANGE_S:
            raise GRPCError(Status.INVALID_ARGUMENT, "the time range must be positive and at most 7 days")
        server.ranges_s.append(until_s - since_s)
        return server.stats

    async def _params(self, request: Any, _: Any) -> Any:
        settings = api_pb2.AutoscalerSettings(**self._function(request).settings)
        configuration = api_pb2.AutoscalerConfiguration(settings=settings)
        return api_pb2.FunctionGetSchedulingParamsResponse(autoscaler_configuration=configuration)

    async def _update(self, request: Any, metadata: Any) -> Any:
        function = self._function(request)
        changes = {name: getattr(request.settings, name) for name in FIELDS if request.settings.HasField(name)}
        after = {**function.settings, **changes}
        if 0 < after.get("max_containers", 0) < after.get("min_containers", 0):
            raise GRPCError(Status.INVALID_ARGUMENT, "min_containers exceeds max_containers")
        key = str(metadata["x-idempotency-key"])
        if key not in self._applied:
            self._applied.add(key)
            self.updates.append(changes)
            function.settings = after
        if self.fault == "lose":
            await asyncio.Event().wait()
        settings = api_pb2.AutoscalerSettings(**function.settings)
        return api_pb2.FunctionUpdateSchedulingParamsResponse(current_settings=settings)

    def _function(self, request: Any) -> DeployedFunction:
        if request.function_id not in self.functions:
            raise GRPCError(Status.NOT_FOUND, f"no function {request.function_id}")
        return self.functions[request.function_id]


def _metadata(function: DeployedFunction) -> Any:
    return api_pb2.FunctionHandleMetadata(
        function_name=function.name, function_type=api_pb2.Function.FUNCTION_TYPE_FUNCTION
    )


def _data(function: DeployedFunction) -> Any:
    ranked = api_pb2.FunctionData.RankedFunction(rank=0, function=api_pb2.Function(function_name=function.name))
    return api_pb2.FunctionData(
        function_name=function.name, function_type=api_pb2.Function.FUNCTION_TYPE_FUNCTION, ranked_functions=[ranked]
    )


@asynccontextmanager
async def modal_api() -> AsyncIterator[tuple[Modal, str]]:
    """Return the workspace and the address of its API."""
    workspace = Modal()
    server = Server([workspace], codec=workspace.codec, status_details_codec=custom_detail_codec)
    await server.start("127.0.0.1", 0)
    try:
        port = server._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        yield workspace, f"http://127.0.0.1:{port}"
    finally:
        server.close()
        await server.wait_closed()
