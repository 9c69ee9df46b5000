"""Google Cloud on this machine: REST over TLS, Pub/Sub over gRPC, and the token endpoint of a service account.

Every call must bear a token issued here, and needs its permission in `granted` where that is set.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt

from scaler.clouds.gcp.project import GcpEndpoints, GcpProject
from tests.servers.certificate import self_signed
from tests.servers.gcp_compute import Compute, refusal
from tests.servers.gcp_container import Container, status
from tests.servers.gcp_monitoring import Monitoring
from tests.servers.gcp_pubsub import PubSub, pubsub
from tests.servers.gcp_run import Run
from tests.servers.gcp_storage import Storage
from tests.servers.gcp_vertex import Vertex
from tests.servers.site import listening
from tests.servers.spoiling import Mangle, mangled
from tests.servers.tcp_fault import TcpProxy, tcp_proxy

PROJECT = "my-project"
SETTLE_S = 0.03
SUBJECT = "a-pod-of-another-cloud"
TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"
SERVICE_ACCOUNT = "scaler@my-project.iam.gserviceaccount.com"
GROUP = "/compute/v1/projects/{project}/{scope:zones|regions}/{location}/instanceGroupManagers/{name}"
ENDPOINT = "/{version:v1|v1beta1}/projects/{project}/locations/{location}/endpoints/{endpoint}"
POOLS = "/v1/projects/{project}/locations/{location}/clusters/{cluster}/nodePools"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Gcp:
    """All servers. `port` is that of the REST APIs; `rest` and `grpc` are proxies to it with faults."""

    folder: Path
    port: int = 0
    compute: Compute = field(default_factory=Compute)
    monitoring: Monitoring = field(default_factory=Monitoring)
    vertex: Vertex = field(default_factory=Vertex)
    granted: set[str] | None = None
    requests: list[str] = field(default_factory=list)
    """Permissions of the calls, in order."""
    reads: web.Response | None = None
    writes: web.Response | None = None
    """Responses to all reads and all writes, which are then not applied."""
    lose: bool = False
    """Writes are applied and their responses lost."""
    tokens: list[str] = field(default_factory=list)
    refuse_tokens: bool = False
    token_life_s: int = 3600
    mangle: Mangle | None = None
    """Changes each accepted response, named by method and path."""

    def __post_init__(self) -> None:
        self.container = Container(self.compute)
        self.run = Run(self.monitoring)
        self.storage = Storage()
        self.rest: TcpProxy
        self.grpc: TcpProxy
        self.pubsub: PubSub

    def project(self) -> GcpProject:
        """Return the project to reach it."""
        url = f"https://127.0.0.1:{self.rest.port}"
        endpoints = GcpEndpoints(
            aiplatform=url,
            compute=url,
            container=url,
            monitoring=url,
            run=url,
            resource_manager=url,
            storage=url,
            pubsub=f"127.0.0.1:{self.grpc.port}",
        )
        folder = self.folder
        return GcpProject(
            id=PROJECT, credentials_file=str(folder / "sa.json"), ca_file=str(folder / "ca.pem"), endpoints=endpoints
        )

    def document(self) -> dict[str, Any]:
        """Return the project as a configuration has it."""
        project = self.project()
        endpoints = {name: getattr(project.endpoints, name) for name in GcpEndpoints.__dataclass_fields__}
        return {
            "id": project.id,
            "credentials_file": project.credentials_file,
            "ca_file": project.ca_file,
            "endpoints": endpoints,
        }

    def permit(self, permissions: set[str] | None) -> None:
        self.granted = self.pubsub.granted = permissions

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        claims = jwt.decode(str(form["assertion"]), certs=_key()[1])
        if claims["iss"] != SERVICE_ACCOUNT:
            return web.json_response({"error": "invalid_grant", "error_description": "Unknown account"}, status=400)
        self.tokens.append(f"ya29.{len(self.tokens)}")
        return web.json_response(
            {"access_token": self.tokens[-1], "expires_in": self.token_life_s, "token_type": "Bearer"}
        )

    async def exchange(self, request: web.Request) -> web.Response:
        """Exchange another identity provider's token for one of this server's."""
        form = await request.post()
        if form["subject_token"] != SUBJECT:
            body = {"error": "invalid_grant", "error_description": "The credential is not a valid token."}
            return web.json_response(body, status=400)
        self.tokens.append(f"federated.{len(self.tokens)}")
        body = {"access_token": self.tokens[-1], "token_type": "Bearer", "issued_token_type": str(TOKEN_TYPE)}
        return web.json_response({**body, "expires_in": 3600})

    def good(self, token: str) -> bool:
        return token in self.tokens and not self.refuse_tokens

    def route(self, permission: str, answer: Answer, *, write: bool = False) -> Answer:
        """Wrap an API's method with authentication, permission and faults."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            if not self.good(request.headers.get("Authorization", "").removeprefix("Bearer ")):
                return status(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
            if request.method == "POST" and "Content-Length" not in request.headers:
                return web.Response(status=411, text="<!DOCTYPE html><title>Error 411 (Length Required)!!1</title>")
            self.requests.append(permission)
            if self.granted is not None and permission not in self.granted and permission != "testIamPermissions":
                return refusal(403, "forbidden", f"Required '{permission}' permission for '{request.path}'")
            fault = self.writes if write else self.reads
            if fault is not None:
                headers = {k: v for k, v in fault.headers.items() if k == "Retry-After"}
                return web.Response(
                    status=fault.status, body=fault.body, headers=headers, content_type="application/json"
                )
            done = await answer(request)
            if isinstance(done, web.Response):
                done = mangled(f"{request.method} {request.path}", done, self.mangle)
            if write and self.lose:
                assert request.transport is not None
                request.transport.abort()
                await asyncio.sleep(0)
            return done

        return guarded

    async def test_permissions(self, request: web.Request) -> web.Response:
        permissions = (await request.json())["permissions"]
        return web.json_response({"permissions": [p for p in permissions if self.granted is None or p in self.granted]})

    async def test_bucket_permissions(self, request: web.Request) -> web.Response:
        permissions = request.query.getall("permissions")
        granted = [p for p in permissions if self.granted is None or p in self.granted]
        return web.json_response({"kind": "storage#testIamPermissionsResponse", "permissions": granted})

    def app(self) -> web.Application:
        app, read, write = (
            web.Application(),
            "compute.instanceGroupManagers.get",
            "compute.instanceGroupManagers.update",
        )
        compute, container = self.compute, self.container
        app.router.add_post("/token", self.token)
        app.router.add_post("/sts", self.exchange)
        add = app.router.add_route
        add("GET", GROUP, self.route(read, compute.get))
        add("POST", f"{GROUP}/listManagedInstances", self.route(read, compute.managed))
        add("GET", f"{GROUP}/listErrors", self.route(read, compute.listed_errors))
        add("POST", f"{GROUP}/resize", self.route(write, compute.resize, write=True))
        add("PATCH", GROUP, self.route(write, compute.patch, write=True))
        path = "/compute/v1/projects/{project}/zones/{zone}/reservations/{name}"
        add("GET", path, self.route("compute.reservations.get", compute.reservation))
        add("GET", POOLS, self.route("container.clusters.get", container.list))
        add("POST", POOLS, self.route("container.clusters.update", container.create, write=True))
        add("POST", f"{POOLS}/{{method}}", self.route("container.clusters.update", container.write, write=True))
        add("DELETE", f"{POOLS}/{{name}}", self.route("container.clusters.update", container.write, write=True))
        path = "/v1/projects/{project}/locations/{location}/operations/{name}"
        add("GET", path, self.route("container.operations.get", container.operation))
        add("GET", ENDPOINT, self.route("aiplatform.endpoints.get", self.vertex.get))
        add("GET", f"{ENDPOINT}/operations", self.route("aiplatform.operations.list", self.vertex.listed))
        path = ENDPOINT.replace("{endpoint}", "{endpoint:[^/:]+}") + ":mutateDeployedModel"
        add("POST", path, self.route("aiplatform.endpoints.deploy", self.vertex.mutate, write=True))
        for kind, noun in (("services", "services"), ("workerPools", "workerpools")):
            path = f"/v2/projects/{{project}}/locations/{{location}}/{kind}/{{name}}"
            add("GET", path, self.route(f"run.{noun}.get", self.run.get))
            add("PATCH", path, self.route(f"run.{noun}.update", self.run.patch, write=True))
        series = self.route("monitoring.timeSeries.list", self.monitoring.list)
        add("GET", "/v3/projects/{project}/timeSeries", series)
        promql = self.route("monitoring.timeSeries.list", self.monitoring.promql)
        add("GET", "/v1/projects/{project}/location/global/prometheus/api/v1/query", promql)
        objects, storage = "/storage/v1/b/{bucket}/o", self.storage
        add("GET", objects, self.route("storage.objects.list", storage.list))
        add("POST", f"/upload{objects}", self.route("storage.objects.create", storage.insert, write=True))
        add("GET", f"{objects}/{{name}}", self.route("storage.objects.get", storage.get))
        add("DELETE", f"{objects}/{{name}}", self.route("storage.objects.delete", storage.delete, write=True))
        path = "/storage/v1/b/{bucket}/iam/testPermissions"
        add("GET", path, self.route("testIamPermissions", self.test_bucket_permissions))
        path = "/v1/projects/{project}:testIamPermissions"
        add("POST", path, self.route("testIamPermissions", self.test_permissions))
        return app


@functools.cache
def _key() -> tuple[bytes, bytes]:
    """Return a private key and its public key, created once since that is slow."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, public


def account(token_uri: str, email: str = SERVICE_ACCOUNT) -> dict[str, str]:
    """Return a service account's key file."""
    return {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "1",
        "private_key": _key()[0].decode(),
        "client_email": email,
        "token_uri": token_uri,
    }


async def _settled() -> None:
    """Let a server's TLS connections end on both sides, before and after the server ends."""
    await asyncio.sleep(SETTLE_S)


@asynccontextmanager
async def gcp(folder: Path) -> AsyncIterator[Gcp]:
    """Open a cloud with its certificate and service account key in `folder`."""
    tls, _ = self_signed(folder)
    cloud = Gcp(folder)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_settled)
        cloud.port = await stack.enter_async_context(listening(cloud.app(), tls=tls))
        stack.push_async_callback(_settled)
        (folder / "sa.json").write_text(json.dumps(account(f"https://127.0.0.1:{cloud.port}/token")))
        cloud.pubsub = await stack.enter_async_context(pubsub(folder))
        cloud.pubsub.token_good = cloud.good
        cloud.rest = await stack.enter_async_context(tcp_proxy("127.0.0.1", cloud.port))
        cloud.grpc = await stack.enter_async_context(tcp_proxy("127.0.0.1", cloud.pubsub.port))
        yield cloud
