"""Cost of capacity above the demand: idle replicas, and a spare of each headroom tier.

The spare is one more of its tier.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from policies.recommend.threshold import Headroom
from simulators.cost.evidence import WorkloadEvidence
from simulators.cost.figures import MONTH_H, Basis, Citation, Figure, Gap, Section, SourcedNumber, sources, usd
from simulators.world.infrastructure.market import PoolOffer
from simulators.world.infrastructure.node_lifecycle import SERVE, Tier

TITLE: Final = "Cost of headroom"
USES: Final = {
    "idle": "idle ready replicas",
    "starting": "starting replicas",
    "draining": "draining replicas",
    "lost": "replicas lost before they served",
    "headroom": "headroom nodes",
    "unused": "unused reserved nodes",
    "rounding": "rounding of the bill",
}


def section(evidence: WorkloadEvidence) -> Section:
    """Return the cost of capacity above the demand."""
    figures: list[Figure] = []
    gaps: list[Gap] = []
    price = evidence.replica_hour
    if price is None:
        gaps.append(Gap("cost of headroom", "no price is known", f"set a price of offer {evidence.runs_on}"))
    else:
        figures += _beyond(evidence, price)
        figures += _policies(evidence, price)
    figures += [
        Figure("use_usd", title, cost * MONTH_H, "USD/month", f"{MONTH_H:g} h x {cost:.4g} USD/h",
               sources(*([evidence.cost] if evidence.cost else [])), use)
        for use, title in USES.items()
        if (cost := evidence.cost_by_use.get(use)) is not None
    ]  # fmt: skip
    figures += _spares(evidence)
    return Section("headroom", TITLE, tuple(_findings(evidence, figures)), tuple(figures), tuple(gaps))


def _beyond(evidence: WorkloadEvidence, price: SourcedNumber) -> list[Figure]:
    """Return the cost of the replicas held above the policies' demand, where both are known."""
    over_s = evidence.recorded.over_s
    beyond = np.maximum(evidence.held - evidence.recorded.columns["demand"], 0.0)
    known = np.isfinite(beyond)
    if not known.any():
        return []
    mean = float((beyond[known] * over_s[known]).sum() / over_s[known].sum())
    formula = f"{MONTH_H:g} h x {mean:.3f} replicas above demand on average x {price.value:.4g} USD/h, the price as run"
    value = mean * price.value * MONTH_H
    title = "replicas above the policies' demand"
    return [Figure("beyond_usd", title, value, "USD/month", formula, sources(evidence.recording, price))]


def _policies(evidence: WorkloadEvidence, price: SourcedNumber) -> list[Figure]:
    """Return the cost of the replicas that each headroom policy adds to the demand."""
    needed = evidence.needed_curve
    figures = []
    for name, policy in evidence.recorded.spec.policies.items():
        if isinstance(policy, Headroom) and policy.share:
            free = needed.mean * policy.share
            need = f"{needed.mean:.3f} replicas of demand x {policy.share:g} headroom"
            formula = f"{MONTH_H:g} h x {need} x {price.value:.4g} USD/h, the price as run"
            given = Citation(Basis.GIVEN, f"share of policy {name} in the specification")
            citations = sources(evidence.recording, price, given)
            title = f"headroom of policy {name}, at most"
            figures.append(
                Figure("policy_usd", title, free * price.value * MONTH_H, "USD/month", formula, citations, str(name))
            )
    return figures


def _spares(evidence: WorkloadEvidence) -> list[Figure]:
    """Return the cost of one more spare of each tier, with its time to serve."""
    if evidence.simulated_pools:
        pool, offer = next(iter(evidence.simulated_pools.items()))
        return _tiers(evidence, pool, offer)
    price, lead = evidence.offer.price, evidence.offer.lead_time_s
    if price is None or lead is None:
        return []
    formula = f"{MONTH_H:g} h x {price.value:g} USD/h: it serves {lead.value:.0f} s sooner than a cold start"
    title = "one more ready replica"
    return [
        Figure("spare_usd", title, price.value * MONTH_H, "USD/month", formula, sources(price, lead), "awake_spare")
    ]


def _tiers(evidence: WorkloadEvidence, pool: str, offer: PoolOffer) -> list[Figure]:
    """Return the cost of one more spare of each tier of a scenario's pool.

    The times to serve are those of the medians of its start-up phases.
    """
    price, figures = evidence.offer.price, []
    where = Citation(Basis.GIVEN, f"start_up of pool {pool}, medians, or the defaults of docs/explanation/fleet.md")
    cold_s = sum(getattr(offer.start_up, phase).median_s for phase in SERVE[Tier.COLD])
    for tier in (Tier.AWAKE_SPARE, Tier.SLEPT, Tier.WARM_NODE, Tier.STOPPED):
        usd_per_hour = offer.disk_usd_per_hour if tier is Tier.STOPPED else None if price is None else price.value
        if usd_per_hour is None:
            continue
        serves_s = sum(getattr(offer.start_up, phase).median_s for phase in SERVE[tier])
        formula = (
            f"{MONTH_H:g} h x {usd_per_hour:g} USD/h: serves after {serves_s:.3g} s instead of {cold_s:.3g} s,"
            f" {usd(usd_per_hour * MONTH_H / max(cold_s - serves_s, 1e-9))} per month for each second saved"
        )
        title = f"one more {tier.value.replace('_', ' ')}"
        citations = sources(*([price] if price and tier is not Tier.STOPPED else []), where)
        figures.append(Figure("spare_usd", title, usd_per_hour * MONTH_H, "USD/month", formula, citations, tier.value))
    return figures


def _findings(evidence: WorkloadEvidence, figures: list[Figure]) -> list[str]:
    sentences = []
    beyond = next((f for f in figures if f.key == "beyond_usd"), None)
    if beyond is not None and evidence.cost is not None and evidence.cost.value:
        share = beyond.value / (evidence.cost.value * MONTH_H)
        sentences.append(f"Replicas above demand cost {usd(beyond.value)} per month, {share:.0%} of the total cost.")
    idle = next((f for f in figures if f.key == "use_usd" and f.about == "idle"), None)
    if idle is not None:
        sentences.append(f"Idle ready replicas cost {usd(idle.value)} per month.")
    spares = [f for f in figures if f.key == "spare_usd"]
    if spares:
        sentences.append(f"One more ready replica costs {usd(spares[0].value)} per month.")
    return sentences
