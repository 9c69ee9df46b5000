"""Services that receive notices: HTTP webhooks, and a mail server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from typing import Any

from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.servers.site import listening


@dataclass
class Webhook:
    """A web server. Its `status` and `hang` are those of the next responses."""

    port: int = 0
    status: int = 200
    hang: bool = False
    bodies: list[Any] = field(default_factory=list)
    """Accepted bodies."""
    refused: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with each request."""

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.arrived.set()
        if self.hang:
            await asyncio.Event().wait()
        if self.status >= 300:
            self.refused += 1
        else:
            self.bodies.append(body)
        return web.Response(status=self.status, text="ok")


@asynccontextmanager
async def webhook(tls: ssl.SSLContext | None = None) -> AsyncIterator[Webhook]:
    """Serve every path on a free port."""
    service = Webhook()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", service.answer)
    async with listening(app, tls=tls) as service.port:
        yield service


class Mailbox:
    """The handler of a mail server; `mails` are (recipients, subject, text)."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], str, str]] = []

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd
        content = envelope.content
        assert isinstance(content, bytes)
        mail = message_from_bytes(content, policy=policy.default)
        body = mail.get_body(("plain",))
        assert body is not None
        self.mails.append((list(envelope.rcpt_tos), str(mail["Subject"]), body.get_content()))
        return "250 accepted"


@asynccontextmanager
async def mail_server() -> AsyncIterator[tuple[Mailbox, int]]:
    """Receive mails on a free port; yield the mailbox and the port."""
    mailbox, loop = Mailbox(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(mailbox, loop=loop), "127.0.0.1", 0)
    try:
        yield mailbox, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
