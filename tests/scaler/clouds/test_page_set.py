"""The reader of a set of metrics pages, on a server that requires credentials."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web
from yarl import URL

from scaler.clouds.engines.page_set import open_pages
from scaler.clouds.http_access import Access
from scaler.config.kinds.engines import Scrape
from scaler.config.secret import Secret
from scaler.ports import PortError
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.fakes import ManualClock
from tests.servers.site import listening


async def page(request: web.Request) -> web.Response:
    is_known = request.headers.get("Authorization") == "Bearer scraper"
    return web.Response(text="up 1\n") if is_known else web.Response(status=401)


async def test_pages_are_read_with_the_credentials_of_their_set(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("scraper\n")
    app = web.Application()
    app.router.add_get("/metrics", page)
    async with listening(app) as port, Resources() as resources:
        context = AdapterContext(resources, ManualClock(), DEADLINE_S)
        url = f"http://127.0.0.1:{port}/metrics"
        known = Scrape(urls=(url,), preset="vllm", access=Access(bearer_token=Secret(file=str(token))))
        assert (await (await open_pages(context, known)).get(URL(url), None))[1] == "up 1\n"
        unknown = await open_pages(context, Scrape(urls=(url,), preset="vllm"))
        with pytest.raises(PortError, match="401"):
            await unknown.get(URL(url), None)
