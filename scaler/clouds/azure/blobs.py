"""The blobs of an installation in an Azure Storage container, by its REST API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from email.utils import formatdate
from typing import Final
from urllib.parse import quote
from xml.etree import ElementTree as ET

from scaler.clouds.api_channel import Channel
from scaler.clouds.azure.blob_container import BlobContainer
from scaler.clouds.azure.errors import remedy_of, retry_after_s
from scaler.clouds.azure.session import APIS, identity
from scaler.clouds.object_storage import too_many
from scaler.clouds.response_validation import one_line
from scaler.clouds.rest import Request, Rest, RestResponse, session
from scaler.ports import Context, Misconfigured, Permit, PortError, Unavailable

SCOPE: Final = "https://storage.azure.com/.default"
"""Scope of the tokens, the same in all clouds."""
VERSION: Final = "2023-11-03"
BLOBS: Final = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
MAX_PAGES: Final = 10
"""Maximum pages of a list, each with 5,000 blobs."""
ROLE: Final = "config/deploy/azure-snapshots-role.json"
NOT_CHECKED: Final = f"cannot be checked without a write; grant it with the role in {ROLE}"


async def open_objects(spec: BlobContainer, installation: str, context: Context) -> Blobs:
    """Open the blobs of an installation, without a call. Raises `Misconfigured`."""
    http = await session(context, spec.account.ca_file)
    tokens = (await identity(context, spec.account)).tokens(SCOPE)
    channel = Channel(context, APIS["blob"], spec.account_url)
    return Blobs(Rest(http, tokens, channel, refuse, context.clock), spec, installation, context)


class Blobs:
    """The blobs of an installation in a container."""

    def __init__(self, rest: Rest, spec: BlobContainer, installation: str, context: Context) -> None:
        self._rest = rest
        self._container = f"{spec.account_url}/{spec.container}"
        self._prefix = f"{spec.prefix}{installation}/"
        self._clock = context.clock

    async def sizes(self, beginning: str) -> Mapping[str, int]:
        query = {"restype": "container", "comp": "list", "prefix": self._prefix + beginning}
        sizes: dict[str, int] = {}
        for _ in range(MAX_PAGES):
            page = _parsed((await self._call("GET", "read", "", query=query)).content)
            sizes |= {name.removeprefix(self._prefix): size for name, size in _sizes(page)}
            if not (marker := page.findtext("NextMarker")):
                return sizes
            query["marker"] = marker
        raise too_many(f"{self._container}/{self._prefix}")

    async def get(self, name: str) -> bytes:
        return (await self._call("GET", "read", name)).content

    async def put(self, name: str, content: bytes) -> None:
        headers = {"x-ms-blob-type": "BlockBlob", "Content-Type": "application/octet-stream"}
        await self._call("PUT", "write", name, content=content, headers=headers)

    async def delete(self, name: str) -> None:
        await self._call("DELETE", "delete", name)

    async def permits(self) -> Sequence[Permit]:
        await self.sizes("")
        unknown = [Permit(f"{BLOBS}/{verb}", None, NOT_CHECKED) for verb in ("write", "delete")]
        return [Permit(f"{BLOBS}/read", granted=True), *unknown]

    async def _call(  # noqa: PLR0913 - one call's parameters
        self,
        method: str,
        verb: str,
        name: str,
        *,
        query: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> RestResponse:
        """Return the response to a call, which a repetition does not change. Raises port errors."""
        date = formatdate(self._clock.now(), usegmt=True)
        request = Request(
            operation=f"{BLOBS}/{verb}",
            method=method,
            url=self._container + (f"/{quote(self._prefix + name)}" if name else ""),
            about=name or self._container,
            query=query,
            content=content,
            headers={"Accept": "*/*", "x-ms-version": VERSION, "x-ms-date": date, **(headers or {})},
            is_raw=True,
        )
        return await self._rest.call(request, repeat=True)


def refuse(what: str, response: RestResponse, now: float) -> PortError:
    """Return the port error for a refusal of Azure Storage, which names its code in a header."""
    del now
    code = response.headers.get("x-ms-error-code", "")
    text = f"Azure {what}: {one_line(code) or f'HTTP {response.status}'}"
    if response.status == 403:
        return Misconfigured(f"{text}: grant it with the role in {ROLE}")
    remedy = remedy_of(code, text, response.status)
    return remedy(text, retry_after_s(response.headers)) if issubclass(remedy, Unavailable) else remedy(text)


def _parsed(content: bytes) -> ET.Element:
    """Return a list of blobs. Raises `Unavailable` for one that is no XML, or has entities."""
    if b"<!" in content:
        raise Unavailable("a list of blobs: malformed response: a document type")
    try:
        return ET.fromstring(content)  # noqa: S314 - without a document type there are no entities
    except ET.ParseError as e:
        raise Unavailable(f"a list of blobs: malformed response: {one_line(e)}") from e


def _sizes(page: ET.Element) -> Iterator[tuple[str, int]]:
    """Yield the name and size of each blob of a page. Raises `Unavailable`."""
    for blob in page.iterfind("Blobs/Blob"):
        name, size = blob.findtext("Name"), blob.findtext("Properties/Content-Length", "")
        if not name or not size.isascii() or not size.isdecimal():
            raise Unavailable("a list of blobs: malformed response: a blob without name or size")
        yield name, int(size[:20])
