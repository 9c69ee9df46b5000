"""How much an engine has to do, as its own metrics page tells: one look, and no guess."""

from __future__ import annotations

import math

from yarl import URL

from scaler.clouds import http_client
from scaler.clouds.engines.exposition import level, series_of
from scaler.clouds.engines.metrics_page import read_page
from scaler.clouds.engines.presets import PRESETS
from scaler.clouds.http_access import Access
from scaler.ports import Context, PortError


class Loads:
    """Reads the requests that engines of one preset have running and waiting."""

    def __init__(self, pages: http_client.Pages, preset: str) -> None:
        self.deadline_s = pages.deadline_s
        self._pages = pages
        self._recipes = (PRESETS[preset]["running"], PRESETS[preset]["waiting"])
        self._wanted = frozenset(name for recipe in self._recipes for name in recipe.series)

    async def of(self, url: URL) -> float | None:
        """Running and waiting requests of one engine; None where it does not tell: that is not idle."""
        try:
            shown = await read_page(self._pages, url, None, self._wanted)
        except PortError:
            return None
        parts = [level(r, [s]) if (s := series_of(r, {}, shown)) is not None else None for r in self._recipes]
        told = [part for part in parts if part is not None and 0 <= part < math.inf]
        return sum(told) if len(told) == len(parts) else None


async def loads(context: Context, server: object, access: Access, preset: str, deadline_s: float) -> Loads:
    """Return the loads of the engines of one `server` or cluster, through one session. Raises `Misconfigured`."""
    session = await http_client.session(context, server, access.ca_file)
    return Loads(http_client.Pages(session, access, context.clock, deadline_s), preset)
