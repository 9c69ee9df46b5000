"""The recommended purchase in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from simulators.cost.evidence import WorkloadEvidence
from simulators.cost.figures import MONTH_H, usd
from simulators.cost.plan import MARKETS
from simulators.cost.recommendation import AsRun, Choice, Purchase
from simulators.experiments.slo_outcome import SloStatus
from simulators.reporting.text import percent

SAME_BASIS = "the same period, replicas and prices"


def sentences(evidence: WorkloadEvidence, purchase: Purchase) -> Iterator[str]:
    """Yield the recommendation, its comparison with what ran, and the limits of the comparison."""
    run = purchase.as_run
    if run is not None and purchase.keeps:
        yield from _kept(evidence, purchase, run)
    else:
        yield f"The cheapest plan for {purchase.curve.maximum} replicas is {_plan(purchase)} per month."
        yield _compared(evidence, purchase)
    yield _slo(evidence)
    if evidence.short_share >= 0.005:
        spot = " Spot replicas count as held only while they serve." if evidence.spot_share else ""
        yield (
            f"On average {evidence.held_curve.mean:.2f} replicas were held and {evidence.needed_curve.mean:.2f}"
            f" demanded by the policies. For {evidence.short_share:.0%} of the time fewer were held than"
            f" demanded.{spot}"
        )
    plain = purchase.curve.mean * purchase.prices.on_demand
    if plain > purchase.usd_per_hour:
        yield f"All on-demand would cost {_month(plain)}."


def _kept(evidence: WorkloadEvidence, purchase: Purchase, run: AsRun) -> Iterator[str]:
    """Yield the recommendation to keep what ran."""
    cost, planned = run.usd_per_hour, purchase.plan.usd_per_hour
    yield f"Keep what ran: {_held(run)} replicas on average for {_month(cost)} per month."
    if purchase.prices.reserved is None and purchase.prices.spot is None:
        yield "Only the on-demand price is known, so there is no other plan."
        return
    if planned < cost and evidence.cost is not None:
        yield f"The cheapest plan, {_plan(purchase)}, costs no less than the bill, {_month(evidence.cost.value)}."
    else:
        more = f"{planned / cost - 1:.0%} more" if planned > cost * 1.005 else "as much"
        yield f"The cheapest plan, {_plan(purchase)}, costs {more} on the same basis: {SAME_BASIS}."
    if run.spot_peak > purchase.limit.value and purchase.prices.spot is not None:
        yield (
            f"Up to {run.spot_peak:.0%} of what ran was on spot; a plan has at most {purchase.limit.value:.0%} on spot"
            " (spot_max_share)."
        )


def _compared(evidence: WorkloadEvidence, purchase: Purchase) -> str:
    """Return how the recommended plan compares with what ran."""
    run, planned = purchase.as_run, purchase.plan.usd_per_hour
    if run is None:
        return "It is not compared with what ran: a price of the replicas that ran is unknown."
    as_run = f"{_month(run.usd_per_hour)} on the same basis ({SAME_BASIS})"
    if purchase.choice is Choice.PLAN:
        saved = 1 - planned / run.usd_per_hour
        return f"As run: {as_run}, with {_held(run)} replicas on average. The plan saves {saved:.1%}."
    if purchase.choice is Choice.RUN_MISSED_SLO:
        return (
            f"As run: {as_run}, but {evidence.late}: what ran missed its SLO. The plan covers the policies' demand"
            f" up to max_replicas, {purchase.curve.mean:.2f} replicas on average instead of"
            f" {evidence.held_curve.mean:.2f}. Simulate it before you buy: whether it meets the SLO is unknown."
        )
    return (
        f"As run: {as_run}, but up to {run.spot_peak:.0%} on spot: more than your spot_max_share,"
        f" {purchase.limit.value:.0%}."
    )


def _slo(evidence: WorkloadEvidence) -> str:
    """Return whether what ran met its SLO."""
    if evidence.slo is None:
        return "SLO as run: unknown, no SLO is given."
    if evidence.late is None or evidence.slo_status is SloStatus.UNKNOWN:
        return f"SLO as run: unknown, {evidence.late_reason or 'no request was counted'}."
    return f"SLO as run: {evidence.slo_status}, {evidence.late}, {percent(1 - evidence.slo.share)} allowed."


def _plan(purchase: Purchase) -> str:
    chosen = purchase.plan
    parts = [f"{chosen.count(m)} {m.replace('_', '-')}" for m in MARKETS if chosen.count(m)]
    return f"{', '.join(parts)} for {_month(chosen.usd_per_hour)}"


def _held(run: AsRun) -> str:
    return ", ".join(f"{run.replicas[m]:.3g} {m.replace('_', '-')}" for m in MARKETS if m in run.replicas)


def _month(usd_per_hour: float) -> str:
    return usd(usd_per_hour * MONTH_H)
