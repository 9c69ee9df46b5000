"""Reasons of a split, in words."""

from __future__ import annotations

from collections.abc import Mapping

from policies.model.names import BackendName, WorkloadName
from policies.route.preference import Distance
from policies.route.situation import Situation


def because(situation: Situation, shares: Mapping[BackendName, float], must: str) -> str:
    """Return the reason of a new split.

    Example: `28 % of requests go to openai: 3 of 5 replicas are ready, for a demand of 4.2`.
    """
    outside, pools = _outside_words(situation, shares), _distance_words(situation, shares)
    cause = f"; {must}" if must else ""
    if not outside:
        return f"all requests go to pools{pools}: {ready_words(situation)}{cause}"
    rest = f", the rest to pools{pools}" if pools else ""
    return f"{outside}{rest}: {ready_words(situation)}{cause}"


def kept_reason(situation: Situation) -> str:
    """Return the reason of a split that stays."""
    pools = _distance_words(situation, situation.applied)
    if not situation.outside:
        return f"the weights stay, all on pools{pools}: {ready_words(situation)}"
    rest = f", the rest to pools{pools}" if pools else ""
    return f"the weights stay, {_outside_words(situation, situation.applied)}{rest}: {ready_words(situation)}"


def ready_words(situation: Situation) -> str:
    """Return the readiness of the pools and the demand."""
    statuses = [status for name in situation.pools if (status := situation.pool(name)) is not None]
    ready, desired = sum(s.ready for s in statuses), sum(s.desired for s in statuses)
    demand = situation.demand.replicas
    need = "" if demand is None else f", for a demand of {demand:.1f}"
    is_blind = demand is None and situation.route.prefer == "locality"
    blind = f"; pools share by ready capacity, since {situation.demand.missing}" if is_blind else ""
    return f"{ready} of {desired} replicas are ready{need}{blind}"


def _outside_words(situation: Situation, shares: Mapping[BackendName, float]) -> str:
    """Return the share of each other workload and provider in use, and why; empty for none.

    Example: `40 % of requests go to us (8.0 requests/s stay at workload chat-us: the own pools can have 6 replicas)`.
    """
    why = {name: _why_preferred(situation, name) for name in situation.providers}
    why |= {name: _why_handed(situation, workload) for name, workload in situation.route.workloads.items()}
    used = (name for name, share in shares.items() if name in why and share > 0.0)
    return " and ".join(f"{shares[name]:.0%} of requests go to {name}{why[name]}" for name in used)


def _why_handed(situation: Situation, workload: WorkloadName) -> str:
    """Return why requests stay at another workload of the group; empty where they come back."""
    rate = situation.handed.get(workload, 0.0)
    if not rate:
        return ""
    offer = next(offer for offer in situation.members if offer.workload == workload)
    cause = (
        "it costs less" if offer.is_cheaper else f"the own pools can have {situation.proven_supply or 0.0:g} replicas"
    )
    return f" ({rate:.1f} requests/s stay at workload {workload}: {cause})"


def _why_preferred(situation: Situation, provider: BackendName) -> str:
    """Return why a provider comes before others; empty where its price decides.

    Example: ` (1.2 s against 2.0 s of deepinfra)`.
    """
    if situation.route.prefer == "locality":
        return f" ({situation.distance(provider).words}: {situation.region(provider) or 'region unknown'})"
    order = sorted(situation.ranks, key=lambda name: situation.ranks[name])
    latencies_s = {name: latency_s for name in order if (latency_s := situation.health[name].latency_s)}
    later = [name for name in latencies_s if situation.ranks[name] > situation.ranks.get(provider, len(order))]
    if situation.route.prefer != "latency" or provider not in latencies_s or not later:
        return ""
    return f" ({latencies_s[provider]:.1f} s against {latencies_s[later[0]]:.1f} s of {later[0]})"


def _distance_words(situation: Situation, shares: Mapping[BackendName, float]) -> str:
    """Return the share of the pools at each distance; empty without prefer: locality.

    Example: ` (80% near: eu-west-1, 20% far: us-east-1)`.
    """
    if situation.route.prefer != "locality":
        return ""
    used: dict[Distance, list[BackendName]] = {}
    for name in sorted((n for n in situation.pools if shares.get(n, 0.0) > 0.0), key=situation.distance):
        used.setdefault(situation.distance(name), []).append(name)
    parts = (
        f"{sum(shares[name] for name in names):.0%} {distance.words}:"
        f" {' and '.join(sorted({situation.region(name) or 'region unknown' for name in names}))}"
        for distance, names in used.items()
    )
    return f" ({', '.join(parts)})" if used else ""
