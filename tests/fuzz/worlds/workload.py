"""Random workloads: what is read, what is wanted, and within which limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from policies.allocate import quantum
from simulators.world.telemetry import QUANTITIES
from tests.fuzz.worlds.policies import ENGINES, QUEUE, Wish, wishes
from tests.fuzz.worlds.rng import Chance
from tests.fuzz.worlds.traffic import Load

QUEUE_URL: Final = "https://sqs.us-east-1.amazonaws.com/123456789012/prompts"
WAKING: Final = frozenset({"queue_depth", "concurrency", "schedule"})
"""Kinds that can tell work at zero replicas, whatever their parameters."""


def workload(
    chance: Chance, pools: Mapping[str, Mapping[str, Any]], load: Load, most: int, interval_s: float
) -> dict[str, Any]:
    """A workload's document but for its guards, for the pools offered, a load and `most` replicas at most."""
    queued = chance.happens(0.4)
    sources = frozenset({QUEUE, *([ENGINES] if chance.happens(0.6) else [])}) if queued else frozenset({ENGINES})
    wanted = wishes(chance, sources, load, most)
    names = {name: _source_of(chance, wish) for name, wish in wanted.items()}
    wakes = any(wish.document["kind"] in WAKING for wish in wanted.values())
    least = 0 if wakes and chance.happens(0.5) else chance.one((1, 1, 1, chance.whole(1, most)))
    return {
        "workload": "swarm",
        "min_replicas": least,
        "max_replicas": most,
        "interval_s": interval_s,
        "deadline_s": interval_s / 2,
        "cooldown_s": chance.one((0.0, 30.0, 120.0, 300.0)),
        "tolerance": chance.one((0.0, 0.1, 0.1, 0.5)),
        "paused": chance.happens(0.03),
        "scale_up": _scale_up(chance),
        "scale_down": _scale_down(chance),
        "sources": dict(_sources(chance, wanted, names)),
        "policies": {name: _named(wish, names[name]) for name, wish in wanted.items()},
        "pools": _pools(chance, pools, least, most),
    }


def _source_of(chance: Chance, wish: Wish) -> str | None:
    """The name of the source that a policy reads: there may be two of the engines."""
    return chance.one((ENGINES, ENGINES, "other-engines")) if wish.source == ENGINES else wish.source


def _named(wish: Wish, source: str | None) -> dict[str, Any]:
    return wish.document if source is None else {**wish.document, "source": source}


def _sources(
    chance: Chance, wanted: Mapping[str, Wish], names: Mapping[str, str | None]
) -> Sequence[tuple[str, dict[str, Any]]]:
    """The sources that the policies read, each with what they read of it and now and then something else."""
    read: dict[str, set[str]] = {}
    for name, wish in wanted.items():
        source = names[name]
        if source is not None:
            read.setdefault(source, set()).update(wish.quantities)
    return [(source, _source(chance, source, sorted(read[source]))) for source in sorted(read)]


def _source(chance: Chance, name: str, quantities: list[str]) -> dict[str, Any]:
    max_age_s = chance.one((30.0, 60.0, 60.0, 180.0))
    if name == QUEUE:
        return {"kind": "sqs", "queue_url": QUEUE_URL, "max_age_s": max_age_s}
    if chance.happens(0.3):
        quantities = sorted({*quantities, chance.one(list(QUANTITIES))})
    if chance.happens(0.3) and "utilization" not in quantities:
        pages = {"preset": "vllm", "service": "http://engines:8000/metrics", "read": quantities}
        return {"kind": "scrape", **pages, "max_age_s": max_age_s}
    queries = {quantity: f"sum({quantity})" for quantity in quantities}
    return {"kind": "prometheus", "url": "http://localhost:9090", "queries": queries, "max_age_s": max_age_s}


def _scale_up(chance: Chance) -> dict[str, Any]:
    return {
        "window_s": chance.one((0.0, 0.0, 0.0, 30.0, 120.0)),
        "period_s": chance.one((5.0, 15.0, 60.0, 300.0)),
        "max_replicas": chance.one((1, 4, 1000)),
        "max_share": chance.one((0.0, 0.5, 1.0, 3.0)),
    }


def _scale_down(chance: Chance) -> dict[str, Any]:
    return {
        "window_s": chance.one((0.0, 30.0, 60.0, 120.0, 300.0)),
        "period_s": chance.one((5.0, 15.0, 60.0, 300.0)),
        "max_replicas": chance.one((1, 4, 1000)),
        "max_share": chance.one((0.0, 0.5, 1.0)),
        "max_evidence_gap_s": chance.one((1.0, 60.0, 120.0)),
    }


def _pools(
    chance: Chance, offered: Mapping[str, Mapping[str, Any]], least: int, most: int
) -> dict[str, dict[str, Any]]:
    """The workload's view of the pools offered: bounds that leave room for the workload's own, price and market."""
    room = most
    pools = {}
    for name, offer in offered.items():
        pool: dict[str, Any] = {"kind": "kubernetes", "name": name, "market": offer["market"]}
        if chance.happens(0.3):
            pool["min_replicas"] = chance.whole(0, min(2, room))
        if chance.happens(0.4):
            pool["max_replicas"] = max(pool.get("min_replicas", 0), chance.whole(0, most))
        if chance.happens(0.7):
            pool["price_usd_per_hour"] = offer["price_usd_per_hour"]
        if chance.happens(0.3):
            pool |= {"zone": chance.one(list(offer["zones"])), "accelerator": chance.one(("h100", "l40s"))}
        if chance.happens(0.2):
            pool["gpus_per_replica"] = chance.one((1, 2, 8))
        room -= pool.get("min_replicas", 0)
        pools[name] = pool
    if sum(pool.get("max_replicas", most) for pool in pools.values()) < least:
        for pool in pools.values():
            pool.pop("max_replicas", None)
    return pools


def quantized(chance: Chance, scaled: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The workload's pools, some of which come and go in multiples, where bounds have room for one."""
    pools: dict[str, dict[str, Any]] = dict(scaled["pools"])
    for name, pool in scaled["pools"].items():
        if chance.happens(0.3):
            shaped = {**pools, name: {**pool, "quantum": chance.one((2, 2, 3, 4, 8))}}
            pools = shaped if _possible(scaled, shaped) else pools
    return pools


def _possible(scaled: Mapping[str, Any], pools: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether bounds hold multiples of every quantum, and leave the workload its minimum and its maximum."""
    most: int = scaled["max_replicas"]
    low = [quantum.round_up(pool.get("min_replicas", 0), pool.get("quantum", 1)) for pool in pools.values()]
    high = [quantum.round_down(pool.get("max_replicas", most), pool.get("quantum", 1)) for pool in pools.values()]
    fit = all(
        max(n, pool.get("quantum", 1)) <= limit or pool.get("max_replicas") == 0
        for pool, n, limit in zip(pools.values(), low, high, strict=True)
    )
    return fit and sum(low) <= most and sum(high) >= scaled["min_replicas"]
