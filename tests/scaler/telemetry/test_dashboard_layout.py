"""The dashboard's pages in a browser: layout, text, states, keyboard and accessibility."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path

import pytest

from scaler.commands.explain import parse_time
from tests.servers import chromium
from tests.servers.dashboard import INTERVAL_S, NOON, busy_fleet, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.find() is None, reason="no Chromium on PATH"),
]
VIEWS = {
    "#/": "document.querySelectorAll('.workloads tbody tr').length === 6",
    "#/w/chat": "document.querySelectorAll('.plot canvas').length === 7",
    "#/fleet": "document.querySelectorAll('.fleet tbody tr').length > 12",
}
"""Addresses, each with the condition that its content is there."""
SIZES = ((390, 844), (1280, 800), (1920, 1080))
BROKEN_WORDS = """(() => {
  const broken = [];
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (!node.parentElement.checkVisibility() || node.parentElement.closest(".visually-hidden")) continue;
    for (const word of node.data.matchAll(/[^\\s-]+-?/g)) {
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size > 1) broken.push(word[0]);
    }
  }
  return broken;
})()"""
"""Words that a line break divides. A name may break after a dot or an underscore, where it has a `wbr`."""
OVERFLOWING = """[...document.querySelectorAll("main *")].filter((node) => {
  const box = node.getBoundingClientRect();
  return box.width && !node.closest(".scroll, .runs, .visually-hidden, .plot, svg") && box.right > WIDTH + 1;
}).map((node) => node.outerHTML.slice(0, 80))"""
INK_AT_THE_EDGE = """[...document.querySelectorAll(".plot canvas")].filter((canvas) => {
  const edge = canvas.getContext("2d").getImageData(0, 0, 1, canvas.height).data;
  return edge.some((value) => value > 0);
}).length"""
"""Plots with a label that the left edge cuts."""


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[chromium.Page]:
    async with chromium.browser(tmp_path) as page:
        yield page


@pytest.fixture
async def address() -> AsyncIterator[str]:
    async with serving(busy_fleet()) as address:
        yield address


async def show(page: chromium.Page, address: str, view: str) -> None:
    """Open a view, and wait for its content."""
    await page.go("about:blank")
    await page.until("location.href === 'about:blank'")
    await page.go(f"{address}{view}")
    await page.until(VIEWS[view])


@pytest.mark.parametrize("view", VIEWS)
async def test_nothing_is_broken_clipped_or_blank_at_any_width(page: chromium.Page, address: str, view: str) -> None:
    for width, height in SIZES:
        await page.show(width, height, "light", mobile=width < 700)
        await show(page, address, view)
        assert await page.tell("document.documentElement.scrollWidth") <= width, view  # a phone widens its innerWidth
        assert await page.tell(OVERFLOWING.replace("WIDTH", str(width))) == [], (width, view)
        assert await page.tell(BROKEN_WORDS) == [], (width, view)
        assert await page.tell(INK_AT_THE_EDGE) == 0, (width, view)
        blank_px = (
            "Math.max(document.documentElement.scrollHeight - innerHeight, 0) && document.documentElement.scrollHeight"
            " - document.querySelector('main').lastElementChild.getBoundingClientRect().bottom - scrollY"
        )
        assert await page.tell(blank_px) <= 60, (width, view)
    assert not page.complaints


async def test_overview_shows_cost_slo_market_and_states(page: chromium.Page, address: str) -> None:
    await page.show(1280, 800, "dark")
    await show(page, address, "#/")
    cells = await page.tell(
        "[...document.querySelectorAll('.workloads tbody tr')].map((row) =>"
        " [...row.children].map((c) => c.innerText.trim().replaceAll('\\n', ' ')))"
    )
    rows = {row[0]: row for row in cells}
    assert rows["chat"][1] == "SLO violated interrupted scaling in"
    # of the last 238 intervals, 5 % were late in 49 and 0.2 % in the others: (49 × 5 + 189 × 0.2) / 238 = 1.19 %
    assert rows["chat"][5:8] == ["$45.64", "98.81% burn 1.19×", "spot 10 on-demand 3"]
    assert rows["summaries"][5:8] == ["$5.00", "no SLO", "spot"]
    assert rows["summaries"][1] == "held"
    assert rows["embeddings"][5:8] == ["no price", "not measured", "on-demand"]
    assert rows["embeddings"][1] == "scaling in SLO unknown"
    assert rows["batch-eval"][1] == "refused scaling out"
    spark = "[...document.querySelectorAll('.workloads .spark')].map((s) => s.innerText.split('\\n').join(' '))"
    assert (await page.tell(spark))[0] == "15 0 21:56 22:26", "scale, and the times of the first and the last tick"
    assert await page.tell("document.getElementById('speed').innerText") == "Simulated time, 60× real time"


async def test_workload_page_shows_budget_cost_pools_and_small_durations(page: chromium.Page, address: str) -> None:
    await page.show(1280, 800, "light")
    await show(page, address, "#/w/chat")
    text = "[...document.querySelectorAll('%s')].map((n) => n.innerText.trim().replaceAll(/\\s+/g, ' '))"
    windows = await page.tell(text % ".budget tbody tr")
    assert windows[0].startswith("1 h whole window 98.81% 1.19×")
    assert windows[3].startswith("28 d 120 min, since 20:26 98.71% 1.28×")
    signals = await page.tell(text % ".right tbody tr")
    assert "engines.itl_mean_s 10.4 ms 0 s fresh" in signals
    pools = await page.tell(text % ".pools tbody tr")
    assert pools[0] == "spot-h100 spot · h100 · 2 GPUs each · $2.50 each 10 9 1 – $25.00 7 fresh"
    assert pools[1:3] == ["us-east-1a · spot 5 5 0 $12.50 1 interruption pending", "us-east-1b · spot 5 4 1 $12.50"]
    assert "Cost (USD per hour)" in await page.tell(text % "figcaption h2")


async def test_scale_in_points_down_and_scale_out_up(page: chromium.Page, address: str) -> None:
    await page.show(1280, 800, "light")
    await show(page, address, "#/w/chat")
    marks = await page.tell(
        "Object.fromEntries([...document.querySelectorAll('.runs > li')].map((run) =>"
        " [run.querySelector('.kind').innerText, getComputedStyle(run.querySelector('.dot')).clipPath]))"
    )
    assert marks["scale-in"] == "polygon(0px 0px, 100% 0px, 50% 100%)"
    assert marks["scale-out"] == "polygon(50% 0px, 100% 100%, 0px 100%)"
    runs = await page.tell(
        "[...document.querySelectorAll('.runs > li')].map((run) =>"
        " [run.querySelector('.kind').innerText, run.querySelector('.text').innerText])"
    )
    for kind, verdict in runs:
        before, _, after = verdict.partition(" replicas")[0].partition(" -> ")
        assert (int(after) > int(before)) == (kind == "scale-out"), verdict


async def test_time_of_a_decision_selects_its_tick_when_pasted(page: chromium.Page, address: str) -> None:
    await page.show(1280, 800, "light")
    await show(page, address, "#/w/chat")
    times = await page.tell("[...document.querySelectorAll('.runs time, .last > time')].map((t) => t.innerText)")
    assert len(times) > 20
    for text in times:
        turn, after_s = divmod(parse_time(text) - NOON, INTERVAL_S)
        assert 0 <= after_s < 0.002, f"{text} is {after_s} s after tick {turn}, which explain --at then finds"


async def test_fleet_page_shows_limits_budgets_and_places(page: chromium.Page, address: str) -> None:
    await page.show(1280, 800, "light")
    await show(page, address, "#/fleet")
    text = "[...document.querySelectorAll('%s')].map((n) => n.innerText.trim().replaceAll(/\\s+/g, ' '))"
    figures = await page.tell(text % ".figures > div")
    assert "Spend per hour ≥ $50.64 4 workloads without a known cost" in figures
    assert "Spend under the limit $50.64 20% of $250.00" in figures
    assert "Interrupted replicas 7 recorded since 20:26" in figures
    assert "Blast radius 25% of the fleet in 10 min" in figures
    rows = await page.tell(text % ".fleet tbody tr")
    assert "us-east-1a spot h100 10 5 0 1 $12.50" in rows
    assert "not given on-demand not given 15 15 0 0 no price" in rows
    assert "chat 10 26 40 no limit $45.64 $90.00 no limit 7" in rows
    assert "chat / spot-h100 us-east-1a, us-east-1b spot h100 10 9 1 20 $25.00 1 7" in rows


async def test_keyboard_reaches_every_view_and_focus_follows(page: chromium.Page, address: str) -> None:
    await page.show(1280, 800, "light")
    await show(page, address, "#/")
    seen = []
    for _ in range(26):
        await page.key("Tab")
        seen.append(await page.tell("document.activeElement.innerText?.trim() || document.activeElement.placeholder"))
    assert seen[:5] == ["Skip to workloads", "Forescale", "Workloads", "Fleet", "Auto"]
    assert {"Search workloads", "SLO", "chat", "whisper"} <= set(seen)
    await page.tell("[...document.querySelectorAll('.workloads a')].find((a) => a.innerText === 'chat').focus()")
    await page.key("Enter")
    await page.until(VIEWS["#/w/chat"])
    assert await page.tell("document.activeElement.id") == "main"
    assert await page.tell("document.title") == "chat · Forescale"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_no_serious_accessibility_problem(page: chromium.Page, address: str, scheme: str) -> None:
    axe = (resources.files("axe_playwright_python") / "axe.min.js").read_text()
    run = "axe.run().then((r) => JSON.stringify(r.violations.map((v) => [v.impact, v.id, v.nodes[0].html])))"
    for width, height in SIZES[:2]:
        await page.show(width, height, scheme, mobile=width < 700)
        for view in VIEWS:
            await show(page, address, view)
            await page.tell(f"{axe}; 0")
            found = json.loads(await page.tell(run))
            assert [v for v in found if v[0] in {"serious", "critical"}] == [], (width, view)
