"""The metrics pages of a gateway's proxies at two successive reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from scaler.clouds.engines.exposition import MAX_GAP_S
from scaler.clouds.engines.metrics_page import Page
from scaler.clouds.engines.page_set import PageSet, ScrapeTarget
from scaler.ports import PortError


class ReadPages(NamedTuple):
    """The pages of one read.

    `changes` has each page before and now, within `over_s` seconds. It is empty before the second read of every proxy,
    and after a long gap: a part of the requests is not the demand.
    """

    pages: Mapping[ScrapeTarget, Page]
    changes: tuple[tuple[Page, Page], ...] = ()
    over_s: float = 0.0


class PageChanges:
    """Reader of the pages. It remembers those of the last read, for differences."""

    def __init__(self, pages: PageSet) -> None:
        self._pages = pages
        self._previous: Mapping[ScrapeTarget, Page] = {}

    async def read(self) -> ReadPages:
        """Return the pages, and their changes since the last read.

        Raises port errors where a page cannot be read.
        """
        pages: dict[ScrapeTarget, Page] = {}
        for target, result in (await self._pages.read()).items():
            if isinstance(result, PortError):
                raise result
            pages[target] = result
        previous, self._previous = self._previous, pages
        if not pages.keys() <= previous.keys():
            return ReadPages(pages)
        changes = tuple((previous[target], page) for target, page in pages.items())
        gaps_s = [now.at - before.at for before, now in changes]
        if not all(0.0 < gap_s <= MAX_GAP_S for gap_s in gaps_s):
            return ReadPages(pages)
        return ReadPages(pages, changes, sum(gaps_s) / len(gaps_s))
