"""What capacity beyond the need costs: what was held idle, and one more spare of each kind."""

from __future__ import annotations

from typing import Final

import numpy as np

from policies.recommend.threshold import Headroom
from simulators.cost.evidence import WorkloadEvidence
from simulators.cost.figures import MONTH_H, Basis, Citation, Figure, Gap, Known, Section, sources, usd
from simulators.world.infrastructure.market import PoolOffer
from simulators.world.infrastructure.node_lifecycle import SERVE, Tier

TITLE: Final = "What headroom costs"
USES: Final = {
    "idle": "ready, without a request",
    "starting": "starting",
    "draining": "draining",
    "lost": "starts that never served",
    "headroom": "spares kept ahead of need",
    "unused": "reserved and not asked for",
    "rounding": "rounded up by the bill",
}


def section(seen: WorkloadEvidence) -> Section:
    """Return the price of what was held beyond the need."""
    figures: list[Figure] = []
    gaps: list[Gap] = []
    price = seen.replica_hour
    if price is None:
        gaps.append(Gap("what headroom costs", "no price is known", f"give a price of offer {seen.runs_on}"))
    else:
        figures += _beyond(seen, price)
        figures += _policies(seen, price)
    figures += [
        Figure("use_usd", what, seen.uses[use] * MONTH_H, "USD/month", f"{MONTH_H:g} h x {seen.uses[use]:.4g} USD/h",
               sources(*([seen.cost] if seen.cost else [])), use)
        for use, what in USES.items()
        if use in seen.uses
    ]  # fmt: skip
    figures += _spares(seen)
    return Section("headroom", TITLE, tuple(_findings(seen, figures)), tuple(figures), tuple(gaps))


def _beyond(seen: WorkloadEvidence, price: Known) -> list[Figure]:
    """Return the replicas held beyond the demand of the policies, where both are known."""
    over_s = seen.recorded.over_s
    beyond = np.maximum(seen.held - seen.recorded.columns["demand"], 0.0)
    known = np.isfinite(beyond)
    if not known.any():
        return []
    mean = float((beyond[known] * over_s[known]).sum() / over_s[known].sum())
    formula = (
        f"{MONTH_H:g} h x {mean:.3f} replicas held beyond the need in the mean x {price.value:.4g} USD/h as bought"
    )
    value = mean * price.value * MONTH_H
    title = "held beyond what the policies found needed"
    return [Figure("beyond_usd", title, value, "USD/month", formula, sources(seen.turns, price))]


def _policies(seen: WorkloadEvidence, price: Known) -> list[Figure]:
    """Return the replicas that a policy with a fixed free share adds to the demand."""
    needed = seen.needed_curve
    made = []
    for name, policy in seen.recorded.spec.policies.items():
        if isinstance(policy, Headroom) and policy.share:
            free = needed.mean * policy.share
            need = f"{needed.mean:.3f} replicas needed x {policy.share:g} left free"
            formula = f"{MONTH_H:g} h x {need} x {price.value:.4g} USD/h as bought"
            given = Citation(Basis.GIVEN, f"share of policy {name} in the specification")
            rests = sources(seen.turns, price, given)
            title = f"left free by policy {name}, at most"
            made.append(
                Figure("policy_usd", title, free * price.value * MONTH_H, "USD/month", formula, rests, str(name))
            )
    return made


def _spares(seen: WorkloadEvidence) -> list[Figure]:
    """One more spare of each tier, and how long it takes to serve."""
    if seen.worlds:
        pool, offer = next(iter(seen.worlds.items()))
        return _tiers(seen, pool, offer)
    price, lead = seen.offer.price, seen.offer.lead_time_s
    if price is None or lead is None:
        return []
    formula = f"{MONTH_H:g} h x {price.value:g} USD/h: it serves {lead.value:.0f} s sooner than one that must start"
    title = "one more replica kept ready"
    return [
        Figure("spare_usd", title, price.value * MONTH_H, "USD/month", formula, sources(price, lead), "awake_spare")
    ]


def _tiers(seen: WorkloadEvidence, pool: str, offer: PoolOffer) -> list[Figure]:
    """By the scenario's pool: its start-up's phases, by their medians."""
    price, made = seen.offer.price, []
    where = Citation(
        Basis.GIVEN, f"start_up of pool {pool}, medians; where it says nothing, the defaults of docs/fleet.md"
    )
    cold_s = sum(getattr(offer.start_up, phase).median_s for phase in SERVE[Tier.COLD])
    for tier in (Tier.AWAKE_SPARE, Tier.SLEPT, Tier.WARM_NODE, Tier.STOPPED):
        usd_per_hour = offer.disk_usd_per_hour if tier is Tier.STOPPED else None if price is None else price.value
        if usd_per_hour is None:
            continue
        serves_s = sum(getattr(offer.start_up, phase).median_s for phase in SERVE[tier])
        formula = (
            f"{MONTH_H:g} h x {usd_per_hour:g} USD/h: serves after {serves_s:.3g} s and not after {cold_s:.3g} s,"
            f" {usd(usd_per_hour * MONTH_H / max(cold_s - serves_s, 1e-9))} a month for each second"
        )
        title = f"one more {tier.value.replace('_', ' ')}"
        rests = sources(*([price] if price and tier is not Tier.STOPPED else []), where)
        made.append(Figure("spare_usd", title, usd_per_hour * MONTH_H, "USD/month", formula, rests, tier.value))
    return made


def _findings(seen: WorkloadEvidence, figures: list[Figure]) -> list[str]:
    said = []
    beyond = next((f for f in figures if f.key == "beyond_usd"), None)
    if beyond is not None and seen.cost is not None and seen.cost.value:
        share = beyond.value / (seen.cost.value * MONTH_H)
        said.append(f"What was held beyond the need cost {usd(beyond.value)} a month, {share:.0%} of what was paid.")
    idle = next((f for f in figures if f.key == "use_usd" and f.about == "idle"), None)
    if idle is not None:
        said.append(f"Replicas that were ready and without a request cost {usd(idle.value)} a month.")
    spares = [f for f in figures if f.key == "spare_usd"]
    if spares:
        said.append(f"One more replica kept ready costs {usd(spares[0].value)} a month.")
    return said
