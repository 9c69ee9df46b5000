"""Reasons of a split, in words."""

from __future__ import annotations

from collections.abc import Mapping

from policies.model.names import BackendName
from policies.route.situation import Situation


def because(situation: Situation, shares: Mapping[BackendName, float], must: str) -> str:
    """Return the reason of a new split.

    Example: `28 % of requests go to openai: 3 of 5 replicas are ready, for a demand of 4.2`.
    """
    outside = {name: share for name, share in shares.items() if name in situation.providers and share > 0.0}
    cause = f"; {must}" if must else ""
    if not outside:
        return f"all requests go to pools: {ready_words(situation)}{cause}"
    parts = " and ".join(f"{share:.0%} of requests go to {name}" for name, share in outside.items())
    return f"{parts}: {ready_words(situation)}{cause}"


def kept_reason(situation: Situation) -> str:
    """Return the reason of a split that stays."""
    if not situation.external:
        return f"the weights stay, all on pools: {ready_words(situation)}"
    outside = " and ".join(
        f"{share:.0%} of requests go to {name}"
        for name, share in situation.applied.items()
        if name in situation.providers and share > 0.0
    )
    return f"the weights stay, {outside}: {ready_words(situation)}"


def ready_words(situation: Situation) -> str:
    """Return the readiness of the pools and the demand."""
    statuses = [status for name in situation.pools if (status := situation.pool(name)) is not None]
    ready, desired = sum(s.ready for s in statuses), sum(s.desired for s in statuses)
    demand = situation.demand.replicas
    need = "" if demand is None else f", for a demand of {demand:.1f}"
    return f"{ready} of {desired} replicas are ready{need}"
