"""One container of Azure Blob Storage over TLS, with the service's checks of headers, tokens and rights."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from aiohttp import web

from tests.servers.azure import Azure, azure
from tests.servers.site import listening

CONTAINER: Final = "snapshots"
VERBS: Final = {"GET": "read", "PUT": "write", "DELETE": "delete"}
ACTION: Final = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/"


def refused(status: int, code: str) -> web.Response:
    body = f'\ufeff<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
    return web.Response(status=status, text=body, content_type="application/xml", headers={"x-ms-error-code": code})


class BlobServer:
    """The blobs of the container by name. `page` is the maximum number of blobs in a page.

    Tokens and granted data actions are those of `cloud`.
    """

    def __init__(self, cloud: Azure) -> None:
        self.cloud = cloud
        self.blobs: dict[str, bytes] = {}
        self.page = 5000
        self.port = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def serve(self, request: web.Request) -> web.Response:
        headers = request.headers
        if headers.get("Authorization") != f"Bearer {self.cloud.token_value}":
            return refused(401, "InvalidAuthenticationInfo")
        if headers.get("x-ms-version") != "2023-11-03" or parsedate_to_datetime(headers["x-ms-date"]).year < 2000:
            return refused(400, "InvalidHeaderValue")
        if not self.cloud.grants(ACTION + VERBS[request.method]):
            return refused(403, "AuthorizationPermissionMismatch")
        container, _, name = request.path.removeprefix("/").partition("/")
        if container != CONTAINER:
            return refused(404, "ContainerNotFound")
        if not name:
            return self.list(request)
        if request.method == "PUT":
            if headers.get("x-ms-blob-type") != "BlockBlob":
                return refused(400, "MissingRequiredHeader")
            self.blobs[name] = await request.read()
            return web.Response(status=201)
        if name not in self.blobs:
            return refused(404, "BlobNotFound")
        if request.method == "DELETE":
            del self.blobs[name]
            return web.Response(status=202)
        return web.Response(body=self.blobs[name], content_type="application/octet-stream")

    def list(self, request: web.Request) -> web.Response:
        if (request.query.get("restype"), request.query.get("comp")) != ("container", "list"):
            return refused(400, "InvalidQueryParameterValue")
        names = sorted(name for name in self.blobs if name.startswith(request.query.get("prefix", "")))
        names = [name for name in names if name > request.query.get("marker", "")]
        shown = names[: self.page]
        blobs = "".join(
            f"<Blob><Name>{escape(name)}</Name><Properties><Content-Length>{len(self.blobs[name])}</Content-Length>"
            "</Properties></Blob>"
            for name in shown
        )
        marker = f"<NextMarker>{escape(shown[-1])}</NextMarker>" if len(names) > len(shown) else "<NextMarker />"
        page = f"<EnumerationResults><Blobs>{blobs}</Blobs>{marker}</EnumerationResults>"
        body = f'<?xml version="1.0" encoding="utf-8"?>{page}'
        return web.Response(body=body.encode("utf-8-sig"), content_type="application/xml")

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.serve)
        return app


@asynccontextmanager
async def blob_server(folder: Path) -> AsyncIterator[BlobServer]:
    """Open the container, and the identity of its users."""
    async with azure(folder) as cloud:
        server = BlobServer(cloud)
        async with listening(server.app(), tls=cloud.tls) as server.port:
            yield server
