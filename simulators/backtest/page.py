"""Page of a recorded period: summary, notable periods, and counterfactual policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from scaler.journal.explain import timestamp
from simulators.backtest import plots, text
from simulators.backtest.backtest import BacktestResult
from simulators.backtest.period_summary import PeriodSummary
from simulators.experiments.slo_outcome import SloStatus
from simulators.reporting import html
from simulators.reporting import plots as simulated
from simulators.reporting.page import view
from simulators.reporting.table import dollars, share


def page(period: Sequence[BacktestResult], left_out: Mapping[str, str]) -> str:
    """Return the page as HTML: equal for equal records.

    `left_out` has the reason for each workload without data.
    """
    names = ", ".join(result.recorded.name for result in period)
    first = min(float(result.recorded.at[0]) for result in period)
    last = max(float(result.recorded.at[-1]) for result in period)
    return html.render(
        "period.html.j2",
        title=f"{names}, {timestamp(first)} to {timestamp(last)}",
        left_out=left_out,
        each_head=["workload", *text.OVERVIEW],
        each=[(result.recorded.name, *text.overview(result.summary)) for result in period],
        look_first=text.notable_overall(period),
        workloads=[_workload(result, f"w{number}") for number, result in enumerate(period)],
    )


def _workload(result: BacktestResult, key: str) -> dict[str, Any]:
    head, rows = text.comparison(result)
    runs_data = result.counterfactuals.runs_data if result.counterfactuals is not None else ()
    return {
        "name": result.recorded.name,
        "slo": text.slo_line(result.summary),
        "headline": text.headline(result.summary),
        "sentences": list(text.sentences(result)),
        "cards": _cards(result.summary),
        "look": text.notable_rows(result),
        "no_problem": text.no_problem(result.summary),
        "plots": list(plots.plots_of(result, key)),
        "reasons": text.reasons(result),
        "changes": text.changes(result),
        "notes": list(text.notes(result)),
        "compared_head": head,
        "compared": [(title, *(_cell(cell) for cell in cells)) for title, cells in rows],
        "compared_plots": list(simulated.of_runs(runs_data, f"{key}-all")) if runs_data else [],
        "runs": [view(run_data, f"{key}-run{number}") for number, run_data in enumerate(runs_data)],
    }


def _cell(cell: text.Cell) -> str:
    """Return a cell; grey if its difference is within the method's error."""
    return Markup('<span class="muted within-error">{}</span>').format(cell.text) if cell.insignificant else cell.text


def _cards(summary: PeriodSummary) -> list[tuple[str, str, str]]:
    recorded = summary.recorded
    usd, idle, late = (summary.total(values) for values in (summary.usd, summary.idle_usd, summary.late))
    hours = summary.replica_hours
    cost = text.UNKNOWN if usd is None or summary.unpriced else dollars(usd)
    refused, shortages = (int(recorded.columns[name].sum()) for name in ("refused", "short"))
    return [
        ("SLO", str(summary.slo_status), "bad" if summary.slo_status is SloStatus.MISSED else ""),
        ("cost", cost, ""),
        *([("token APIs", api, "")] if (api := text.api_cost(summary)) else []),
        ("idle cost", text.UNKNOWN if idle is None else dollars(idle), ""),
        ("replica-hours", text.UNKNOWN if hours is None else f"{hours:,.1f}", ""),
        ("SLO violations", text.UNKNOWN if late is None else f"{late:,.0f}", "bad" if late and late >= 1 else ""),
        ("blind time", share(summary.blind_share), "bad" if summary.blind_share > 0.01 else ""),
        ("writes rejected", f"{refused:,}", "bad" if refused else ""),
        ("ticks with a shortage", f"{shortages:,}", "bad" if shortages else ""),
        ("scaled out / in", f"{recorded.reasons.ups:,} / {recorded.reasons.downs:,}", ""),
    ]
