"""Report of a comparison: figures with intervals, differences with verdicts, and regret."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np

from simulators.experiments import statistics
from simulators.experiments.compare import MEASURES, Comparison, Contrast
from simulators.experiments.results import ResultSummary
from simulators.experiments.statistics import LEVEL, Estimate
from simulators.reporting import html, table
from simulators.reporting.charts import Axis, Chart, Series
from simulators.reporting.plots import colours, level
from simulators.reporting.table import dollars, seconds, share
from simulators.reporting.text import joined, percent, slo_text

Figure = Callable[[ResultSummary], float]
Show = Callable[[float], str]


def _count(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def _decimal(value: float) -> str:
    return f"{value:,.2f}"


def _milli(value: float) -> str:
    return f"${value:,.3f}"


def _attainment(name: str) -> Figure:
    return lambda s: s.attainment.get(name, math.nan)


MEANS: Final[Sequence[tuple[str, Figure, Show]]] = (
    ("requests", lambda s: s.arrived, _count),
    ("finished", lambda s: s.finished, _count),
    ("rejected, timed out", lambda s: s.rejected + s.timed_out, _count),
    ("lost, dead letter", lambda s: s.lost + s.dead_letter, _count),
    ("SLO attainment", _attainment("all"), share),
    ("  by TTFT", _attainment("ttft"), share),
    ("  by ITL", _attainment("itl"), share),
    ("  by e2e", _attainment("e2e"), share),
    ("cost", lambda s: s.cost_usd, dollars),
    ("  for token APIs", lambda s: s.api_usd, dollars),
    ("  share wasted", lambda s: s.waste_share, share),
    ("  per million tokens", lambda s: s.usd_per_million_tokens, _milli),
    ("node hours", lambda s: s.node_hours, _decimal),
    ("replicas mean", lambda s: s.replicas_mean, _decimal),
    ("requests to token APIs", lambda s: s.api_share, share),
    ("changes of the weights", lambda s: s.route_changes, _count),
    ("scaled out", lambda s: s.scale_ups, _count),
    ("scaled in", lambda s: s.scale_downs, _count),
    ("interruptions", lambda s: s.interruptions, _count),
    ("writes rejected", lambda s: s.refused, _count),
    ("blind ticks", lambda s: s.blind_ticks, _count),
)
"""The figures shown as the mean over replications with its interval."""
MEDIANS: Final[Sequence[tuple[str, Figure, Show]]] = (
    ("TTFT p50", lambda s: s.ttft_s.p50, seconds),
    ("TTFT p95", lambda s: s.ttft_s.p95, seconds),
    ("TTFT p99", lambda s: s.ttft_s.p99, seconds),
    ("ITL p95", lambda s: s.itl_s.p95, seconds),
    ("ITL p99", lambda s: s.itl_s.p99, seconds),
    ("e2e p95", lambda s: s.e2e_s.p95, seconds),
    ("replicas max", lambda s: s.replicas_max, _count),
)
"""The figures shown as the median over replications with its range: a mean of quantiles is not a quantile."""
CENT_USD: Final = 0.01
SETTLING_SHARE: Final = 0.05
"""A time to settle below this share of the run is not reported: MSER-5 nearly always drops a little."""
WIDE: Final = 10.0
"""Costs that differ by more than this factor are drawn on a logarithmic axis."""
Row = tuple[str, list[str]]


def figures(comparison: Comparison) -> list[Row]:
    """Return every figure of every contender, without rows that are empty for all."""
    if len(comparison.seeds) == 1:
        return table.cells([comparison.runs[name][0].summary for name in comparison.names])
    rows = [
        (title, [_mean(comparison.values(n, figure), show) for n in comparison.names]) for title, figure, show in MEANS
    ]
    rows += [
        (title, [_median(comparison.values(n, figure), show) for n in comparison.names])
        for title, figure, show in MEDIANS
    ]
    if comparison.slo is not None:
        missed = [sum(not r.summary.slo_met for r in comparison.runs[n]) for n in comparison.names]
        title = f"  runs below {percent(comparison.slo.share)}"
        rows.insert(5, (title, [f"{k} of {len(comparison.seeds)}" for k in missed]))
    return [(title, cells) for title, cells in rows if not set(cells) <= {"-", "0"}]


def ranking(comparison: Comparison) -> list[Row]:
    """Return the verdict, attainment and cost of each contender, in their order."""
    return [(name, _ranked(comparison, name)) for name in comparison.names]


def ranking_columns(comparison: Comparison) -> list[str]:
    """Return the column names of `ranking`."""
    columns = ["cost", "cost vs. baseline"] if comparison.base else ["cost"]
    return columns if comparison.slo is None else ["SLO", "SLO attainment", *columns]


def _ranked(comparison: Comparison, name: str) -> list[str]:
    cells = [_mean(comparison.values(name, MEASURES["cost_usd"]), dollars)]
    if comparison.base:
        base_usd = comparison.mean_cost_usd(comparison.base)
        change = f"{comparison.mean_cost_usd(name) / base_usd - 1:+.1%}" if base_usd else table.UNKNOWN
        cells.append("baseline" if name == comparison.base else change)
    if comparison.slo is None:
        return cells
    return [slo_mark(comparison, name), _mean(comparison.values(name, MEASURES["attainment"]), share), *cells]


def slo_mark(comparison: Comparison, name: str) -> str:
    """Return whether a contender met the SLO, and its largest miss over the replications."""
    if comparison.met(name):
        return "met"
    if math.isnan(comparison.missed_by(name)):
        return "not judged"
    text, count = f"missed by {table.points(comparison.missed_by(name))}", len(comparison.seeds)
    missed = sum(not r.summary.slo_met for r in comparison.runs[name])
    return text if count == 1 else f"{text} in {missed} of {count}"


def differences(comparison: Comparison) -> list[Row]:
    """Return a row for each policy: its differences from the first one, and its regret."""
    base, contrasts, regrets = comparison.base, comparison.contrasts(), comparison.regrets()
    base_usd = comparison.mean_cost_usd(base) if base else 0.0
    rows = []
    for name in comparison.policies:
        cells = [] if name != base else [""] * 2 * len(comparison.measures)
        for contrast in contrasts:
            if contrast.name == name and contrast.measure == "cost_usd":
                mean = contrast.estimate.mean
                change = f" ({mean / base_usd:+.1%})" if base_usd and mean else ""
                cells += [_signed(contrast.estimate, dollars, 1.0) + change, _verdict(contrast, comparison)]
            elif contrast.name == name:
                points = _signed(contrast.estimate, lambda v: f"{v:.2f}", 100.0)
                cells += [points, _verdict(contrast, comparison)]
        rows.append((name, cells + ([_regret(comparison, name)] if regrets else [])))
    return [(name, cells) for name, cells in rows if any(cells)]


def difference_table(comparison: Comparison) -> tuple[list[str], list[Row]]:
    """Return the names of the policies, and each column of `differences` that is not empty."""
    rows = differences(comparison)
    columns = zip(difference_columns(comparison), zip(*(cells for _, cells in rows), strict=True), strict=False)
    return [name for name, _ in rows], [(title, list(cells)) for title, cells in columns if any(cells)]


def difference_columns(comparison: Comparison) -> list[str]:
    """Return the column names of `differences`."""
    columns = ["cost", "  significance"]
    if comparison.slo is not None:
        columns += ["SLO attainment, points", "  significance"]
    return [*columns, "regret"] if comparison.oracle else columns


def notes(comparison: Comparison) -> Iterator[str]:
    """Yield the notes needed to read the tables."""
    count, contrasts = len(comparison.seeds), comparison.contrasts()
    seeds = f"seeds {comparison.seeds[0]} to {comparison.seeds[-1]}" if count > 1 else f"seed {comparison.seeds[0]}"
    if comparison.slo is not None:
        yield f"SLO: {slo_text(comparison.slo)}."
    varied = "all replay the same requests" if comparison.replayed else "requests differ between seeds"
    yield (
        f"{count} replication{'s' * (count > 1)}, {seeds}{f'; {varied}' if count > 1 else ''}. With the same seed, all"
        " policies serve the same requests, with the same random numbers for start-up times and node losses."
    )
    yield from _oracle_notes(comparison)
    if count == 1:
        yield "One replication gives no confidence intervals, so differences may be noise. Run with --replications 5."
        return
    level = statistics.quantile_spread([0.0] * count, 0.5).level
    yield (
        f"Means have {LEVEL:.0%} t confidence intervals. Latency quantiles are not averaged: the table shows the median"
        f" over the replications, with a range that contains the true median in {level:.1%} of cases."
    )
    if contrasts:
        yield (
            f"Differences are paired by seed. All {len(contrasts)} intervals hold jointly at {LEVEL:.0%} (Bonferroni)."
            f" P-values are Holm-adjusted; a difference is significant below {1 - LEVEL:.2g}."
        )
    undecided = [
        f"{c.name} in {'cost' if c.measure == 'cost_usd' else 'SLO'}"
        for c in contrasts
        if not (c.significant or c.equal)
    ]
    if undecided:
        yield f"No significant difference: {', '.join(undecided)}."


def headline(comparison: Comparison) -> str:
    policies, base = comparison.policies, comparison.base
    if comparison.slo is None:
        text = "No SLO is given (slo in the scenario), so no policy is judged and the order is by cost"
        return f"{text}: {policies[0]} at {dollars(comparison.mean_cost_usd(policies[0]))} is the cheapest."
    target = percent(comparison.slo.share)
    scope = "" if len(comparison.seeds) == 1 else " in every replication"
    meeting = [name for name in policies if comparison.met(name)]
    if not meeting:
        return f"No policy met the SLO target of {target}{scope}."
    cheapest = meeting[0]
    text = f"{len(meeting)} of {len(policies)} policies met the SLO target of {target}{scope}: {joined(meeting)}"
    text = f"{text}. The cheapest of them is {cheapest} at {dollars(comparison.mean_cost_usd(cheapest))}"
    base_usd = comparison.mean_cost_usd(base)
    if cheapest == base or not base_usd:
        return f"{text}."
    outcome = "which also met the target" if base in meeting else "which missed the target"
    return f"{text}, {comparison.mean_cost_usd(cheapest) / base_usd - 1:+.1%} compared with {base}, {outcome}."


def _oracle_notes(comparison: Comparison) -> Iterator[str]:
    if comparison.oracle is None:
        return
    yield (
        "Regret is the cost above that of the oracle, which knows all requests in advance. It is given for policies"
        " that met the SLO target or attained at least as much as the oracle."
    )
    bounds = [r.bound_usd for r in comparison.runs[comparison.oracle] if r.bound_usd is not None]
    if bounds and np.mean(bounds) >= CENT_USD:
        yield f"No policy can meet the target for less than {dollars(float(np.mean(bounds)))}: a proven lower bound."


def warm_up_notes(comparison: Comparison) -> Iterator[str]:
    """Yield a note for each contender whose warm-up is too short for a steady state."""
    for name, replications in comparison.runs.items():
        times_s = [r.unsettled_s for r in replications if r.unsettled_s is not None]
        if any(s < 0 for s in times_s):
            yield f"{name} reaches no steady state (MSER-5 on TTFT): its figures depend on the simulated time."
        elif max(times_s, default=0.0) > SETTLING_SHARE * replications[0].summary.duration_s:
            yield (
                f"{name} reaches its steady state {max(times_s):,.0f} s after the warm-up (MSER-5 on TTFT): raise"
                " warm_up_s by that."
            )


def lines(comparison: Comparison) -> Iterator[str]:
    """Yield the comparison for a terminal."""
    yield from (headline(comparison), "")
    yield from table.folded(ranking(comparison), ranking_columns(comparison))
    yield ""
    yield from table.folded(figures(comparison), comparison.names)
    names, columns = difference_table(comparison)
    if names:
        yield ""
        yield from table.folded(columns, names, "difference from baseline")
    yield ""
    yield from (*notes(comparison), *warm_up_notes(comparison))


def view(comparison: Comparison) -> dict[str, Any]:
    """Return the template data of the comparison."""
    names, columns = difference_table(comparison)
    return {
        "headline": headline(comparison),
        "frontier": list(frontier(comparison)),
        "notes": [*notes(comparison), *warm_up_notes(comparison)],
        "base": comparison.base,
        "ranking_head": ranking_columns(comparison),
        "ranking": [(name, *cells) for name, cells in ranking(comparison)],
        "head": [column.strip() for column, _ in columns],
        "differences": list(zip(names, *(cells for _, cells in columns), strict=True)),
        "contenders": list(comparison.names),
        "means": [(title.strip(), *cells) for title, cells in figures(comparison)] if len(comparison.seeds) > 1 else [],
    }


def frontier(comparison: Comparison) -> Iterator[html.PagePlot]:
    """Yield the chart of each contender's mean cost and SLO attainment, and the target.

    The means have intervals. Without an SLO there is no chart.
    """
    if comparison.slo is None:
        return
    series = []
    for name, colour in zip(comparison.names, colours(len(comparison.names)), strict=True):
        cost, attainment = (statistics.mean(comparison.values(name, figure)) for figure in MEASURES.values())
        series.append(
            Series(
                name=name,
                x=np.array([cost.mean]),
                y=np.array([attainment.mean]),
                error_x=np.array([cost.half_width]),
                error_y=np.array([attainment.half_width]),
                colour=colour,
                shape="points",
                named=True,
            )
        )
    costs = [comparison.mean_cost_usd(name) for name in comparison.names]
    wide = min(costs) > 0 and max(costs) > WIDE * min(costs)
    chart = Chart(
        x=Axis(title="USD", format="usd", kind="log" if wide else "linear"),
        y=Axis(title="SLO attainment", format="share"),
        series=[*series, level(f"target, {percent(comparison.slo.share)}", comparison.slo.share)],
    )
    yield html.PagePlot("frontier", "Cost and SLO attainment", "Up and to the left is better.", chart)


def _mean(values: Sequence[float], show: Show) -> str:
    estimate = statistics.mean(values)
    if math.isnan(estimate.mean):
        return "-"
    has_interval = estimate.half_width > 1e-12 * abs(estimate.mean)
    return f"{show(estimate.mean)} ± {show(estimate.half_width)}" if has_interval else show(estimate.mean)


def _median(values: Sequence[float], show: Show) -> str:
    known = [v for v in values if not math.isnan(v)]
    if not known:
        return "-"
    middle, spread = float(np.median(known)), statistics.quantile_spread(known, 0.5)
    low, high = show(spread.low), show(spread.high)
    return show(middle) if low == high else f"{show(middle)} ({low} to {high})"


def _signed(estimate: Estimate, show: Show, factor: float) -> str:
    if math.isnan(estimate.mean):
        return "-"
    sign = "-" if estimate.mean < 0 else "+"
    text = f"{sign}{show(abs(estimate.mean) * factor)}"
    return text if math.isnan(estimate.half_width) else f"{text} ± {show(estimate.half_width * factor)}"


def _verdict(contrast: Contrast, comparison: Comparison) -> str:
    if contrast.equal:
        return "equal"
    if len(comparison.seeds) == 1 or math.isnan(contrast.p):
        return ""
    p = "p<0.001" if contrast.p < 0.001 else f"p={contrast.p:.3f}"
    return p if contrast.significant else f"{p}, not significant"


def _regret(comparison: Comparison, name: str) -> str:
    regret = comparison.regrets()[name]
    if regret.usd is None:
        return f"SLO missed in {regret.missed} of {len(comparison.seeds)}"
    return f"{_signed(regret.usd, dollars, 1.0)} ({regret.share:+.1%})"
