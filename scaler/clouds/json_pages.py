"""JSON documents over HTTP, each read whole within a deadline."""

from __future__ import annotations

from typing import Any, Final

import aiohttp
from yarl import URL

from scaler.clouds import http_client
from scaler.clouds.http_access import Access
from scaler.clouds.http_answers import read_json
from scaler.ports import Context

MAX_BODY: Final = 2**20
"""Bytes of one document: a queue's has some kilobytes."""


class JsonPages:
    """Reader and writer of one server's documents."""

    def __init__(self, session: aiohttp.ClientSession, access: Access, context: Context) -> None:
        self._session = session
        self._access = access
        self._clock = context.clock
        self._timeout = aiohttp.ClientTimeout(total=http_client.DEADLINE_SHARE * context.deadline_s)

    async def get(self, what: str, url: URL) -> tuple[float, Any]:
        """Return the time of the request (seconds since the Unix epoch) and the document.

        `what` names it in errors. Raises port errors.
        """
        return await self._call(what, "GET", url)

    async def patch(self, what: str, url: URL, document: object) -> None:
        """Change a document by the fields of another one. Raises port errors."""
        await self._call(what, "PATCH", url, document)

    async def _call(self, what: str, method: str, url: URL, document: object = None) -> tuple[float, Any]:
        requested_at = self._clock.now()
        headers = {"Accept": "application/json", **self._access.request_headers()}
        request = self._session.request(
            method, url, json=document, headers=headers, allow_redirects=False, timeout=self._timeout
        )
        status, content = await http_client.body(what, request, MAX_BODY, requested_at, "select less by the URL")
        if status != 200:
            raise http_client.refusal(what, status, {}, content, requested_at)
        return requested_at, await read_json(what, content)


async def json_pages(context: Context, server: str, access: Access) -> JsonPages:
    """Return a reader that shares the server's session. Raises `Misconfigured`."""
    return JsonPages(await http_client.session(context, server, access.ca_file), access, context)
