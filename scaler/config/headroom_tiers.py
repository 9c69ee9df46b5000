"""Rules between a serving pool and its headroom tiers."""

from __future__ import annotations

from collections.abc import Iterator

from policies.model import PoolName
from policies.model.pool import Pool
from policies.model.spec import WorkloadSpec
from scaler.config.yaml_composer import Place
from scaler.registry import did_you_mean


def tiers(spec: WorkloadSpec) -> Iterator[tuple[Place, str, str]]:
    """Yield the problems of the tiers, as (place, broken rule, hint)."""
    serving = {name: pool for name, pool in spec.pools.items() if pool.tier == "serving"}
    if spec.pools and not serving:
        yield ("pools",), "needs at least one pool with tier: serving", "remove tier from the pool whose replicas serve"
    for name, pool in spec.pools.items():
        place: Place = ("pools", name)
        if pool.tier == "serving":
            if pool.serves is not None:
                yield (*place, "serves"), "is for headroom tiers only, and this pool has tier: serving", "remove serves"
        elif pool.serves is None:
            yield (*place, "tier"), f"{pool.tier} requires serves", "set serves to the pool that takes replicas from it"
        elif pool.serves not in serving:
            names = f"serving pools: {', '.join(serving)}" if serving else ""
            hint = did_you_mean(pool.serves, list(serving)) or names
            yield (*place, "serves"), f"names {pool.serves!r}, which is not a serving pool", hint
        else:
            yield from _lead_time_problem(name, pool, serving[PoolName(pool.serves)])


def _lead_time_problem(name: PoolName, tier: Pool, serving_pool: Pool) -> Iterator[tuple[Place, str, str]]:
    limit_s = serving_pool.lead_time_s
    if tier.lead_time_s >= limit_s:
        rule = f"must be below lead_time_s of {tier.serves}, {limit_s:g} s: a slower tier saves no time"
        yield ("pools", name, "lead_time_s"), rule, "for a vLLM level-1 wake 1 s, for an awake spare 0 s"
