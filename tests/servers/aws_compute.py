"""One endpoint for AWS: Auto Scaling, Bedrock, EC2, EKS and SageMaker from a `World`, others from moto behind it.

It records the calls, and by `faults` refuses or spoils an operation, a service, or all reads or writes.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from aiohttp import web
from moto.core.model import OperationModel
from yarl import URL

from tests.servers import aws_bedrock, aws_handlers, aws_health_checks, aws_sagemaker
from tests.servers.aws_fault import DROPPED
from tests.servers.aws_wire import Refusal, answer, operation, parameters, refused
from tests.servers.aws_world import World
from tests.servers.site import listening
from tests.servers.spoiling import Mangle, mangled

HANDLERS: Final = {
    **aws_bedrock.HANDLERS,
    **aws_handlers.HANDLERS,
    **aws_health_checks.HANDLERS,
    **aws_sagemaker.HANDLERS,
}
OURS: Final = {service for service, _ in HANDLERS}
CHECKED: Final = frozenset({"elasticloadbalancing", "route53"})
"""Services of moto, by their names in IAM, whose calls are recorded, granted and refused as those of the world are."""
READS: Final = ("Describe", "Get", "List", "Simulate")
Spoil = Callable[[str, web.Response], web.Response]


@dataclass
class Compute:
    """`given` has the parameters of each call.

    `faults` are refusals by ``service:Operation``, ``service``, ``read`` or ``write``; `spoils` change responses.
    `lost`: writes are applied, and their responses lost.
    """

    world: World
    upstream: str
    url: str = ""
    requests: list[str] = field(default_factory=list)
    given: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    faults: dict[str, Refusal] = field(default_factory=dict)
    spoils: dict[str, Spoil] = field(default_factory=dict)
    lost: bool = False
    mangle: Mangle | None = None
    """Changes each accepted response, named as in `requests`."""

    def count(self, named: str) -> int:
        return self.requests.count(named)

    def clear(self) -> None:
        self.faults.clear()
        self.spoils.clear()
        self.lost = False


def scope(request: web.Request) -> str:
    """Return the service that a request is signed for."""
    signed = request.headers.get("Authorization", "").partition("Credential=")[2].partition(",")[0].split("/")
    return signed[3] if len(signed) == 5 else "sts"


@asynccontextmanager
async def compute(world: World, upstream: str) -> AsyncIterator[Compute]:
    """Open the endpoint before the server at `upstream`."""
    it = Compute(world, upstream)
    async with aiohttp.ClientSession(auto_decompress=False) as http:

        async def serve(request: web.Request) -> web.Response:
            body, service = await request.read(), scope(request)
            path = request.rel_url.raw_path  # an ARN in a path has encoded slashes
            target = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
            is_known = service in OURS or service in CHECKED
            model = operation(service, request.method, path, body, target) if is_known else None
            if model is None or ((service, model.name) not in HANDLERS and service not in CHECKED):
                service = "cloudwatch" if service == "monitoring" else service
                called = f"{service}:{target}"
                it.requests.append(called)
                if service in it.faults:
                    return refused(service, it.faults[service])
                response = await forward(http, it.upstream, request, body)
                return mangled(called, response, it.mangle)
            name = f"{service}:{model.name}"
            it.requests.append(name)
            kind = "read" if model.name.startswith(READS) else "write"
            keys = (name, service, kind)
            if it.world.granted is not None and name not in it.world.granted:
                return refused(service, Refusal("AccessDenied", f"not authorized to perform: {name}", 403))
            fields = parameters(model, request.method, path, dict(request.query), body)
            it.given[name].append(fields)
            if fault := next((it.faults[key] for key in keys if key in it.faults), None):
                return refused(service, fault)
            if (service, model.name) in HANDLERS:
                response = handle(it.world, service, model, fields)
            else:
                response = await forward(http, it.upstream, request, body)
            if it.lost and kind == "write":
                await asyncio.Event().wait()
            for key in keys:
                if key in it.spoils:
                    return it.spoils[key](name, response)
            return mangled(name, response, it.mangle)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", serve)
        async with listening(app) as port:
            it.url = f"http://127.0.0.1:{port}"
            yield it


def handle(world: World, service: str, model: OperationModel, fields: dict[str, Any]) -> web.Response:
    """Return the world's response."""
    try:
        world.settle()
        result = HANDLERS[service, model.name](world, fields)
        world.settle()
    except Refusal as e:
        return refused(service, e)
    return answer(model, result)


async def forward(http: aiohttp.ClientSession, upstream: str, request: web.Request, body: bytes) -> web.Response:
    headers = {k: v for k, v in request.headers.items() if k.lower() not in DROPPED}
    try:
        async with http.request(
            request.method, URL(upstream + request.raw_path, encoded=True), data=body, headers=headers
        ) as upstream_response:
            headers_kept = {k: v for k, v in upstream_response.headers.items() if k.lower() not in DROPPED}
            return web.Response(
                status=upstream_response.status, body=await upstream_response.read(), headers=headers_kept
            )
    except aiohttp.ClientError as e:  # it ends while a client still waits for it
        return web.Response(status=502, text=str(e))
