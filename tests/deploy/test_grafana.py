"""The Grafana dashboards: each query returns numbers from a Prometheus that scrapes running daemons.

One daemon runs the quickstart with fleet limits. The other one calls a Kubernetes API and has a source that cannot be
read, since the quickstart calls no cloud and no read of it fails.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml

from tests.deploy.charts import DEPLOY
from tests.patience import PATIENCE_S
from tests.scaler.live_daemon import live
from tests.servers.daemon import Daemon, daemon
from tests.servers.prometheus import PrometheusServer, Target, needs_prometheus, prometheus
from tests.servers.tcp_fault import free_port

ROOT: Final = DEPLOY.parents[1]
FILES: Final = sorted((DEPLOY / "grafana").glob("*.json"))
RULES: Final = DEPLOY / "recording-rules.yaml"
VARIABLES: Final = {"$workload": "chat", "$__rate_interval": "4s"}
GRID_COLUMNS: Final = 24


class Query(NamedTuple):
    """A query of a panel, with Grafana's variables replaced."""

    panel: str
    promql: str


def panels(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(file.read_text())["panels"]
    return found


def queries(file: Path) -> Iterator[Query]:
    for panel in panels(file):
        for target in panel["targets"]:
            promql = target["expr"]
            for variable, value in VARIABLES.items():
                promql = promql.replace(variable, value)
            yield Query(f"{file.stem}: {panel['title']}", promql)


QUERIES: Final = [query for file in FILES for query in queries(file)]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_dashboard_fits_the_grid_and_uses_its_data_source(file: Path) -> None:
    dashboard = json.loads(file.read_text())
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert dashboard["uid"] == f"forescale-{file.stem}"
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    cells = [
        (x, y)
        for grid in (panel["gridPos"] for panel in dashboard["panels"])
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(cells) == len(set(cells)), "panels overlap"
    assert max(x for x, _ in cells) < GRID_COLUMNS
    for panel in dashboard["panels"]:
        assert panel["description"].endswith(".")
        for target in panel["targets"]:
            assert panel["datasource"] == target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert used <= variables


@pytest.mark.parametrize("query", QUERIES, ids=lambda q: f"{q.panel} {q.promql[:40]}")
def test_query_reads_only_documented_metrics_and_shipped_rules(query: Query) -> None:
    assert "$" not in query.promql
    metrics = set(re.findall(r"`(forescale_\w+)`", (ROOT / "docs/reference/metrics.md").read_text()))
    records = {rule["record"] for g in yaml.safe_load(RULES.read_text())["groups"] for rule in g["rules"]}
    used = set(re.findall(r"forescale[_:][\w:]+", query.promql))
    assert used
    assert {re.sub("_bucket$", "", name) for name in used} <= metrics | records


@asynccontextmanager
async def quickstart(folder: Path) -> AsyncIterator[Daemon]:
    """Run the quickstart with limits of the fleet."""
    document = yaml.safe_load((ROOT / "config/quickstart/daemon.yaml").read_text())
    limits = {"max_gpus": 100, "max_usd_per_hour": 500}
    document["daemon"] |= {"listen": "127.0.0.1:0", "fleet": limits, "journal": {"directory": str(folder / "journal")}}
    (folder / "daemon.yaml").write_text(json.dumps(document))
    files = [str(folder / "daemon.yaml"), *(str(ROOT / f"config/quickstart/{n}.yaml") for n in ("chat", "summaries"))]
    async with daemon(*files, journal=folder / "journal") as running:
        yield running


@asynccontextmanager
async def live_with_failing_reads(folder: Path) -> AsyncIterator[Daemon]:
    """Run a workload on a Kubernetes API, with a source that cannot be read."""
    async with live(folder) as servers:
        engines = {"kind": "scrape", "preset": "vllm", "urls": [servers.engines.url("one")]}
        closed = {**engines, "urls": [f"http://127.0.0.1:{free_port()}/metrics"]}
        policies = {"busy": {"kind": "concurrency", "source": "engines", "target_per_replica": 4}}
        servers.write(sources={"engines": engines, "closed": closed}, policies=policies)
        async with servers.run() as running:
            yield running


async def unanswered(server: PrometheusServer, open_queries: list[Query]) -> list[Query]:
    """Return the queries without a finite number, once all have one or after `PATIENCE_S`."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                answers = [await server.query(query.promql) for query in open_queries]
                numbers = [[float(series["value"][1]) for series in answer] for answer in answers]
                open_queries = [q for q, n in zip(open_queries, numbers, strict=True) if not any(map(math.isfinite, n))]
                if not open_queries:
                    return []
                await asyncio.sleep(1)
    except TimeoutError:
        return open_queries


@pytest.mark.slow
@needs_prometheus
async def test_every_query_returns_numbers_from_running_daemons(tmp_path: Path) -> None:
    for name in ("quickstart", "live"):
        (tmp_path / name).mkdir()
    async with quickstart(tmp_path / "quickstart") as first, live_with_failing_reads(tmp_path / "live") as second:
        for started in (first, second):
            assert started.address, started.lines
        targets = [Target(d.address.removeprefix("http://").strip("/"), "/metrics", {}) for d in (first, second)]
        async with prometheus(targets, rules=[RULES, DEPLOY / "alerts.yaml"]) as server:
            assert await unanswered(server, QUERIES) == []
