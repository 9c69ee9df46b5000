"""Pages of runs: cost, SLO attainment and waste first; then plots, and each run's inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import yaml

from simulators.experiments.results import ResultSummary
from simulators.experiments.run import SimulationRun
from simulators.reporting import html, plots, table, text
from simulators.reporting.run_data import RunData, run_data


def page(runs: Sequence[tuple[str, SimulationRun]]) -> str:
    """Return the page of named runs as HTML. Equal runs give equal pages."""
    return page_of_runs([run_data(name, run) for name, run in runs])


def page_of_runs(runs: Sequence[RunData], template: str = "runs.html.j2", **context: Any) -> str:
    """Return the page of runs; `context` goes to the template.

    Raises `ValueError` unless names are distinct.
    """
    names = [s.name for s in runs]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"a page needs runs with distinct names, not {names}")
    scenario, compared = runs[0].summary.scenario, len(runs) > 1
    seeds = sorted({s.summary.seed for s in runs})
    same = "the same requests and random numbers for each" if len(seeds) == 1 else "each with its own seed"
    return html.render(
        template,
        title=f"{scenario}: {', '.join(names)}",
        heading=f"Scenario {scenario}, {f'{len(runs)} policies' if compared else f'workload {names[0]}'}",
        names=names,
        seeds=seeds,
        together=f"One run per policy, seed {', '.join(map(str, seeds))}: {same}.",
        figures=_rows(runs) if compared else [],
        plots=list(plots.of_runs(runs)) if compared else [],
        runs=[view(run, f"run{number}") for number, run in enumerate(runs)],
        **context,
    )


def view(data: RunData, key: str) -> dict[str, Any]:
    """Return the template data of a run. `key` makes its plots' ids unique on the page."""
    origin, summary = dict(data.origin), data.summary
    workload, models = origin.pop("workload"), origin.pop("models")
    costs = [(f"cost, {use}", usd) for use, usd in summary.cost_by_use_usd.items() if usd]
    markets = [(f"cost, {market.replace('_', ' ')}", usd) for market, usd in summary.cost_by_market_usd.items()]
    return {
        "name": data.name,
        "headline": text.headline(data),
        "sentences": list(text.sentences(data)),
        "cards": _cards(data),
        "plots": list(plots.of_run(data, key)),
        "figures": [*_rows([data]), *((title, table.dollars(usd)) for title, usd in (*markets, *costs))],
        "origin": [
            *origin.items(),
            *((f"model {name}", provenance or "no provenance given") for name, provenance in models.items()),
        ],
        "workload": yaml.safe_dump(workload, sort_keys=False, allow_unicode=True, width=110),
    }


def _rows(runs: Sequence[RunData]) -> list[tuple[str, ...]]:
    return [(title.strip(), *row) for title, row in table.cells([s.summary for s in runs])]


def _slo_card(s: ResultSummary) -> tuple[str, str, str]:
    if s.slo is None or not s.attainment:
        return "SLO attainment", "not judged", ""
    title = f"SLO attainment, target {text.percent(s.slo.share)}"
    return title, table.share(s.attainment["all"]), "good" if s.slo_met else "bad"


def _cards(data: RunData) -> list[tuple[str, str, str]]:
    s = data.summary
    return [
        ("cost", table.dollars(s.cost_usd), ""),
        _slo_card(s),
        ("share of cost wasted", table.UNKNOWN if math.isnan(s.waste_share) else table.share(s.waste_share), ""),
        ("TTFT p95 / p99", f"{table.seconds(s.ttft_s.p95)} / {table.seconds(s.ttft_s.p99)}", ""),
        ("ITL p95 / p99", f"{table.seconds(s.itl_s.p95)} / {table.seconds(s.itl_s.p99)}", ""),
        ("replicas mean / max", f"{s.replicas_mean:.1f} / {s.replicas_max}", ""),
        ("node hours", f"{s.node_hours:,.1f}", ""),
        ("requests", f"{s.arrived:,}", ""),
    ]
