"""A TCP proxy with faults. It parses no protocol, so it works for HTTP, TLS and watches alike."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum

CHUNK = 65_536


class ProxyFault(StrEnum):
    NONE = "clear"
    RESET = "reset"  # every connection is reset
    SILENT = "silent"  # connections are accepted without a response
    CUT = "cut"  # a response ends after `cut_after` bytes
    FROZEN = "frozen"  # connections stay open without data until the fault changes


class TcpProxy:
    """Forwards bytes to `target` (host, port) in the present `fault`.

    With `tunnels`, it is an HTTP proxy, whose clients first ask for a tunnel by CONNECT.
    """

    def __init__(self, host: str, port: int, *, tunnels: bool = False) -> None:
        self.target = (host, port)
        self.tunnels = tunnels
        self._fault = ProxyFault.NONE
        self._thawed = asyncio.Event()
        self._thawed.set()
        self.cut_after = 0
        self.accepted = 0
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def fault(self) -> ProxyFault:
        return self._fault

    @fault.setter
    def fault(self, fault: ProxyFault) -> None:
        self._fault = fault
        (self._thawed.clear if fault is ProxyFault.FROZEN else self._thawed.set)()

    def tear_down(self) -> None:
        """Reset every open connection."""
        for writer in list(self._writers):
            _reset(writer)

    async def end(self) -> None:
        """Reset every connection, even those being opened, and wait until all are gone."""
        self.fault = ProxyFault.RESET
        while self._serving:
            self.tear_down()
            await asyncio.wait(self._serving, timeout=0.05)
        await asyncio.sleep(0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        self.accepted += 1
        self._writers.add(writer)
        try:
            if self.fault is ProxyFault.RESET:
                _reset(writer)
                return
            if self.fault is ProxyFault.SILENT:
                while await reader.read(CHUNK):
                    pass
                return
            if self.tunnels:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            up_reader, up_writer = await asyncio.open_connection(*self.target)
            self._writers.add(up_writer)
            try:
                await asyncio.gather(self._pump(reader, up_writer, 0), self._pump(up_reader, writer, 1))
            finally:
                self._writers.discard(up_writer)
                up_writer.close()
        except (OSError, asyncio.IncompleteReadError):
            _reset(writer)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, answers: int) -> None:
        passed = 0
        while data := await source.read(CHUNK):
            await self._thawed.wait()
            passed += len(data)
            if answers and self.fault is ProxyFault.CUT and passed > self.cut_after:
                sink.write(data[: max(0, len(data) - (passed - self.cut_after))])
                await sink.drain()
                _reset(sink)
                return
            sink.write(data)
            await sink.drain()
        with contextlib.suppress(OSError):
            sink.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and not writer.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def tcp_proxy(host: str, port: int, *, tunnels: bool = False) -> AsyncIterator[TcpProxy]:
    proxy = TcpProxy(host, port, tunnels=tunnels)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port
