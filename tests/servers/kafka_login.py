"""A gateway before a mock Kafka broker that requires TLS and a login with SASL PLAIN: the mock broker has neither.

It answers the requests of the login itself, and forwards the others. In responses it replaces the broker's address
by its own. Requests have the layout of Kafka's protocol guide: size, API key, API version, correlation ID.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from struct import pack, unpack_from
from typing import Final

SASL_HANDSHAKE, API_VERSIONS, SASL_AUTHENTICATE = 17, 18, 36
UNSUPPORTED_MECHANISM, WRONG_PASSWORD = 33, 58
FLEXIBLE_VERSIONS: Final = 3
"""First version of ApiVersions whose arrays have a compact length."""
CLIENT_ID_AT: Final = 8


class KafkaGateway:
    """The gateway, for one user."""

    def __init__(self, address: str, username: str, password: str) -> None:
        self._host, port = address.split(":")
        self._broker_port = int(port)
        self._login = f"\0{username}\0{password}".encode()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, to_upstream = await asyncio.open_connection(self._host, self._broker_port)
        signed_in = False
        try:
            while True:
                request = await frame(reader)
                api, version = unpack_from(">hh", request)
                if api == SASL_HANDSHAKE:
                    answer = handshake(body_of(request))
                elif api == SASL_AUTHENTICATE:
                    signed_in = body_of(request)[4:] == self._login
                    answer = pack(">hhi", 0, -1, 0) if signed_in else pack(">hhi", WRONG_PASSWORD, -1, 0)
                elif signed_in or api == API_VERSIONS:
                    to_upstream.write(pack(">i", len(request)) + request)
                    answer = (await frame(upstream))[4:]
                    answer = with_login(answer, version) if api == API_VERSIONS else self._own_address(answer)
                else:
                    return
                response = request[4:8] + answer
                writer.write(pack(">i", len(response)) + response)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            return
        finally:
            to_upstream.close()
            writer.close()

    def _own_address(self, answer: bytes) -> bytes:
        host = self._host.encode()
        return answer.replace(host + pack(">i", self._broker_port), host + pack(">i", self.port))


async def frame(reader: asyncio.StreamReader) -> bytes:
    (size,) = unpack_from(">i", await reader.readexactly(4))
    return await reader.readexactly(size)


def body_of(request: bytes) -> bytes:
    """Return a request without its header, whose last field is the client ID."""
    (size,) = unpack_from(">h", request, CLIENT_ID_AT)
    return request[CLIENT_ID_AT + 2 + size :]


def handshake(body: bytes) -> bytes:
    """Return the answer to a request for a mechanism: PLAIN is the only one."""
    code = 0 if body[2:] == b"PLAIN" else UNSUPPORTED_MECHANISM
    return pack(">hih5s", code, 1, 5, b"PLAIN")


def with_login(answer: bytes, version: int) -> bytes:
    """Add the APIs of the login to the list of APIs."""
    apis = [pack(">hhh", SASL_HANDSHAKE, 0, 1), pack(">hhh", SASL_AUTHENTICATE, 0, 0)]
    if version >= FLEXIBLE_VERSIONS:
        return answer[:2] + bytes([answer[2] + len(apis)]) + b"".join(api + b"\0" for api in apis) + answer[3:]
    (count,) = unpack_from(">i", answer, 2)
    return answer[:2] + pack(">i", count + len(apis)) + b"".join(apis) + answer[6:]


@asynccontextmanager
async def kafka_gateway(address: str, tls: ssl.SSLContext, username: str, password: str) -> AsyncIterator[str]:
    """Yield the address of a gateway before the broker at `address`."""
    gateway = KafkaGateway(address, username, password)
    server = await asyncio.start_server(gateway.serve, "127.0.0.1", 0, ssl=tls)
    gateway.port = server.sockets[0].getsockname()[1]
    try:
        yield f"127.0.0.1:{gateway.port}"
    finally:
        server.close()
