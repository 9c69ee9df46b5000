"""A live period on a page: what happened, where to look, what others would have done; and the same for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scaler.journal.explain import timestamp
from simulators.backtest import plots, text
from simulators.backtest.backtest import BacktestResult
from simulators.backtest.period_summary import PeriodSummary
from simulators.reporting import html
from simulators.reporting import plots as simulated
from simulators.reporting.page import view
from simulators.reporting.table import dollars, share


def page(period: Sequence[BacktestResult], left_out: Mapping[str, str]) -> str:
    """Return the page as HTML: equal for equal records. `left_out` names workloads without data, and why."""
    names = ", ".join(one.recorded.name for one in period)
    first = min(float(one.recorded.at[0]) for one in period)
    last = max(float(one.recorded.at[-1]) for one in period)
    return html.render(
        "period.html.j2",
        title=f"{names}, {timestamp(first)} to {timestamp(last)}",
        left_out=left_out,
        each_head=["", *text.EACH],
        each=[(one.recorded.name, *text.each(one.found)) for one in period],
        look_first=text.over_all(period),
        workloads=[_workload(one, f"w{number}") for number, one in enumerate(period)],
    )


def _workload(one: BacktestResult, key: str) -> dict[str, Any]:
    head, rows = text.comparison(one)
    runs_data = one.others.runs_data if one.others is not None else ()
    return {
        "name": one.recorded.name,
        "headline": text.headline(one.found),
        "sentences": list(text.sentences(one)),
        "cards": _cards(one.found),
        "look": text.where(one),
        "plots": list(plots.of(one, key)),
        "reasons": text.reasons(one),
        "changes": text.changes(one),
        "notes": list(text.notes(one)),
        "compared_head": head,
        "compared": [(title, *cells) for title, cells in rows],
        "compared_plots": list(simulated.of_runs(runs_data, f"{key}-all")) if runs_data else [],
        "runs": [view(run_data, f"{key}-run{number}") for number, run_data in enumerate(runs_data)],
    }


def _cards(found: PeriodSummary) -> list[tuple[str, str, str]]:
    recorded = found.recorded
    usd, idle, late = (found.total(values) for values in (found.usd, found.idle_usd, found.late))
    hours = found.replica_hours
    cost = text.UNKNOWN if usd is None or found.unpriced else dollars(usd)
    refused, short = (int(recorded.columns[name].sum()) for name in ("refused", "short"))
    return [
        ("cost", cost, ""),
        ("beyond the work", text.UNKNOWN if idle is None else dollars(idle), ""),
        ("replica-hours", text.UNKNOWN if hours is None else f"{hours:,.1f}", ""),
        ("late requests", text.UNKNOWN if late is None else f"{late:,.0f}", "bad" if late and late >= 1 else ""),
        ("blind", share(found.blind_share), "bad" if found.blind_share > 0.01 else ""),
        ("writes refused", f"{refused:,}", "bad" if refused else ""),
        ("turns without capacity", f"{short:,}", "bad" if short else ""),
        ("changes up / down", f"{recorded.reasons.ups:,} / {recorded.reasons.downs:,}", ""),
    ]
