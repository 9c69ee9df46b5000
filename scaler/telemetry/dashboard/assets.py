"""Serves the page's files from the package, without internet access and build step."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

from aiohttp import web

TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
"""Content types by suffix. Only files with these suffixes are served."""
SECURITY: Final = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Security headers: the page loads nothing from other sites, and runs no code in the texts that it shows."""


def mount(app: web.Application) -> None:
    """Serve ``/`` and ``/static/`` from memory."""
    for path, file in _files(resources.files(__package__) / "static", ""):
        address = "/" if path == "index.html" else f"/static/{path}"
        app.router.add_get(address, _file_handler(file.read_bytes(), TYPES[_suffix(path)]))


def _files(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        path = f"{prefix}{entry.name}"
        if entry.is_dir():
            yield from _files(entry, f"{path}/")
        elif _suffix(path) in TYPES:
            yield path, entry


def _suffix(path: str) -> str:
    return path[path.rfind(".") :]


def _file_handler(body: bytes, content_type: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    tag = hashlib.sha256(body).hexdigest()[:16]
    headers = {**SECURITY, "Cache-Control": "no-cache", "ETag": f'"{tag}"'}  # cached, but revalidated at each use

    async def serve(request: web.Request) -> web.StreamResponse:
        if any(known.value == tag for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        response = web.Response(body=body, content_type=content_type, charset="utf-8", headers=headers)
        response.enable_compression()
        return response

    return serve
