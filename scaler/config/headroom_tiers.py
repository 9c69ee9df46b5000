"""Rules between a serving pool and its headroom tiers."""

from __future__ import annotations

from collections.abc import Iterator

from policies.model import PoolName
from policies.model.spec import Pool, WorkloadSpec
from scaler.config.yaml_composer import Place
from scaler.registry import did_you_mean


def tiers(spec: WorkloadSpec) -> Iterator[tuple[Place, str, str]]:
    """Yield the problems of the tiers, as (place, broken rule, hint)."""
    serving = {name: pool for name, pool in spec.pools.items() if pool.tier == "serving"}
    if spec.pools and not serving:
        yield ("pools",), "one at least must serve", "leave tier out where replicas serve"
    for name, pool in spec.pools.items():
        place: Place = ("pools", name)
        if pool.tier == "serving":
            if pool.serves is not None:
                yield (*place, "serves"), "is for tiers of headroom, and this pool serves itself", "remove it"
        elif pool.serves is None:
            yield (*place, "tier"), f"{pool.tier} needs serves: the pool whose scale-out takes from it", ""
        elif pool.serves not in serving:
            hint = did_you_mean(pool.serves, list(serving)) or f"those that serve: {', '.join(serving)}"
            yield (*place, "serves"), f"there is no serving pool {pool.serves!r}", hint
        else:
            yield from _lead_time_problem(name, pool, serving[PoolName(pool.serves)])


def _lead_time_problem(name: PoolName, tier: Pool, serving_pool: Pool) -> Iterator[tuple[Place, str, str]]:
    limit_s = serving_pool.lead_time_s
    if tier.lead_time_s >= limit_s:
        rule = f"must be below the {limit_s:g} s of {tier.serves}: a tier that serves no sooner is of no use"
        yield ("pools", name, "lead_time_s"), rule, "a vLLM level-1 wake takes about 1 s, an awake spare none"
