"""Rows of a workload's pools: sizes, place, market, cost and interruptions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from policies.model import Absent, Fresh, PoolName, PoolPart, PoolStatus, Reading, Stale, Tick
from policies.model.pool import Pool
from policies.model.spec import WorkloadSpec
from scaler.journal.explain import remarks
from scaler.telemetry.dashboard.columns import number
from scaler.telemetry.dashboard.interruptions import Interruptions


def pools(tick: Tick, spec: WorkloadSpec | None, interruptions: Interruptions) -> list[dict[str, Any]]:
    """Return each pool's observed size, its settings, and the outcome of its target."""
    outcomes = {o.pool: o for o in tick.outcomes}
    settings: Mapping[PoolName, Pool] = {} if spec is None else spec.pools
    rows = []
    for name, reading in tick.observation.pools.items():
        outcome, pool = outcomes.get(name), settings.get(name)
        rows.append(
            {
                "pool": name,
                **_size(reading, tick.at),
                **_settings(pool),
                "places": list(places(reading, pool)),
                "interrupted": interruptions.count(name),
                "target": None if outcome is None else outcome.after,
                "result": "" if outcome is None else outcome.result.value.replace("_", " "),
                "reason": "" if outcome is None else outcome.reason,
                "error": tick.observation.pool_errors.get(name, ""),
            }
        )
    return rows


def places(reading: Reading[PoolStatus], pool: Pool | None) -> Iterator[dict[str, Any]]:
    """Yield a pool's replicas by zone and market.

    There are none where its size or its settings are unknown.
    """
    if isinstance(reading, Absent) or pool is None:
        return
    s = reading.value
    whole = PoolPart(pool.zone or "", pool.market, s.ready, s.pending, s.interruption_pending)
    for part in s.parts or (whole,):
        replicas = part.ready + part.pending if s.parts else s.desired
        yield {
            "zone": part.zone or None,
            "market": part.market,
            "replicas": replicas,
            "ready": part.ready,
            "pending": part.pending,
            "interruption_pending": part.interruption_pending,
            "gpus": replicas * pool.gpus_per_replica,
            "usd_per_hour": cost(pool, replicas),
        }


def cost(pool: Pool, replicas: int) -> float | None:
    """Return the cost of a pool's replicas in USD per hour; None where they have no price."""
    if not replicas:
        return 0.0
    return None if pool.price_usd_per_hour is None else number(replicas * pool.price_usd_per_hour)


def markets(tick: Tick, spec: WorkloadSpec | None) -> dict[str, int] | None:
    """Return the replicas that each market holds; None where a pool's size is unknown."""
    held: dict[str, int] = {}
    for name, reading in tick.observation.pools.items():
        pool = None if spec is None else spec.pools.get(name)
        if isinstance(reading, Absent) or pool is None:
            return None
        for place in places(reading, pool):
            held[place["market"]] = held.get(place["market"], 0) + place["replicas"]
    return held


def unpriced(spec: WorkloadSpec | None) -> list[PoolName]:
    """Return the pools without a price."""
    return [] if spec is None else [name for name, pool in spec.pools.items() if pool.price_usd_per_hour is None]


def _settings(pool: Pool | None) -> dict[str, Any]:
    keys = ("zone", "market", "accelerator", "tier", "price_usd_per_hour", "gpus_per_replica")
    return {key: getattr(pool, key, None) for key in keys}


def _size(reading: Reading[PoolStatus], now: float) -> dict[str, Any]:
    match reading:
        case Fresh(s, measured_at):
            state, age_s = "fresh", max(0.0, now - measured_at)
        case Stale(s, _, age_s):
            state = "stale"
        case Absent(reason):
            return {"state": "absent", "why": reason}
    return {
        "state": state,
        "age_s": number(age_s, 1),
        "desired": s.desired,
        "ready": s.ready,
        "interruption_pending": s.interruption_pending,
        "failed": s.failed,
        "pending": s.pending,
        "reserved": s.reserved,
        "remarks": list(remarks(dataclasses.replace(s, parts=()))),
    }
