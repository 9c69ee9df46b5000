"""The metrics pages of all processes under a name or a list of URLs, read at once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from yarl import URL

from scaler.clouds import http_client
from scaler.clouds.engines.metrics_page import Page, read_page
from scaler.clouds.http_access import Access
from scaler.ports import Context, Misconfigured, PortError, Unavailable

MAX_TARGETS: Final = 500
"""Maximum pages of one set: they take a second of parsing per tick. For more, let Prometheus scrape."""
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


async def resolve_addresses(host: str, port: int) -> Sequence[str]:
    """Return all IPv4 addresses of a name, or else IPv6 ones.

    So a dual-stacked process counts once.
    """
    loop = asyncio.get_running_loop()
    entries = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for family in (socket.AF_INET, socket.AF_INET6):
        if ips := sorted({str(info[4][0]) for info in entries if info[0] == family}):
            return ips
    return ()


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """A process's page, and the name in its certificate where it differs from the address."""

    url: URL
    server_name: str | None = None


class PageAddresses(Protocol):
    """Settings of a set of pages.

    They have the URLs, or one URL under a name that resolves to every process.
    """

    @property
    def urls(self) -> tuple[str, ...]: ...
    @property
    def service(self) -> str | None: ...


class AccessiblePages(PageAddresses, Protocol):
    """Addresses of pages, and the credentials for them."""

    @property
    def access(self) -> Access: ...


async def open_pages(context: Context, settings: AccessiblePages) -> http_client.Pages:
    """Return the reader of single pages of a set. Raises `Misconfigured`."""
    access, server = settings.access, settings.service or settings.urls
    session = await http_client.session(context, server, access.ca_file, connections=MAX_TARGETS)
    return http_client.Pages(session, access, context.clock, http_client.DEADLINE_SHARE * context.deadline_s)


class PageSet:
    """Reader of the pages. `noun` names a process in errors, such as `engine`."""

    def __init__(
        self,
        addresses: PageAddresses,
        pages: http_client.Pages,
        requested: frozenset[str],
        noun: str,
        resolve: Resolve = resolve_addresses,
    ) -> None:
        self._targets = tuple(ScrapeTarget(URL(url)) for url in addresses.urls)
        self._service = URL(addresses.service) if addresses.service else None
        self._pages = pages
        self._requested = requested
        self._noun = noun
        self._resolve = resolve

    async def read(self) -> Mapping[ScrapeTarget, Page | PortError]:
        """Return the page of each present process, or why it could not be read.

        Raises `Unavailable` where the name has no address: that is not zero load.
        """
        targets = await self._find_targets()
        results = await asyncio.gather(*(self._page(target) for target in targets))
        return dict(zip(targets, results, strict=True))

    async def _find_targets(self) -> tuple[ScrapeTarget, ...]:
        if self._service is None:
            targets = self._targets
        else:
            host, port = str(self._service.host), int(self._service.port or 0)
            try:
                async with asyncio.timeout(self._pages.deadline_s):
                    ips = await self._resolve(host, port)
            except OSError as e:
                raise Unavailable(
                    f"{host} does not resolve (no {self._noun} is ready, or the name is wrong): {e}"
                ) from e
            targets = tuple(ScrapeTarget(self._service.with_host(ip), host) for ip in ips)
            if not targets:
                raise Unavailable(f"{host} resolves to no address: no {self._noun} is ready")
        if len(targets) > MAX_TARGETS:
            raise Misconfigured(f"{len(targets)} {self._noun}s exceed the limit of {MAX_TARGETS}; use kind prometheus")
        return targets

    async def _page(self, target: ScrapeTarget) -> Page | PortError:
        try:
            async with asyncio.timeout(self._pages.deadline_s):
                return await read_page(self._pages, target.url, target.server_name, self._requested)
        except TimeoutError:
            return Unavailable(f"{target.url}: not read and parsed within {self._pages.deadline_s:.3g} s")
        except PortError as e:
            return e
