"""Pages of runs: cost, SLO attainment and waste first; then plots, and how each run was made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import yaml

from simulators.experiments.run import SimulationRun
from simulators.reporting import html, plots, table, text
from simulators.reporting.run_data import Sheet, sheet


def page(runs: Sequence[tuple[str, SimulationRun]]) -> str:
    """Return the page of named runs as HTML: equal for equal runs, whoever makes it."""
    return of_sheets([sheet(name, run) for name, run in runs])


def of_sheets(sheets: Sequence[Sheet], template: str = "runs.html.j2", **data: Any) -> str:
    """Return the page of counted runs; `data` is for the template. Raises `ValueError` unless names are distinct."""
    names = [s.name for s in sheets]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"a page needs runs with names of their own, not {names}")
    scenario, several = sheets[0].summary.scenario, len(sheets) > 1
    seeds = sorted({s.summary.seed for s in sheets})
    same = "the same requests and the same chance" if len(seeds) == 1 else "seeds of their own"
    return html.render(
        template,
        title=f"{scenario}: {', '.join(names)}",
        heading=f"{scenario} under {f'{len(sheets)} policies' if several else names[0]}",
        names=names,
        seeds=seeds,
        together=f"One run each, seed {', '.join(map(str, seeds))}: {same}.",
        figures=_rows(sheets) if several else [],
        plots=list(plots.of_runs(sheets)) if several else [],
        runs=[view(one, f"run{number}") for number, one in enumerate(sheets)],
        **data,
    )


def view(one: Sheet, key: str) -> dict[str, Any]:
    """Return all that a page shows of a run. `key` tells its plots from those of the page's other runs."""
    made, summary = dict(one.made_from), one.summary
    workload, models = made.pop("workload"), made.pop("models")
    costs = [(f"cost, {use}", usd) for use, usd in summary.cost_by_use_usd.items() if usd]
    markets = [(f"cost, {market.replace('_', ' ')}", usd) for market, usd in summary.cost_by_market_usd.items()]
    return {
        "name": one.name,
        "headline": text.headline(one),
        "sentences": list(text.sentences(one)),
        "cards": _cards(one),
        "plots": list(plots.of_run(one, key)),
        "figures": [*_rows([one]), *((title, table.dollars(usd)) for title, usd in (*markets, *costs))],
        "origin": [*made.items(), *((f"model {name}", said or "no provenance told") for name, said in models.items())],
        "workload": yaml.safe_dump(workload, sort_keys=False, allow_unicode=True, width=110),
    }


def _rows(sheets: Sequence[Sheet]) -> list[tuple[str, ...]]:
    return [(title.strip(), *row) for title, row in table.cells([s.summary for s in sheets])]


def _cards(one: Sheet) -> list[tuple[str, str, str]]:
    s = one.summary
    kept = s.attainment.get("all", math.nan)
    return [
        ("cost", table.dollars(s.cost_usd), ""),
        (f"SLO attainment (target {text.percent(one.slo.share)})", table.share(kept), "good" if s.slo_met else "bad"),
        ("wasted", table.share(s.waste_share), ""),
        ("TTFT p95 / p99", f"{table.seconds(s.ttft_s.p95)} / {table.seconds(s.ttft_s.p99)}", ""),
        ("ITL p95 / p99", f"{table.seconds(s.itl_s.p95)} / {table.seconds(s.itl_s.p99)}", ""),
        ("replicas mean / max", f"{s.replicas_mean:.1f} / {s.replicas_max}", ""),
        ("node hours", f"{s.node_hours:,.1f}", ""),
        ("requests", f"{s.arrived:,}", ""),
    ]
