"""Limits in the configuration: contradictions are reported before anything runs, with the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from scaler.config.load import load
from scaler.config.problems import ConfigError, Problem

WORKLOAD = """\
workload: {name}
max_replicas: 8
sources:
  queue: {{kind: embedded}}
policies:
  depth: {{kind: queue_depth}}
pools:
  gpus: {{kind: kubernetes, name: {name}{pool}}}
{more}
"""


def problems_of(tmp_path: Path, *documents: str) -> list[Problem]:
    (tmp_path / "c.yaml").write_text("---\n".join(documents))
    try:
        load([tmp_path])
    except ConfigError as e:
        return list(e.problems)
    return []


def workload(more: str = "", pool: str = "", name: str = "llm") -> str:
    return WORKLOAD.format(more=more, pool=pool, name=name)


@pytest.mark.parametrize(
    ("more", "path", "rule"),
    [
        pytest.param("budget: {usd_per_hour: 20}", "pools.gpus.price_usd_per_hour", "is required because budget.usd_per_hour is 20", id="a budget of money without a price"),
        pytest.param("min_replicas: 4\nbudget: {gpus: 3}", "budget.gpus", "must be at least 4, the need of min_replicas", id="a minimum beyond the budget"),
        pytest.param("budget: {gpus: -1}", "budget.gpus", "must be greater than or equal to 0", id="a budget below nothing"),
        pytest.param("budget: {gpu: 1}", "budget.gpu", "unknown key", id="a mistyped key"),
        pytest.param("blast_radius: {share: 0}", "blast_radius.share", "must be greater than 0", id="a radius of nothing"),
        pytest.param("interval_s: 1\ndeadline_s: 0.5\nblast_radius: {share: 0.5, window_s: 9000}", "blast_radius.window_s", "must be at most 4096", id="a window longer than what is remembered"),
        pytest.param("override: {replicas: 12, until: '2026-06-01T10:00Z'}", "override.replicas", "must be between min_replicas and max_replicas, 1 to 8", id="an override beyond the bounds"),
        pytest.param("override: {replicas: 3, until: '2026-06-01T10:00'}", "override.until", "must be an ISO 8601 time with a UTC offset", id="an override that ends somewhere"),
        pytest.param("override: {replicas: 3, until: tomorrow}", "override.until", "must be an ISO 8601 time with a UTC offset", id="an override that ends tomorrow"),
        pytest.param("override: {replicas: 3}", "override.until", "is required", id="an override without end"),
        pytest.param("maintenance: {time_zone: Mars/Base}", "maintenance.time_zone", "is not an IANA time zone", id="a zone that is none"),
        pytest.param("maintenance: {windows: [{start: '22:00', end: '4:00'}]}", "maintenance.windows[0].end", "must be a time of day as HH:MM, such as 18:00", id="a time that is none"),
        pytest.param("maintenance: {windows: [{start: '22:00', end: '04:00', mode: stop}]}", "maintenance.windows[0].mode", "must be one of hold", id="a mode that is none"),
        pytest.param("priority: high", "priority", "must be a whole number", id="a priority in words"),
    ],
)  # fmt: skip
def test_invalid_limit_reports_path_and_rule(tmp_path: Path, more: str, path: str, rule: str) -> None:
    problems = [p for p in problems_of(tmp_path, workload(more)) if p.path == path]
    assert problems, problems_of(tmp_path, workload(more))
    assert rule in problems[0].rule


@pytest.mark.parametrize(
    "more",
    [
        "override: {replicas: 12, until: 2026-06-01T10:00Z, reason: launch, beyond_bounds: true}",
        "override: {replicas: 5, until: 2026-06-01T10:00:00+02:00}",
        "budget: {gpus: 4}\nblast_radius: {share: 0.25}\npriority: -3",
        "maintenance: {time_zone: Europe/Berlin, windows: [{start: '22:00', end: '04:00', days: [sat]}]}",
    ],
)
def test_documented_limits_are_accepted(tmp_path: Path, more: str) -> None:
    assert problems_of(tmp_path, workload(more)) == []


def test_fleet_limits_need_prices_and_fit_all_minimums(tmp_path: Path) -> None:
    daemon = "daemon: {fleet: {max_gpus: 3, max_usd_per_hour: 5}}\n"
    first = workload("min_replicas: 2", ", price_usd_per_hour: 1, gpus_per_replica: 2", "a")
    problems = problems_of(tmp_path, daemon, first, workload(name="b"))
    assert {(p.path, p.rule) for p in problems} == {
        ("daemon.fleet.max_gpus", "must be at least 5, the need of all workloads' min_replicas"),
        ("daemon.fleet.max_usd_per_hour", "requires the price of every pool: pools.gpus of workload b has none"),
    }


def test_fleet_limit_must_cover_overflow_budgets(tmp_path: Path) -> None:
    route = """\
routes:
  chat:
    kind: envoy
    file: /tmp/chat.json
    admin_url: http://127.0.0.1:9901
    allow_external: true
    requests_per_replica_per_s: 2
    overflow: {max_usd_per_hour: 20}
    backends:
      gpus: {pool: gpus}
      openai: {provider: {usd_per_million_input_tokens: 1, usd_per_million_output_tokens: 4}}
"""
    chat = workload(route, ", price_usd_per_hour: 2")
    assert problems_of(tmp_path, "daemon: {fleet: {max_usd_per_hour: 22}}\n", chat) == []
    (problem,) = problems_of(tmp_path, "daemon: {fleet: {max_usd_per_hour: 21}}\n", chat)
    assert problem.path == "daemon.fleet.max_usd_per_hour"
    assert problem.rule == "must be at least 22, the need of all workloads' min_replicas and overflow budgets"


def test_reserved_pools_need_no_price(tmp_path: Path) -> None:
    reserved = workload("budget: {usd_per_hour: 5}", ", market: reserved")
    assert problems_of(tmp_path, "daemon: {fleet: {max_usd_per_hour: 5}}\n", reserved) == []
