"""The dashboard's page: its files, and its rendering in a browser."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path

import aiohttp
import pytest

from scaler.telemetry.dashboard import Dashboard
from tests.servers import chromium
from tests.servers.dashboard import HOSTILE, Known, rough_hour, serving, tick

needs_browser = pytest.mark.skipif(chromium.find() is None, reason="no Chromium on PATH")
SIZES = {
    "laptop, light": (1440, 900, "light"),
    "laptop, dark": (1440, 900, "dark"),
    "phone, light": (390, 844, "light"),
    "phone, dark": (390, 844, "dark"),
}


@pytest.fixture
def dashboard() -> Dashboard:
    return Dashboard("1.2.3", Known())


@pytest.fixture
async def address(dashboard: Dashboard) -> AsyncIterator[str]:
    async with serving(dashboard) as address:
        yield address


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[chromium.Page]:
    async with chromium.browser(tmp_path) as page:
        yield page


ASSETS = ["", "static/style.css", "static/main.js", "static/icon.svg", "static/vendor/uPlot.iife.min.js"]


@pytest.mark.parametrize("path", ASSETS)
async def test_static_files_have_etag_and_restrictive_security_policy(
    session: aiohttp.ClientSession, address: str, path: str
) -> None:
    async with session.get(address + path) as reply:
        assert reply.status == 200
        assert "default-src 'self'" in reply.headers["Content-Security-Policy"]
        assert reply.headers["Cache-Control"] == "no-cache"
        tag = reply.headers["ETag"]
    async with session.get(address + path, headers={"If-None-Match": tag}) as reply:
        assert reply.status == 304


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["", "api/workloads", "api/workloads/chat", "api/fleet"])
async def test_dashboard_rejects_write_methods(
    session: aiohttp.ClientSession, address: str, method: str, path: str
) -> None:
    async with session.request(method, address + path) as reply:
        assert reply.status == 405


def test_static_files_contain_no_external_url_or_html_injection() -> None:
    with resources.as_file(resources.files("scaler.telemetry.dashboard") / "static") as folder:
        files = [f for f in Path(folder).rglob("*") if f.suffix in {".html", ".js", ".css"}]
        assert len(files) > 10
        for file in files:
            code = re.sub(r"/\*!.*?\*/", "", file.read_text(), flags=re.DOTALL)
            assert not re.search(r"(https?:)?//[\w-]+\.[\w.]+", code), file
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", code) or (
                "vendor" in file.parts
            ), file


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize(("width", "height", "scheme"), SIZES.values(), ids=SIZES)
async def test_browser_shows_plots_and_reasons_without_errors(
    page: chromium.Page, dashboard: Dashboard, address: str, width: int, height: int, scheme: str
) -> None:
    for t in rough_hour():
        dashboard.observe(t)
    dashboard.observe(tick("summaries"))
    await page.show(width, height, scheme, mobile=width < 700)
    await page.go(address)
    await page.until("document.querySelectorAll('.workloads tbody tr').length === 2")
    assert await page.tell("document.querySelector('.workloads .why').textContent.startsWith('keep 7')")
    assert await page.tell("document.documentElement.scrollWidth") <= width
    assert await page.tell("getComputedStyle(document.body).backgroundColor") == (
        "rgb(245, 246, 248)" if scheme == "light" else "rgb(13, 16, 21)"
    )
    await page.tell("document.querySelector('.workloads a').click()")
    await page.until("document.querySelectorAll('.plot canvas').length === 5")
    assert await page.tell("location.hash") == "#/w/chat"
    assert await page.tell("document.querySelectorAll('.runs > li').length") == 5
    await page.tell("document.querySelector('.runs details').open = true")
    await page.until("document.querySelector('.runs details .sections').textContent.includes('throttled')")
    assert await page.tell("document.documentElement.scrollWidth") <= width
    assert not page.complaints
    assert all(url.startswith(address) for url in page.asked_for), page.asked_for


@needs_browser
@pytest.mark.slow
async def test_hostile_text_is_rendered_as_text_and_not_executed(
    page: chromium.Page, dashboard: Dashboard, address: str
) -> None:
    for t in list(rough_hour())[:184]:
        dashboard.observe(t)
    await page.show(1440, 900, "light")
    await page.go(f"{address}#/w/chat")
    await page.until("document.querySelectorAll('.runs > li').length === 5")
    await page.tell("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    await page.until(f"document.body.textContent.includes({HOSTILE!r})")
    assert await page.tell("document.querySelectorAll('main script, main img').length") == 0
    assert await page.tell("typeof window.hacked") == "undefined"
    assert not page.complaints


@needs_browser
@pytest.mark.slow
async def test_page_follows_ticks_and_survives_a_daemon_restart(page: chromium.Page) -> None:
    dashboard = Dashboard("1.2.3", Known())
    dashboard.observe(tick(turn=0))
    await page.show(1440, 900, "dark")
    async with serving(dashboard) as address:
        await page.go(f"{address}#/w/chat")
        await page.until("document.querySelector('.figures dd')?.textContent === '2.50'")
        dashboard.observe(tick(turn=1, demand=3.25))
        await page.until("document.querySelector('.figures dd').textContent === '3.25'")
    await page.until("!document.getElementById('banner').hidden")
    assert "Connection lost. Showing the state of" in await page.tell("document.getElementById('banner').textContent")
    assert await page.tell("document.querySelector('.figures dd').textContent") == "3.25"
    restarted = Dashboard("1.2.3", Known())
    restarted.observe(tick(turn=2, demand=1.5))
    async with serving(restarted, int(address.rsplit(":", 1)[1].strip("/"))):
        await page.until("document.getElementById('banner').hidden")
        await page.until("document.querySelector('.figures dd').textContent === '1.50'")


@needs_browser
@pytest.mark.slow
async def test_times_are_in_utc_in_every_time_zone(page: chromium.Page, dashboard: Dashboard, address: str) -> None:
    dashboard.observe(tick())
    await page.call("Emulation.setTimezoneOverride", timezoneId="Asia/Tokyo")
    await page.go(address)
    await page.until("document.getElementById('clock').textContent === '2026-05-28T20:26:40Z'")


@needs_browser
@pytest.mark.slow
async def test_hidden_tab_sends_no_requests(page: chromium.Page, dashboard: Dashboard, address: str) -> None:
    dashboard.observe(tick())
    await page.go(f"{address}#/w/chat")
    await page.until("!document.querySelector('.detail').hidden")
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
    tell = "document.dispatchEvent(new Event('visibilitychange'))"
    await page.tell(f"{hide % 'true'} {tell}")
    await asyncio.sleep(0.3)  # for a pending response
    requests_before = len(page.asked_for)
    await asyncio.sleep(2.2)
    assert len(page.asked_for) == requests_before
    dashboard.observe(tick(turn=1, demand=3.25))
    await page.tell(f"{hide % 'false'} {tell}")
    await page.until("document.querySelector('.figures dd').textContent === '3.25'")


@needs_browser
@pytest.mark.slow
async def test_arrow_keys_move_one_crosshair_over_all_plots(
    page: chromium.Page, dashboard: Dashboard, address: str
) -> None:
    for t in rough_hour():
        dashboard.observe(t)
    await page.go(f"{address}#/w/chat")
    await page.until("document.querySelectorAll('.plot canvas').length === 5")
    await page.tell("document.querySelector('.plot').focus()")
    for _ in range(3):
        await page.tell("document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft'}))")
    times = await page.tell("[...document.querySelectorAll('.figure time')].map(t => t.textContent)")
    assert len(set(times)) == 1
    assert times[0].startswith("at ")
    assert not page.complaints


@needs_browser
@pytest.mark.slow
async def test_two_thousand_workloads_are_listed_worst_first_and_searched(
    page: chromium.Page, dashboard: Dashboard, address: str
) -> None:
    for i in range(2000):
        dashboard.observe(tick(f"model-{i}", may_lower=i != 1234))
    await page.show(1440, 900, "light")
    await page.go(address)
    await page.until("document.querySelectorAll('.workloads tbody tr').length === 100")
    assert await page.tell("document.querySelector('.workloads tbody tr').textContent.startsWith('model-1234blind')")
    assert await page.tell("document.querySelector('.more').textContent") == "Show more (100 of 2000)"
    await page.tell(
        "{ const s = document.querySelector('input'); s.value = '777'; s.dispatchEvent(new Event('input')); }"
    )
    assert await page.tell("[...document.querySelectorAll('tbody a')].map(a => a.textContent)") == [
        "model-777",
        "model-1777",
    ]


@needs_browser
@pytest.mark.slow
async def test_page_reports_no_tick_yet_and_unknown_workload(page: chromium.Page, address: str) -> None:
    await page.show(390, 844, "dark", mobile=True)
    await page.go(address)
    await page.until("document.querySelector('main').textContent.includes('No tick yet')")
    await page.go(f"{address}#/w/nobody")
    await page.until("document.querySelector('main').textContent.includes('No workload is named nobody')")
