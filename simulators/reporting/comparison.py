"""A comparison in lines and tables: figures with their intervals, differences with a verdict, regret."""

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
from simulators.reporting.table import dollars, seconds, share
from simulators.reporting.text import percent
from simulators.reporting.time_bins import rounded

Figure = Callable[[ResultSummary], float]
Show = Callable[[float], str]


def _count(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def _decimal(value: float) -> str:
    return f"{value:,.2f}"


def _milli(value: float) -> str:
    return f"${value:,.3f}"


def _attained(name: str) -> Figure:
    return lambda s: s.attainment.get(name, math.nan)


MEANS: Final[Sequence[tuple[str, Figure, Show]]] = (
    ("requests", lambda s: s.arrived, _count),
    ("finished", lambda s: s.finished, _count),
    ("rejected, timed out", lambda s: s.rejected + s.timed_out, _count),
    ("lost, dead letter", lambda s: s.lost + s.dead_letter, _count),
    ("SLO attainment", _attained("all"), share),
    ("  by TTFT", _attained("ttft"), share),
    ("  by ITL", _attained("itl"), share),
    ("  by e2e", _attained("e2e"), share),
    ("cost", lambda s: s.cost_usd, dollars),
    ("  wasted", lambda s: s.waste_share, share),
    ("  per million tokens", lambda s: s.usd_per_million_tokens, _milli),
    ("node hours", lambda s: s.node_hours, _decimal),
    ("replicas mean", lambda s: s.replicas_mean, _decimal),
    ("scaled up", lambda s: s.scale_ups, _count),
    ("scaled down", lambda s: s.scale_downs, _count),
    ("interruptions", lambda s: s.interruptions, _count),
    ("writes refused", lambda s: s.refused, _count),
    ("blind turns", lambda s: s.blind_turns, _count),
)
"""Told as the mean over replications with its interval."""
MEDIANS: Final[Sequence[tuple[str, Figure, Show]]] = (
    ("TTFT p50", lambda s: s.ttft_s.p50, seconds),
    ("TTFT p95", lambda s: s.ttft_s.p95, seconds),
    ("TTFT p99", lambda s: s.ttft_s.p99, seconds),
    ("ITL p95", lambda s: s.itl_s.p95, seconds),
    ("ITL p99", lambda s: s.itl_s.p99, seconds),
    ("e2e p95", lambda s: s.e2e_s.p95, seconds),
    ("replicas max", lambda s: s.replicas_max, _count),
)
"""Told as the median over replications with its range: a mean of quantiles is no quantile of anything."""
CENT_USD: Final = 0.01
SETTLING_SHARE: Final = 0.05
"""A shorter time to settle, of the whole, moves no figure by much: MSER-5 nearly always drops a little."""
Row = tuple[str, list[str]]


def figures(found: Comparison) -> list[Row]:
    """Every figure of every contender. Rows that say nothing of any are left out."""
    if len(found.seeds) == 1:
        return table.cells([found.runs[name][0].summary for name in found.names])
    rows = [(title, [_mean(found.values(n, figure), show) for n in found.names]) for title, figure, show in MEANS]
    rows += [(title, [_median(found.values(n, figure), show) for n in found.names]) for title, figure, show in MEDIANS]
    missed = [sum(not r.summary.slo_met for r in found.runs[n]) for n in found.names]
    rows.insert(5, (f"  below {percent(found.slo_share)} in", [f"{k} of {len(found.seeds)} runs" for k in missed]))
    return [(title, cells) for title, cells in rows if not set(cells) <= {"-", "0"}]


def differences(found: Comparison) -> list[Row]:
    """Every policy less the first one, and its regret: a row a policy."""
    first, *others = found.policies or [""]
    contrasts = found.contrasts()
    base = float(np.mean(found.values(first, MEASURES["cost_usd"]))) if first else 0.0
    regrets = found.regrets()
    rows = [(first, ["", "", "", "", _regret(found, first)])] if first in regrets else []
    for name in others:
        cost, kept = (c for c in contrasts if c.name == name)
        part = f" ({cost.estimate.mean / base:+.1%})" if base and cost.estimate.mean else ""
        cells = [_signed(cost.estimate, dollars, 1.0) + part, _verdict(cost, found)]
        cells += [_signed(kept.estimate, lambda v: f"{v:.2f}", 100.0), _verdict(kept, found)]
        rows.append((name, cells + ([_regret(found, name)] if regrets else [])))
    return rows


def head(found: Comparison) -> list[str]:
    """Return the column names of `differences`."""
    columns = ["cost", "", "SLO, percentage points", ""]
    return [*columns, "regret"] if found.oracle else columns


def notes(found: Comparison) -> Iterator[str]:
    """Yield the notes needed to read the tables."""
    count, contrasts = len(found.seeds), found.contrasts()
    seeds = f"seeds {found.seeds[0]} to {found.seeds[-1]}" if count > 1 else f"seed {found.seeds[0]}"
    varied = "the requests are the same in all of them" if found.replayed else "requests differ from seed to seed"
    yield (
        f"{count} replication{'s' * (count > 1)}, {seeds}{f'; {varied}' if count > 1 else ''}. Under each seed all face"
        " the same requests, and start-ups and losses by the same chance."
    )
    yield from _oracle_notes(found)
    if count == 1:
        yield "One replication tells no interval: whether a difference is real cannot be said. Give --replications 5."
        return
    level = statistics.quantile_spread([0.0] * count, 0.5).level
    yield (
        f"Means with their {LEVEL:.0%} t intervals. Latency quantiles are not averaged: the median of the replications'"
        f" is told, with a range that holds the true median in {level:.1%} of cases."
    )
    if contrasts:
        yield (
            f"Differences are paired by seed. Their {len(contrasts)} intervals hold together at {LEVEL:.0%}"
            f" (Bonferroni). P-values are adjusted by Holm; below {1 - LEVEL:.2g} a difference is significant."
        )
    dull = [
        f"{c.name} in {'cost' if c.measure == 'cost_usd' else 'SLO'}"
        for c in contrasts
        if not (c.significant or c.equal)
    ]
    if dull:
        yield f"Not significant, so no ground to prefer either: {', '.join(dull)}."


def headline(found: Comparison) -> str:
    """Who kept the promise, and who of them did so for the least money."""
    target, count = percent(found.slo_share), len(found.seeds)
    each = "" if count == 1 else " in every replication"
    costs = {name: float(np.mean(found.values(name, lambda s: s.cost_usd))) for name in found.names}
    keeping = [n for n in found.policies if all(r.summary.slo_met for r in found.runs[n])]
    if not keeping:
        return f"No policy met the SLO target of {target}{each}."
    best = min(keeping, key=lambda name: costs[name])
    said = f"{len(keeping)} of {len(found.policies)} policies met the SLO target of {target}{each}"
    text = f"{said}; the cheapest of them is {best} at {dollars(costs[best])}"
    first = found.policies[0]
    if best == first or not costs[first]:
        return f"{text}."
    kept = "which met it too" if first in keeping else "which did not meet it"
    return f"{text}, {costs[best] / costs[first] - 1:+.1%} against {first}, {kept}."


def _oracle_notes(found: Comparison) -> Iterator[str]:
    if found.oracle is None:
        return
    yield "Regret is cost over the oracle's, who knew all that was to come, for whoever met the SLO's target as it did."
    bounds = [r.bound_usd for r in found.runs[found.oracle] if r.bound_usd is not None]
    if bounds and np.mean(bounds) >= CENT_USD:
        yield f"Nobody can meet the target for less than {dollars(float(np.mean(bounds)))}, whatever they know."


def warm_up_notes(found: Comparison) -> Iterator[str]:
    """Where a steady state was asked for and the warm-up is too short for it."""
    for name, replications in found.runs.items():
        beyond = [r.unsettled_s for r in replications if r.unsettled_s is not None]
        if any(s < 0 for s in beyond):
            yield f"{name} never settles (MSER-5 on TTFT): its figures depend on how long is simulated."
        elif max(beyond, default=0.0) > SETTLING_SHARE * replications[0].summary.duration_s:
            yield f"{name} settles {max(beyond):,.0f} s after the warm-up (MSER-5 on TTFT): raise warm_up_s by that."


def lines(found: Comparison) -> Iterator[str]:
    """Yield the comparison for a terminal."""
    yield from table.aligned(figures(found), found.names)
    rows = differences(found)
    if rows:
        yield ""
        yield from table.aligned(rows, head(found), f"less {found.policies[0]}")
    yield ""
    yield from (headline(found), *notes(found), *warm_up_notes(found))


def view(found: Comparison) -> dict[str, Any]:
    """Return the comparison's part of a page."""
    return {
        "headline": headline(found),
        "frontier": html.plot(frontier(found), "frontier", "Cost and SLO attainment", "Better is up and to the left."),
        "notes": [*notes(found), *warm_up_notes(found)],
        "base": next(iter(found.policies), ""),
        "head": head(found),
        "differences": [(name, *cells) for name, cells in differences(found)],
        "contenders": list(found.names),
        "means": [(title.strip(), *cells) for title, cells in figures(found)] if len(found.seeds) > 1 else [],
    }


def frontier(found: Comparison) -> Any:
    """Every contender by what it cost and what it kept, means with their intervals, and the target."""
    made = html.figure(
        xaxis={"title": {"text": "USD"}, "rangemode": "tozero"},
        yaxis={"title": {"text": "SLO attainment"}, "tickformat": ".2%"},
        hovermode="closest",
    )
    for k, name in enumerate(found.names):
        cost, kept = (statistics.mean(found.values(name, figure)) for figure in MEASURES.values())
        made.add_scatter(
            name=name, x=_told(cost.mean), y=_told(kept.mean), mode="markers",
            error_x={"array": _told(cost.half_width)}, error_y={"array": _told(kept.half_width)},
            marker={"size": 11, "color": html.COLOURS[k % len(html.COLOURS)]},
        )  # fmt: skip
    made.add_hline(y=found.slo_share, line={"color": "#b42318", "dash": "dash", "width": 1.4})
    return made


def _told(value: float) -> list[float | None]:
    return [None if math.isnan(value) else float(rounded(np.array([value]))[0])]


def _mean(values: Sequence[float], show: Show) -> str:
    told = statistics.mean(values)
    if math.isnan(told.mean):
        return "-"
    return show(told.mean) if told.half_width < 1e-12 * abs(told.mean) or not told.half_width else (
        f"{show(told.mean)} ± {show(told.half_width)}"
    )  # fmt: skip


def _median(values: Sequence[float], show: Show) -> str:
    told = [v for v in values if not math.isnan(v)]
    if not told:
        return "-"
    middle, spread = float(np.median(told)), statistics.quantile_spread(told, 0.5)
    low, high = show(spread.low), show(spread.high)
    return show(middle) if low == high else f"{show(middle)} ({low} to {high})"


def _signed(told: Estimate, show: Show, factor: float) -> str:
    if math.isnan(told.mean):
        return "-"
    sign = "-" if told.mean < 0 else "+"
    text = f"{sign}{show(abs(told.mean) * factor)}"
    return text if math.isnan(told.half_width) else f"{text} ± {show(told.half_width * factor)}"


def _verdict(contrast: Contrast, found: Comparison) -> str:
    if contrast.equal:
        return "equal"
    if len(found.seeds) == 1 or math.isnan(contrast.p):
        return ""
    p = "p<0.001" if contrast.p < 0.001 else f"p={contrast.p:.3f}"
    return p if contrast.significant else f"{p}, not significant"


def _regret(found: Comparison, name: str) -> str:
    told = found.regrets()[name]
    if told.usd is None:
        return f"SLO missed in {told.missed} of {len(found.seeds)}"
    return f"{_signed(told.usd, dollars, 1.0)} ({told.share:+.1%})"
