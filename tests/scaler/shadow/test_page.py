"""Reports of a shadow: on its workload's page, by `explain`, and at the daemon's end."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp
import pytest

from scaler.cli import main
from scaler.telemetry.run_summary import RunSummary
from tests.fakes import FakeSource
from tests.scaler.shadow.test_shadow import NAME, Scripted, document, shadowed
from tests.servers import chromium
from tests.servers.dashboard import serving

needs_browser = pytest.mark.skipif(chromium.find() is None, reason="no Chromium on PATH")


async def section(app: Scripted) -> dict[str, object] | None:
    """Return the shadow's section of the API's response."""
    async with (
        serving(app.dashboard) as address,
        aiohttp.ClientSession() as session,
        session.get(f"{address}api/workloads/{NAME}") as reply,
    ):
        section_body: dict[str, object] | None = json.loads(await reply.text(), parse_constant=pytest.fail)["shadow"]
        return section_body


async def test_workload_page_reports_both_sizes_and_totals(tmp_path: Path) -> None:
    async with shadowed(tmp_path, document(per_replica=5)) as app:
        for _ in range(3):
            await app.tick()
        section_body = await section(app)
        totals = app.shadow.totals.as_dict()
    assert section_body is not None
    assert section_body["first"] == {"requested": 3, "serving": 3, "usd_per_hour": 6.0, "splits": {}}
    assert section_body["shadow"] == {"requested": 6, "serving": 6, "usd_per_hour": 12.0, "splits": {}}
    assert str(section_body["verdict"]).startswith("3 -> 6 replicas")
    assert section_body["open_loop"] is False
    assert section_body["totals"] == totals
    assert totals["usd"] == {"first": 0.05, "shadow": 0.1}
    assert section_body["estimated_by"] == "the workload has no SLO: set slo.ttft_s or slo.e2e_s"


async def test_shadow_section_is_empty_before_first_tick_and_needs_a_shadow(
    tmp_path: Path,
) -> None:
    async with shadowed(tmp_path, document(per_replica=5)) as app:
        section_body = await section(app)
        assert section_body is not None
        assert section_body["verdict"] == "no tick yet"
        assert section_body["shadow"] == {"requested": None, "serving": None, "usd_per_hour": None, "splits": {}}
        await app.shadows.reload({})
        assert await section(app) is None


async def test_explain_distinguishes_shadow_ticks_from_live_ticks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with shadowed(tmp_path, document(per_replica=5)) as app:
        for _ in range(3):
            await app.tick()
    journal = str(tmp_path / "journal")
    capsys.readouterr()
    assert main(["explain", journal, "--shadow"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("shadow of llm at ")
    assert "6 replicas" in out.splitlines()[0]
    assert "shadow (estimated): 6 desired, 6 serving, 12.00 USD per hour" in out
    assert "live policy (observed): 3 desired, 3 serving, 6.00 USD per hour" in out
    assert "Writes:" not in out, "a shadow writes nothing"
    assert main(["explain", journal]) == 0
    assert capsys.readouterr().out.startswith("llm at ")
    assert main(["explain", journal, "--shadow", "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["against"]["shadow"]["requested"] == 6


async def test_explain_reports_missing_shadow_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with shadowed(tmp_path, document(per_replica=5)) as app:
        await app.shadows.reload({})
        await app.tick()
    assert main(["explain", str(tmp_path / "journal"), "--shadow"]) == 2
    assert "no shadow tick is recorded yet" in capsys.readouterr().err


async def test_replay_skips_shadow_ticks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with shadowed(tmp_path, document(per_replica=5)) as app:
        for _ in range(4):
            await app.tick()
    capsys.readouterr()
    assert main(["replay", str(tmp_path / "journal"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["ticks"] == 4
    assert summary["damaged_lines"] == 0


async def test_run_summary_describes_the_shadow_difference(tmp_path: Path) -> None:
    summary = RunSummary()
    async with shadowed(tmp_path, document(per_replica=5)) as app:
        for _ in range(3):
            summary.add(await app.tick(), app.controllers[NAME].workload.spec)
        summary.shadows[NAME] = app.shadow.totals
    last = summary.text().splitlines()[-1]
    assert last.startswith(
        "shadow of llm: 3 ticks, a different size in 3; 0.05 replica-hours instead of 0.03 (+0.03), +0.05 USD"
    )
    assert "late requests: unknown (the workload has no SLO" in last
    assert summary.as_dict()["llm"]["shadow"]["ticks"] == 3  # type: ignore[index]


@pytest.mark.slow
@needs_browser
async def test_browser_shows_the_shadow_next_to_the_live_policy(tmp_path: Path) -> None:
    (tmp_path / "profile").mkdir()
    async with (
        shadowed(tmp_path, document(per_replica=5)) as app,
        serving(app.dashboard) as address,
        chromium.browser(tmp_path / "profile") as page,
    ):
        for _ in range(3):
            await app.tick()
        await page.show(1440, 900, "light")
        await page.go(f"{address}#/w/{NAME}")
        await page.until("document.querySelector('.shadow tbody')?.textContent.includes('Desired')")
        cells = "[...document.querySelectorAll('.shadow tbody tr')[0].children].map(c => c.textContent).join(' ')"
        assert await page.tell(cells) == "Desired 3 6 +3"
        assert isinstance(app.source, FakeSource)
        app.source.values = {**app.source.values, "visible": 40.0}
        await app.tick()
        await page.until(f"{cells} === 'Desired 4 8 +4'")
        late = "[...document.querySelectorAll('.shadow tbody tr')].at(-1).textContent"
        assert await page.tell(late) == "SLO violations (predicted)–––"
        assert "SLO violations are unknown: the workload has no SLO" in await page.tell(
            "document.querySelector('.shadow > .muted').textContent"
        )
        await app.shadows.reload({})
        await page.until("document.querySelector('.shadow').hidden")
        assert not page.complaints
