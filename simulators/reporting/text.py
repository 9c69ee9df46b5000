"""Text of a run: its figures as sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from policies.model.spec import Slo
from simulators.experiments.group_results import GroupSummary
from simulators.experiments.results import ResultSummary
from simulators.reporting.run_data import RunData
from simulators.reporting.table import dollars, points, seconds, share
from simulators.world.traffic.describe import duration

NO_PRICE: Final = "no price given: --price-usd-per-hour"
"""Why a cost is unknown. Only engines without a scenario can lack a price."""
NO_SLO: Final = "no SLO given: set slo in a scenario"


def headline(data: RunData) -> str:
    """Return the cost and the SLO attainment of a run as text."""
    s = data.summary
    if not s.arrived:
        return f"No request arrived after the warm-up in {duration(s.duration_s)}; {cost(s)}."
    return f"{_counted(s.arrived, 'request')} in {duration(s.duration_s)}; {cost(s)}. {verdict(s)}."


def cost(s: ResultSummary) -> str:
    """Return the cost as text, or that it is unknown."""
    if math.isnan(s.cost_usd):
        return f"cost {dollars(s.cost_usd)} ({NO_PRICE})"
    api = f", of which {dollars(s.api_usd)} for token APIs" if s.api_usd > 0 else ""
    return f"cost {dollars(s.cost_usd)}{api}"


def verdict(s: ResultSummary) -> str:
    """Return whether the run met its target, and the distance to it."""
    if s.slo is None:
        return f"SLO not judged ({NO_SLO})"
    if not s.attainment:
        return "SLO not judged (no request was counted)"
    attained = s.attainment["all"]
    if s.slo_met:
        distance = f"{points(attained - s.slo.share)} above the target" if attained > s.slo.share else "at the target"
        return f"SLO met: {share(attained)} of the requests, {distance} of {percent(s.slo.share)}"
    return (
        f"SLO missed by {points(s.missed_by)}: {share(attained)} of the requests met it, the target is"
        f" {percent(s.slo.share)}"
    )


def group(g: GroupSummary) -> str:
    """Return the figures of a group as a sentence."""
    attained = "" if g.attainment is None else f", {share(g.attainment)} of them within the SLO"
    sent = joined([f"{share(part)} of those of {name}" for name, part in g.sent.items()] or ["none"])
    figures = f"{g.requests:,} requests{attained}, {dollars(g.cost_usd)}"
    return f"group of {joined(g.workloads)}: {figures}; others carried {sent}"


def slo_text(slo: Slo) -> str:
    """Return the SLO as text."""
    limits = (
        (slo.ttft_s, "TTFT within {}"),
        (slo.itl_s, "mean ITL within {}"),
        (slo.e2e_s, "end-to-end latency within {}"),
    )
    limits_text = [template.format(seconds(limit)) for limit, template in limits if limit is not None]
    return f"{', '.join(limits_text)} for {percent(slo.share)} of the requests"


def sentences(data: RunData) -> Iterator[str]:
    """Yield further sentences about the run."""
    s = data.summary
    if s.slo is not None:
        yield f"SLO: {slo_text(s.slo)}."
    failed = {
        "were rejected": s.rejected,
        "timed out while waiting": s.timed_out,
        "were lost with their replica": s.lost,
        "went to the dead-letter queue": s.dead_letter,
        "were unfinished at the end of the run": s.unfinished,
    }
    if any(failed.values()):
        yield f"Of the requests, {joined([f'{n:,} {end}' for end, n in failed.items() if n])}."
    if not math.isnan(s.cost_usd):
        yield waste(s)
    if s.replicas_max:
        changes = f"{_counted(s.scale_ups, 'time')} and in {_counted(s.scale_downs, 'time')}"
        yield f"Desired replicas: {s.replicas_mean:.1f} on average, {s.replicas_max} at most; scaled out {changes}."
    if s.interruptions or s.streams_cut:
        nodes, requests = _counted(s.interruptions, "spot node"), _counted(s.streams_cut, "running request")
        yield f"The cloud interrupted {nodes}; {requests} lost their replica."
    if s.refused or s.blind_ticks:
        blind = f"{s.blind_ticks:,} of {_counted(s.ticks, 'tick')} had incomplete observations"
        yield f"{blind}, and {_counted(s.refused, 'write')} of the size failed."


def percent(value: float) -> str:
    """Return a configured share in percent with all its digits: 0.995 as ``99.5%``."""
    return f"{round(100 * value, 9):.10g}%"


def waste(s: ResultSummary) -> str:
    """Return the cost that served no request as text."""
    if not s.cost_usd:
        return "The run cost nothing."
    unused = {use: cost for use, cost in s.cost_by_use_usd.items() if use in USES and cost >= 0.005}
    uses = [
        f"{dollars(cost)} {USES[use]}" for use, cost in sorted(unused.items(), key=lambda item: (-item[1], item[0]))
    ]
    text = f"{share(s.waste_share)} of the cost was waste"
    return f"{text}: {joined(uses)}." if uses else f"{text}."


USES: Final = {
    "idle": "for idle ready replicas",
    "starting": "for starting replicas",
    "draining": "for draining replicas",
    "lost": "for replicas lost before they served",
    "headroom": "for headroom",
    "unused": "for unused reserved nodes",
    "rounding": "for rounding by the billing rules",
}


def joined(parts: Sequence[str]) -> str:
    """Join parts to an enumeration: ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
