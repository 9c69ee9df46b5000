"""An engine's running and waiting requests, from its own metrics page."""

from __future__ import annotations

import math

from yarl import URL

from scaler.clouds import http_client
from scaler.clouds.engines.exposition import gauge_value, series_of
from scaler.clouds.engines.metrics_page import read_page
from scaler.clouds.engines.presets import PRESETS
from scaler.clouds.http_access import Access
from scaler.ports import Context, PortError


class Loads:
    """Reads the running and waiting requests of engines of one preset."""

    def __init__(self, pages: http_client.Pages, preset: str) -> None:
        self.deadline_s = pages.deadline_s
        self._pages = pages
        self._recipes = (PRESETS[preset]["running"], PRESETS[preset]["waiting"])
        self._metric_names = frozenset(name for recipe in self._recipes for name in recipe.series)

    async def read(self, url: URL) -> float | None:
        """Return one engine's running and waiting requests; None where unreported.

        None does not mean idle.
        """
        try:
            page = await read_page(self._pages, url, None, self._metric_names)
        except PortError:
            return None
        parts = [gauge_value(r, [s]) if (s := series_of(r, {}, page)) is not None else None for r in self._recipes]
        valid = [part for part in parts if part is not None and 0 <= part < math.inf]
        return sum(valid) if len(valid) == len(parts) else None


async def loads(context: Context, server: object, access: Access, preset: str, deadline_s: float) -> Loads:
    """Return the reader for the engines of one `server` or cluster, with one session.

    Raises `Misconfigured`.
    """
    session = await http_client.session(context, server, access.ca_file)
    return Loads(http_client.Pages(session, access, context.clock, deadline_s), preset)
