"""A real RabbitMQ with its management plugin on free ports. Debian's `rabbitmq-server` package has it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from tests.patience import PATIENCE_S
from tests.servers.tcp_fault import free_port

BINARY = shutil.which("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Without Debian's wrapper, which runs as another user."""
COUNTED_MS = 200
"""Time between two updates of the counts; 5 s by default. Milliseconds."""
GUEST = {"Authorization": aiohttp.encode_basic_auth("guest", "guest")}
needs_rabbitmq = pytest.mark.skipif(BINARY is None, reason="no RabbitMQ (Debian: apt install rabbitmq-server)")


class RabbitServer:
    """The broker: `url` of the management plugin, `port` of AMQP."""

    def __init__(self, port: int, management_port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{management_port}"

    async def call(self, method: str, path: str, body: object = None) -> int:
        """Return the status of a call of the management API."""
        async with (
            aiohttp.ClientSession(headers=GUEST) as session,
            session.request(method, URL(f"{self.url}/api/{path}", encoded=True), json=body) as response,
        ):
            await response.read()
            return response.status

    async def declare(self, queue: str, kind: str = "quorum") -> None:
        """Declare a queue. A busy broker refuses the leader of a quorum queue at first."""
        body = {"durable": True, "arguments": {"x-queue-type": kind}}
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if await self.call("PUT", f"queues/%2F/{quote(queue, safe='')}", body) in {201, 204}:
                    return
                await asyncio.sleep(0.1)

    async def publish(self, queue: str) -> None:
        message = {"properties": {}, "routing_key": queue, "payload": "hello", "payload_encoding": "string"}
        assert await self.call("POST", "exchanges/%2F/amq.default/publish", message) == 200

    async def until(self, queue: str, **counts: int) -> None:
        """Return when the management plugin reports these counts."""
        url = f"{self.url}/api/queues/%2F/{quote(queue, safe='')}?disable_stats=true&enable_queue_totals=true"
        async with aiohttp.ClientSession(headers=GUEST) as session, asyncio.timeout(PATIENCE_S):
            while True:
                async with session.get(URL(url, encoded=True)) as response:
                    body = await response.json()
                if body["state"] == "running" and counts.items() <= body.items():
                    return
                await asyncio.sleep(0.05)

    async def delete(self, queue: str) -> None:
        await self.call("DELETE", f"queues/%2F/{quote(queue, safe='')}")


@asynccontextmanager
async def rabbitmq() -> AsyncIterator[RabbitServer]:
    if BINARY is None:
        pytest.skip("no RabbitMQ (Debian: apt install rabbitmq-server)")
    server = RabbitServer(free_port(), management_port := free_port())
    epmd_port = free_port()
    with tempfile.TemporaryDirectory(prefix="forescale-rabbitmq-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "plugins").write_text("[rabbitmq_management].\n")
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{server.port}\n"
            f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management_port}\n"
            f"collect_statistics_interval = {COUNTED_MS}\n"
        )
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": name,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(epmd_port),
            "RABBITMQ_NODENAME": f"forescale{server.port}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": f"{name}/data",
            "RABBITMQ_LOG_BASE": f"{name}/log",
            "RABBITMQ_CONFIG_FILE": f"{name}/rabbitmq.conf",
            "RABBITMQ_CONF_ENV_FILE": f"{name}/absent",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{name}/plugins",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+S 1:1 +sbwt none -rabbit quorum_tick_interval {COUNTED_MS}",
        }
        silent: dict[str, Any] = {
            "stdout": asyncio.subprocess.DEVNULL,
            "stderr": asyncio.subprocess.DEVNULL,
            "env": environment,
        }
        # The name service of Erlang: the broker would leave its own running.
        names = await asyncio.create_subprocess_exec("epmd", "-port", str(epmd_port), **silent)
        broker = await asyncio.create_subprocess_exec(BINARY, **silent)
        try:
            await _ready(server, broker)
            yield server
        finally:
            for process in (broker, names):
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                await process.wait()


async def _ready(server: RabbitServer, broker: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            assert broker.returncode is None, f"RabbitMQ ended with {broker.returncode}"
            with contextlib.suppress(aiohttp.ClientError):
                if await server.call("GET", "health/checks/port-listener/" + str(server.port)) == 200:
                    return
            await asyncio.sleep(0.2)
