"""A private PostgreSQL on a free port. Debian's `postgresql` package has it. And a server with hostile messages."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest
from pg8000.native import Connection
from yarl import URL

from tests.patience import PATIENCE_S
from tests.servers.tcp_fault import free_port

INITDB: Final = shutil.which("initdb")
USER: Final = "admin"
PAUSE_S: Final = 0.05
needs_postgres = pytest.mark.skipif(INITDB is None, reason="no initdb on PATH (Debian: apt install postgresql)")


@contextmanager
def postgres(tls: Path | None = None) -> Iterator[str]:
    """Start a database and yield its URL. PostgreSQL refuses to run as root; it then runs as nobody.

    Its TLS files are `ca.pem` and `key.pem` in the folder `tls`.
    """
    port = free_port()
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chown(folder, user.pw_uid, user.pw_gid)
        data = Path(folder) / "data"
        created = ["initdb", "-D", str(data), "-U", USER, "-A", "trust", "--no-sync", "-E", "UTF8"]
        subprocess.run(created, check=True, user=user.pw_uid, capture_output=True, cwd=folder)
        command = ["postgres", "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", folder, "-F"]
        for name in ("ca.pem", "key.pem") if tls is not None else ():
            file = Path(shutil.copy(Path(str(tls), name), data))
            file.chmod(0o600)
            os.chown(file, user.pw_uid, user.pw_gid)
        if tls is not None:
            command += ["-c", "ssl=on", "-c", "ssl_cert_file=ca.pem", "-c", "ssl_key_file=key.pem"]
        server = subprocess.Popen(
            command, user=user.pw_uid, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _wait_until_ready(port)
            yield f"postgresql://{USER}@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)


def _wait_until_ready(port: int) -> None:
    for _ in range(round(PATIENCE_S / PAUSE_S)):
        if subprocess.run(["pg_isready", "-h", "127.0.0.1", "-p", str(port), "-q"], check=False).returncode == 0:
            return
        time.sleep(PAUSE_S)
    raise AssertionError(f"PostgreSQL is not ready within {PATIENCE_S:g} s")


def execute(url: str, *statements: str) -> list[Any]:
    """Run statements one by one, and return the rows of the last one."""
    connection = Connection(USER, "127.0.0.1", "postgres", URL(url).port)
    try:
        return [connection.run(statement) for statement in statements][-1] or []
    finally:
        connection.close()


def message(code: bytes, body: bytes = b"") -> bytes:
    """Return a message of PostgreSQL's protocol 3."""
    return code + struct.pack("!i", len(body) + 4) + body


READY: Final = message(b"Z", b"I")
SIGNED_IN: Final = message(b"R", struct.pack("!i", 0)) + READY
BEGUN: Final = message(b"C", b"BEGIN\0") + READY
PARSED: Final = message(b"1") + READY


def described(type_oid: int) -> bytes:
    """Return the description of a row with a single column."""
    column = struct.pack("!ihihih", 0, 0, type_oid, 8, -1, 0)
    return message(b"t", b"\0\0") + message(b"T", b"\0\1visible\0" + column) + READY


def row(value: bytes) -> bytes:
    """Return a row with a single value."""
    return message(b"2") + message(b"D", struct.pack("!hi", 1, len(value)) + value)


@asynccontextmanager
async def hostile_postgres(*responses: bytes | Callable[[bytes], bytes]) -> AsyncIterator[int]:
    """Respond to each packet of a client with the next one of these, then stay silent. Yield the port.

    A function returns the response to a packet.
    """

    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        with suppress(ConnectionError):
            for response in responses:
                packet = await reader.read(65_536)
                writer.write(response if isinstance(response, bytes) else response(packet))
                await writer.drain()
            while await reader.read(65_536):
                pass
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*serving)
