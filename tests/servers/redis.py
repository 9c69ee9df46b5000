"""A real Redis on a free port. Debian's `redis-server` package has the binary."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.patience import PATIENCE_S
from tests.servers.tcp_fault import free_port

BINARY = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(BINARY is None, reason="no redis-server on PATH (Debian: apt install redis-server)")


@asynccontextmanager
async def redis_server(tls: Path | None = None) -> AsyncIterator[Redis]:
    """Yield an administrator's client of a new server; its TLS files are `ca.pem` and `key.pem` in the folder `tls`."""
    if BINARY is None:
        pytest.skip("no redis-server on PATH (Debian: apt install redis-server)")
    port = free_port()
    options = ["--port", str(port)]
    if tls is not None:
        files = ["--tls-cert-file", f"{tls}/ca.pem", "--tls-key-file", f"{tls}/key.pem", "--tls-auth-clients", "no"]
        options = ["--port", "0", "--tls-port", str(port), *files]
    process = await asyncio.create_subprocess_exec(
        BINARY, *options, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", stdout=asyncio.subprocess.DEVNULL
    )
    client = Redis(host="127.0.0.1", port=port, ssl=tls is not None, ssl_ca_certs=f"{tls}/ca.pem" if tls else None)
    try:
        await _ready(client)
        yield client
    finally:
        await client.aclose()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _ready(client: Redis) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(RedisError, OSError):
                await client.ping()
                return
            await asyncio.sleep(0.02)


def port_of(client: Redis) -> int:
    return int(client.connection_pool.connection_kwargs["port"])
