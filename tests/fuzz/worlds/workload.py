"""Random workloads: sources, policies, pools and limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from policies.allocate import quantum
from simulators.world.telemetry import QUANTITIES
from tests.fuzz.worlds.policies import ENGINES, QUEUE, RandomPolicy, random_policies
from tests.fuzz.worlds.rng import WorldRng
from tests.fuzz.worlds.traffic import Load

QUEUE_URL: Final = "https://sqs.us-east-1.amazonaws.com/123456789012/prompts"
WAKING: Final = frozenset({"queue_depth", "concurrency", "schedule"})
"""Kinds that detect work at zero replicas with any parameters."""


def workload(
    rng: WorldRng, pools: Mapping[str, Mapping[str, Any]], load: Load, maximum: int, interval_s: float
) -> dict[str, Any]:
    """Return a workload's document without its guards, for the offered pools, a load and `maximum` replicas."""
    queued = rng.happens(0.4)
    sources = frozenset({QUEUE, *([ENGINES] if rng.happens(0.6) else [])}) if queued else frozenset({ENGINES})
    policies_by_name = random_policies(rng, sources, load, maximum)
    names = {name: _source_of(rng, policy) for name, policy in policies_by_name.items()}
    wakes = any(policy.document["kind"] in WAKING for policy in policies_by_name.values())
    minimum = 0 if wakes and rng.happens(0.5) else rng.choice((1, 1, 1, rng.integer(1, maximum)))
    return {
        "workload": "swarm",
        "min_replicas": minimum,
        "max_replicas": maximum,
        "interval_s": interval_s,
        "deadline_s": interval_s / 2,
        "cooldown_s": rng.choice((0.0, 30.0, 120.0, 300.0)),
        "tolerance": rng.choice((0.0, 0.1, 0.1, 0.5)),
        "paused": rng.happens(0.03),
        "scale_up": _scale_up(rng),
        "scale_down": _scale_down(rng),
        "sources": dict(_sources(rng, policies_by_name, names)),
        "policies": {name: _policy_document(policy, names[name]) for name, policy in policies_by_name.items()},
        "pools": _pools(rng, pools, minimum, maximum),
    }


def _source_of(rng: WorldRng, policy: RandomPolicy) -> str | None:
    """Return the name of the source that a policy reads. There may be two sources of the engines."""
    return rng.choice((ENGINES, ENGINES, "other-engines")) if policy.source == ENGINES else policy.source


def _policy_document(policy: RandomPolicy, source: str | None) -> dict[str, Any]:
    return policy.document if source is None else {**policy.document, "source": source}


def _sources(
    rng: WorldRng, policies_by_name: Mapping[str, RandomPolicy], names: Mapping[str, str | None]
) -> Sequence[tuple[str, dict[str, Any]]]:
    """Return the sources that the policies read, with their quantities and sometimes another one."""
    read: dict[str, set[str]] = {}
    for name, policy in policies_by_name.items():
        source = names[name]
        if source is not None:
            read.setdefault(source, set()).update(policy.quantities)
    return [(source, _source(rng, source, sorted(read[source]))) for source in sorted(read)]


def _source(rng: WorldRng, name: str, quantities: list[str]) -> dict[str, Any]:
    max_age_s = rng.choice((30.0, 60.0, 60.0, 180.0))
    if name == QUEUE:
        return {"kind": "sqs", "queue_url": QUEUE_URL, "max_age_s": max_age_s}
    if rng.happens(0.3):
        quantities = sorted({*quantities, rng.choice(list(QUANTITIES))})
    if rng.happens(0.3) and "utilization" not in quantities:
        pages = {"preset": "vllm", "service": "http://engines:8000/metrics", "read": quantities}
        return {"kind": "scrape", **pages, "max_age_s": max_age_s}
    queries = {quantity: f"sum({quantity})" for quantity in quantities}
    return {"kind": "prometheus", "url": "http://localhost:9090", "queries": queries, "max_age_s": max_age_s}


def _scale_up(rng: WorldRng) -> dict[str, Any]:
    return {
        "window_s": rng.choice((0.0, 0.0, 0.0, 30.0, 120.0)),
        "period_s": rng.choice((5.0, 15.0, 60.0, 300.0)),
        "max_replicas": rng.choice((1, 4, 1000)),
        "max_share": rng.choice((0.0, 0.5, 1.0, 3.0)),
    }


def _scale_down(rng: WorldRng) -> dict[str, Any]:
    return {
        "window_s": rng.choice((0.0, 30.0, 60.0, 120.0, 300.0)),
        "period_s": rng.choice((5.0, 15.0, 60.0, 300.0)),
        "max_replicas": rng.choice((1, 4, 1000)),
        "max_share": rng.choice((0.0, 0.5, 1.0)),
        "max_evidence_gap_s": rng.choice((1.0, 60.0, 120.0)),
    }


def _pools(
    rng: WorldRng, offered: Mapping[str, Mapping[str, Any]], minimum: int, maximum: int
) -> dict[str, dict[str, Any]]:
    """Return the workload's pools: the offers' price and market, and bounds compatible with the workload's."""
    remaining = maximum
    pools = {}
    for name, offer in offered.items():
        pool: dict[str, Any] = {"kind": "kubernetes", "name": name, "market": offer["market"]}
        if rng.happens(0.3):
            pool["min_replicas"] = rng.integer(0, min(2, remaining))
        if rng.happens(0.4):
            pool["max_replicas"] = max(pool.get("min_replicas", 0), rng.integer(0, maximum))
        if rng.happens(0.7):
            pool["price_usd_per_hour"] = offer["price_usd_per_hour"]
        if rng.happens(0.3):
            pool |= {"zone": rng.choice(list(offer["zones"])), "accelerator": rng.choice(("h100", "l40s"))}
        if rng.happens(0.2):
            pool["gpus_per_replica"] = rng.choice((1, 2, 8))
        remaining -= pool.get("min_replicas", 0)
        pools[name] = pool
    if sum(pool.get("max_replicas", maximum) for pool in pools.values()) < minimum:
        for pool in pools.values():
            pool.pop("max_replicas", None)
    return pools


def quantized(rng: WorldRng, scaled: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the workload's pools, some with a quantum where the bounds allow it."""
    pools: dict[str, dict[str, Any]] = dict(scaled["pools"])
    for name, pool in scaled["pools"].items():
        if rng.happens(0.3):
            shaped = {**pools, name: {**pool, "quantum": rng.choice((2, 2, 3, 4, 8))}}
            pools = shaped if _is_feasible(scaled, shaped) else pools
    return pools


def _is_feasible(scaled: Mapping[str, Any], pools: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether the bounds contain multiples of every quantum, compatible with the workload's bounds."""
    maximum: int = scaled["max_replicas"]
    low = [quantum.round_up(pool.get("min_replicas", 0), pool.get("quantum", 1)) for pool in pools.values()]
    high = [quantum.round_down(pool.get("max_replicas", maximum), pool.get("quantum", 1)) for pool in pools.values()]
    fit = all(
        max(n, pool.get("quantum", 1)) <= limit or pool.get("max_replicas") == 0
        for pool, n, limit in zip(pools.values(), low, high, strict=True)
    )
    return fit and sum(low) <= maximum and sum(high) >= scaled["min_replicas"]
