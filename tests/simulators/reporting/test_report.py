"""A run's page: its contents, its sums, equal pages for equal runs, and its rendering in a browser."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import pickle
import re
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal

import numpy as np
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from policies.model import PoolName
from policies.model.spec import Slo
from simulators.engine.models.catalogue import load as load_model
from simulators.experiments.run import SimulationRun, simulate, simulate_engines, traffic_of
from simulators.experiments.scenario import load
from simulators.reporting import html
from simulators.reporting import text as report_text
from simulators.reporting.page import page, page_of_runs
from simulators.reporting.run_data import run_data
from simulators.reporting.time_bins import DIGITS, MAX_BINS, Floats, covered, edges, merged, rounded
from simulators.world.infrastructure.market import ZoneOffer
from simulators.world.traffic.trace import RequestTrace
from tests.servers import chromium
from tests.servers.site import listening
from tests.simulators.experiments.test_compare import CROWD, write_scenario

needs_browser = pytest.mark.skipif(chromium.find() is None, reason="no Chromium on PATH")
GPUS = PoolName("gpus")
Market = Literal["reserved", "on_demand", "spot"]
MAX_BYTES = 1_500_000
"""The limit of every page."""
TIMES = st.floats(0, 1000)
SPANS = st.lists(st.tuples(TIMES, TIMES).map(sorted), max_size=30)


@cache
def crowd(seed: int = 1, market: Market = "spot", losses: float = 30.0) -> SimulationRun:
    """A flash crowd on nodes that are lost."""
    case = load(write_scenario(Path(mkdtemp()), CROWD))
    zone = ZoneOffer(capacity=8 if market == "reserved" else None, losses_per_node_hour=losses)
    offer = dataclasses.replace(case.scenario.pools[GPUS], market=market, zones={"a": zone})
    scenario = dataclasses.replace(case.scenario, pools={GPUS: offer})
    case = dataclasses.replace(case, scenario=scenario)
    return simulate(case, seed, traffic_of(case, seed))


@cache
def page_text(seed: int = 1) -> str:
    return page([("small", crowd(seed))])


def script_of(text: str) -> str:
    """Return the page without its scripts and styles."""
    return re.sub(r"<script>.*?</script>|<style>.*?</style>", "", text, flags=re.DOTALL)


def charts_of(text: str) -> dict[str, Any]:
    """Return the data of each chart of a page by its id."""
    found = re.findall(
        r'<figure class="plot chart" id="([^"]+)".*?<script type="application/json">(.*?)</script>', text, re.DOTALL
    )
    return {name: json.loads(data) for name, data in found}


@pytest.mark.slow
def test_the_page_has_the_cost_and_the_slo_attainment() -> None:
    data = run_data("small", crowd())
    s = data.summary
    text = page_text()
    assert f"{s.arrived:,} requests in" in text
    assert f"cost ${s.cost_usd:,.2f}. SLO missed by " in text
    assert f"{s.attainment['all']:.2%} of the requests met it, the target is 90%" in text
    assert "TTFT within 400 ms, mean ITL within 30 ms for 90% of the requests" in text
    assert f"The cloud interrupted {s.interruptions} spot nodes" in text
    assert f"{s.waste_share:.2%} of the cost was waste" in text


@pytest.mark.slow
def test_the_page_has_the_inputs_of_the_run() -> None:
    run, text = crowd(), page_text()
    for text_part in (run.trace.digest(), "llama-3.1-8b-h100-vllm", "target_per_replica: 12", "2026-01-05T00:00:00"):
        assert text_part in text
    provenance = load_model("llama-3.1-8b-h100-vllm").provenance
    assert provenance[:40] in text


@pytest.mark.slow
def test_equal_runs_give_equal_pages_and_different_runs_do_not() -> None:
    case, seed = crowd().case, 1
    repeated = simulate(case, seed, traffic_of(case, seed))
    assert page([("small", repeated)]) == page_text()
    assert page_text(2) != page_text()


def test_the_page_loads_no_external_resources() -> None:
    text = page_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", text)
    assert "@import" not in text
    assert "url(" not in text


@pytest.mark.slow
def test_names_are_escaped_in_the_page() -> None:
    text = page([("</script><b>x", crowd())])
    assert "</script><b>x" not in text
    assert "&lt;/script&gt;&lt;b&gt;x" in text


@pytest.mark.slow
def test_several_runs_are_shown_together_and_individually() -> None:
    text = page([("one", crowd()), ("two", crowd(2))])
    for text_part in (
        "Scenario small, 2 policies",
        "Side by side",
        "Replicas ready",
        "<summary><h2>one</h2>",
        "seed 1, 2",
    ):
        assert text_part in text
    ids = re.findall(r'<figure class="plot[^"]*" id="([^"]+)"', text)
    assert len(set(ids)) == len(ids) == 16


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_a_page_requires_unique_run_names(names: list[str]) -> None:
    with pytest.raises(ValueError, match="distinct names"):
        page([(name, crowd()) for name in names])


def test_page_data_is_small_and_can_be_pickled() -> None:
    data = run_data("small", crowd())
    assert len(pickle.dumps(data)) < 200_000
    assert page_of_runs([pickle.loads(pickle.dumps(data))]) == page_text()  # noqa: S301 - pickled above


def test_bins_sum_to_all_requests_and_all_slo_violations() -> None:
    data = run_data("small", crowd())
    counts = data.rate_rps * np.diff(data.edges_s)
    assert counts.sum() == pytest.approx(data.summary.arrived, rel=1e-5)
    missed = np.nansum(counts * data.missed) / data.summary.arrived
    assert missed == pytest.approx(1 - data.summary.attainment["all"], abs=1e-5)


def test_latency_distributions_match_the_summarys_quantiles() -> None:
    data = run_data("small", crowd())
    for latency, quantile in (("ttft", data.summary.ttft_s), ("e2e", data.summary.e2e_s)):
        times = data.cdf_s[latency]
        assert times[200] == pytest.approx(quantile.p50, rel=1e-5)
        assert times[396] == pytest.approx(quantile.p99, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("market", "losses"), [("spot", 30.0), ("on_demand", 0.0), ("on_demand", 20.0), ("reserved", 0.0)]
)
def test_cost_over_time_sums_to_the_bill(market: Market, losses: float) -> None:
    """Rounding of bills is excluded: it belongs to no moment."""
    run = crowd(1, market, losses)
    data = run_data("small", run)
    for use, usd in data.summary.cost_by_use_usd.items():
        shown_usd = float(data.cost_usd[use].sum()) if use in data.cost_usd else 0.0
        if use != "rounding":
            assert shown_usd == pytest.approx(usd, rel=1e-5, abs=1e-5), use
    total = sum(float(paid[-1]) for paid in data.paid_usd.values())
    assert total == pytest.approx(data.summary.cost_usd - data.summary.cost_by_use_usd["rounding"], rel=1e-5, abs=1e-5)


def test_marks_cover_every_interruption_and_every_scale_out() -> None:
    data = run_data("small", crowd())
    counted = {kind: sum(m.count for m in data.marks if m.kind == kind) for kind in ("interrupted", "scaled out")}
    assert counted["interrupted"] == data.summary.interruptions > 0
    assert counted["scaled out"] == data.summary.scale_ups > 0


def test_a_run_without_finished_requests_has_a_page() -> None:
    run = crowd()
    offer = dataclasses.replace(run.case.scenario.pools[GPUS], zones={"a": ZoneOffer(capacity=0)})
    case = dataclasses.replace(run.case, scenario=dataclasses.replace(run.case.scenario, pools={GPUS: offer}))
    text = page([("none", simulate(case, 1, traffic_of(case, 1)))])
    assert "SLO missed by 90.00 points: 0.00% of the requests met it, the target is 90%" in text
    assert "were unfinished at the end of the run" in text
    assert "The run cost nothing." in text


def test_a_run_whose_warm_up_covers_all_requests_has_a_page() -> None:
    run = crowd()
    late = dataclasses.replace(run.case.scenario, warm_up_s=5000.0)
    empty = dataclasses.replace(run, case=dataclasses.replace(run.case, scenario=late))
    assert "No request arrived after the warm-up" in page([("late", empty)])


def test_an_engine_only_run_has_a_page() -> None:
    trace = RequestTrace(np.arange(0, 60, 0.5), np.full(120, 500, np.int32), np.full(120, 40, np.int32))
    text = page([("engines", simulate_engines(load_model("llama-3.1-8b-h100-vllm"), 2, trace, 1))])
    assert "120 requests in" in text
    assert "cost unknown (no price given: --price-usd-per-hour)" in text
    assert "SLO not judged (no SLO given: set slo in a scenario)" in text
    assert "$0.00" not in text
    assert "100.00%" not in text


@pytest.mark.slow
def test_page_size_stays_small_for_a_long_run_with_many_requests() -> None:
    """Two hundred thousand requests over three days: bins, not requests, are drawn."""
    rng = np.random.default_rng(1)
    count = 200_000
    arrival = np.sort(np.round(rng.uniform(0, 3 * 86_400, count), 3))
    tokens = rng.integers(1, 30, count).astype(np.int32)
    run = simulate_engines(load_model("llama-3.1-8b-h100-vllm"), 1, RequestTrace(arrival, tokens * 10, tokens), 1)
    assert len(page([("long", run)])) < 250_000


def test_the_slo_text_keeps_the_configured_digits() -> None:
    assert report_text.percent(0.999) == "99.9%"
    assert report_text.percent(0.9) == "90%"
    assert report_text.slo_text(Slo(ttft_s=None, itl_s=None, e2e_s=30, share=0.9995)) == (
        "end-to-end latency within 30 s for 99.95% of the requests"
    )


@given(st.floats(0.001, 1e7))
def test_bins_cover_the_whole_run_and_are_limited_in_number(end_s: float) -> None:
    result = edges(end_s)
    assert (result[0], result[-1]) == (0, end_s)
    assert (np.diff(result) > 0).all()
    assert len(result) - 1 <= MAX_BINS + 1 or end_s > MAX_BINS * 86_400


@pytest.mark.slow
@given(SPANS)
def test_covered_time_in_bins_sums_to_the_length_of_the_spans(spans: list[list[float]]) -> None:
    starts, ends = np.array(spans, float).reshape(-1, 2).T
    result = covered(starts, ends, np.linspace(0, 1000, 14))
    assert result.sum() == pytest.approx(float((ends - starts).sum()), abs=1e-6)
    expected = [float(np.clip(ends, 500, 1000).sum() - np.clip(starts, 500, 1000).sum())]
    assert covered(starts, ends, np.array([500.0, 1000.0])).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
@given(SPANS)
def test_merged_spans_cover_each_moment_once(spans: list[list[float]]) -> None:
    starts, ends = merged(*np.array(spans, float).reshape(-1, 2).T)
    assert (starts[1:] > ends[:-1]).all()
    moments = np.linspace(0.05, 999.05, 300)
    inside = [any(a <= t < b for a, b in spans) for t in moments]
    assert [any(a <= t < b for a, b in zip(starts, ends, strict=True)) for t in moments] == inside


@given(arrays(float, 5, elements=st.floats(-1e12, 1e12)))
def test_rounding_keeps_six_digits(values: Floats) -> None:
    result = rounded(values)
    assert np.allclose(result, values, rtol=10.0 ** (1 - DIGITS), atol=1e-300)
    assert rounded(result).tolist() == pytest.approx(result.tolist(), rel=1e-12)


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_browser_draws_every_plot_without_errors(tmp_path: Path, scheme: str) -> None:
    file = tmp_path / "page.html"
    file.write_text(await asyncio.to_thread(lambda: page([("one", crowd()), ("two", crowd(2))])))
    async with chromium.browser(tmp_path / "profile") as tab:
        await tab.show(1280, 900, scheme)
        await tab.go(file.as_uri())
        await tab.until("document.querySelectorAll('.canvas canvas').length === 5")
        await tab.tell("document.querySelectorAll('details').forEach(d => d.open = true)")
        await tab.until("document.querySelectorAll('.canvas canvas').length === 15")
        for width in (1280, 390):
            await tab.show(width, 900, scheme, mobile=width < 700)
            await tab.until("[...document.querySelectorAll('.u-wrap')].every(p => p.clientWidth <= innerWidth)")
            assert await tab.tell("document.documentElement.scrollWidth <= innerWidth"), width
            cut = "[...document.querySelectorAll('th, td')].filter(c => c.scrollWidth > c.clientWidth + 1).length"
            assert await tab.tell(cut.replace("'th, td'", "'.table :is(th, td)'")) == 0, width
        assert tab.complaints == []
        assert [url for url in tab.asked_for if not url.startswith(("file:", "data:", "blob:"))] == []


@pytest.mark.slow
@needs_browser
async def test_a_chart_shows_values_zooms_and_hides_series(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(await asyncio.to_thread(page_text))
    async with chromium.browser(tmp_path / "profile") as tab:
        await tab.show(1280, 900, "light")
        await tab.go(file.as_uri())
        await tab.until("document.querySelectorAll('.canvas canvas').length === 5")
        figure = "document.getElementById('run0-sizes')"
        await tab.tell(f"{figure}.scrollIntoView()")
        left, top, width = await tab.tell(
            f"(() => {{ const r = {figure}.querySelector('.u-over').getBoundingClientRect();"
            " return [r.left, r.top, r.width]; })()"
        )

        async def mouse(kind: str, share: float, count: int = 0) -> None:
            position = {"x": left + share * width, "y": top + 40}
            await tab.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=count, **position)

        picture = f"{figure}.querySelector('canvas').toDataURL()"
        await mouse("mouseMoved", 0.5)
        await tab.until(f"{figure}.querySelector('.when').textContent.startsWith('at 7')")
        values = f"[...{figure}.querySelectorAll('button.key b')].slice(0, 4).map(b => b.textContent)"
        assert all(re.fullmatch(r"[\d.]+|–", value) for value in await tab.tell(values))
        whole = await tab.tell(picture)
        await mouse("mousePressed", 0.5, 1)
        await mouse("mouseMoved", 0.8)
        await mouse("mouseReleased", 0.8, 1)
        await tab.until(f"{picture} !== {whole!r}")
        await mouse("mousePressed", 0.5, 1)
        await mouse("mouseReleased", 0.5, 1)
        await mouse("mousePressed", 0.5, 2)
        await mouse("mouseReleased", 0.5, 2)
        await tab.until(f"{picture} === {whole!r}")
        await tab.tell(f"{figure}.querySelector('button.key').click()")
        await tab.until(f"{picture} !== {whole!r}")
        assert await tab.tell(f"{figure}.querySelector('button.key').getAttribute('aria-pressed')") == "false"
        assert tab.complaints == []


@pytest.mark.slow
@needs_browser
async def test_a_page_sends_no_request_even_with_injected_markup(tmp_path: Path) -> None:
    requests: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        requests.append(request.path)
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with listening(app) as port, chromium.browser(tmp_path / "profile") as tab:
        url = f"http://127.0.0.1:{port}"
        markup = f'<img src="{url}/image"><script src="{url}/script"></script><iframe src="{url}/frame"></iframe>'
        markup += f"<script>fetch('{url}/fetch'); document.title = 'attack succeeded'</script>"
        file = tmp_path / "page.html"
        source = '{% extends "page.html.j2" %}{% block body %}{{ body | safe }}{% endblock %}'
        template = html.ENVIRONMENT.from_string(source)
        file.write_text(
            template.render(title="attacked", scripts=[], hashes="", chart_style="", chart_points=1, body=markup)
        )
        await tab.go(file.as_uri())
        await tab.until("document.readyState === 'complete'")
        await tab.tell(f"fetch('{url}/fetch').catch(() => 0)")
        assert await tab.tell("document.title") == "attacked"
        assert requests == []
