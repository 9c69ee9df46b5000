"""A Service Bus namespace's management interface on 127.0.0.1: Atom XML over TLS, its signatures and tokens verified.

As in Azure, a missing entity is an empty feed, and a throttled namespace may answer with counts of zero.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from tests.servers.azure import TOKEN
from tests.servers.site import listening

KEY: Final = "c2VjcmV0"
ATOM: Final = "http://www.w3.org/2005/Atom"
BUS: Final = "http://schemas.microsoft.com/netservices/2010/10/servicebus/connect"
DETAILS: Final = "http://schemas.microsoft.com/netservices/2011/06/servicebus"
WHEN: Final = "2026-01-01T00:00:00Z"


@dataclass
class Counted:
    """Messages by kind. `invalid_active` replaces the number of active messages by an invalid value."""

    active: int = 0
    scheduled: int = 0
    dead: int = 0
    transfer: int = 0
    transfer_dead: int = 0
    invalid_active: str | None = None

    def details(self) -> str:
        counts = {
            "Active": self.invalid_active if self.invalid_active is not None else self.active,
            "DeadLetter": self.dead,
            "Scheduled": self.scheduled,
            "Transfer": self.transfer,
            "TransferDeadLetter": self.transfer_dead,
        }
        inner = "".join(f"<d:{k}MessageCount>{v}</d:{k}MessageCount>" for k, v in counts.items())
        return f'<CountDetails xmlns:d="{DETAILS}">{inner}</CountDetails>'


@dataclass
class Bus:
    """A namespace."""

    queues: dict[str, Counted] = field(default_factory=dict)
    subscriptions: dict[tuple[str, str], Counted] = field(default_factory=dict)
    status: int | None = None
    empty: bool = False
    static: bool = False
    """Throttled, with responses of zero counts."""
    requests: int = 0
    port: int = 0

    def connection_string(self, port: int | None = None, key: str = KEY) -> str:
        return f"Endpoint=sb://127.0.0.1:{port or self.port}/;SharedAccessKeyName=scaler;SharedAccessKey={key}"

    def clear(self) -> None:
        self.status, self.empty, self.static = None, False, False
        for counted in [*self.queues.values(), *self.subscriptions.values()]:
            counted.invalid_active = None

    async def answer(self, request: web.Request) -> web.Response:
        self.requests += 1
        if self.status == 429:
            return _error(429, "50009: The request was terminated because the namespace is being throttled.")
        if self.status is not None:
            return _error(self.status, "Manage claim is required for this operation.")
        if not _known(request.headers.get("Authorization", "")):
            return _error(401, "InvalidSignature: The token has an invalid signature.")
        topic, _, subscription = request.path.strip("/").partition("/subscriptions/")
        kind = "SubscriptionDescription" if subscription else "QueueDescription"
        counted = self.subscriptions.get((topic, subscription)) if subscription else self.queues.get(topic)
        if counted is None or self.empty:
            return _atom(f'<feed xmlns="{ATOM}"><title type="text">Publicly Listed Services</title></feed>')
        counts = Counted() if self.static else counted
        body = (
            f'<{kind} xmlns="{BUS}" xmlns:i="http://www.w3.org/2001/XMLSchema-instance"><LockDuration>PT1M</LockDuration>'
            f"<RequiresSession>false</RequiresSession><MessageCount>{counts.active + counts.scheduled + counts.dead}"
            f"</MessageCount>{counts.details()}<Status>Active</Status><CreatedAt>{WHEN}</CreatedAt>"
            f"<UpdatedAt>{WHEN}</UpdatedAt><AccessedAt>{WHEN}</AccessedAt></{kind}>"
        )
        title = subscription or topic
        return _atom(
            f'<entry xmlns="{ATOM}"><id>{title}</id><title type="text">{title}</title>'
            f"<published>{WHEN}</published><updated>{WHEN}</updated>"
            f'<content type="application/xml">{body}</content></entry>'
        )


def _atom(text: str) -> web.Response:
    return web.Response(text=text, content_type="application/atom+xml")


def _error(status: int, detail: str) -> web.Response:
    text = f"<Error><Code>{status}</Code><Detail>{detail}</Detail></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")


def _known(authorization: str) -> bool:
    if authorization == f"Bearer {TOKEN}":
        return True
    signed = dict(urllib.parse.parse_qsl(authorization.removeprefix("SharedAccessSignature ")))
    signed_text = f"{urllib.parse.quote_plus(signed.get('sr', ''))}\n{signed.get('se', '')}"
    right = base64.b64encode(hmac.new(KEY.encode(), signed_text.encode(), hashlib.sha256).digest()).decode()
    return hmac.compare_digest(signed.get("sig", ""), right)


@asynccontextmanager
async def bus(tls: ssl.SSLContext) -> AsyncIterator[Bus]:
    """Open a namespace without entities."""
    namespace = Bus()
    app = web.Application()
    app.router.add_get("/{path:.*}", namespace.answer)
    async with listening(app, tls=tls) as namespace.port:
        yield namespace
