"""Faults of an HTTP source: source -> TCP proxy -> HTTP front -> server."""

from __future__ import annotations

from tests.contracts.source import SourceRig
from tests.servers.http_fault import Front
from tests.servers.tcp_fault import ProxyFault, TcpProxy

CUT_AFTER = 60
"""Bytes: within the status line and headers of any response."""


class FrontedRig(SourceRig):
    """All faults but `garble`, which depends on the server's format."""

    def __init__(self, front: Front, proxy: TcpProxy) -> None:
        self.front = front
        self.proxy = proxy

    async def hang(self) -> None:
        self.proxy.fault = ProxyFault.SILENT
        self.proxy.tear_down()

    async def refuse(self) -> None:
        self.proxy.fault = ProxyFault.RESET
        self.proxy.tear_down()

    async def cut_short(self) -> bool:
        self.proxy.fault, self.proxy.cut_after = ProxyFault.CUT, CUT_AFTER
        return True

    async def throttle(self) -> None:
        self.front.status, self.front.headers = 429, {"Retry-After": "1"}

    async def forbid(self) -> None:
        self.front.status = 403

    async def recover(self) -> None:
        self.front.clear()
        self.proxy.fault = ProxyFault.NONE
        self.proxy.tear_down()
