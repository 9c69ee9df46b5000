"""Random limits of the operator: budgets, blast radius, maintenance, override, SLO. Most workloads have none."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from tests.fuzz.worlds.rng import WorldRng

LIMIT_SHARE: Final = 0.12
"""Probability of each limit."""


def guards(rng: WorldRng, scaled: Mapping[str, Any], start: str, duration_s: float) -> dict[str, Any]:
    """Return the limits of a workload, from its document without them and the start of its world."""
    maximum: int = scaled["max_replicas"]
    document: dict[str, Any] = {}
    if rng.happens(LIMIT_SHARE):
        document["budget"] = _budget(rng, scaled)
    if rng.happens(LIMIT_SHARE):
        document["blast_radius"] = {"share": rng.choice((0.05, 0.25, 0.5)), "window_s": rng.choice((60.0, 600.0))}
    if rng.happens(LIMIT_SHARE):
        windows = [_maintenance(rng) for _ in range(rng.integer(1, 2))]
        document["maintenance"] = {"windows": windows, "time_zone": rng.choice(("UTC", "Europe/Berlin"))}
    if rng.happens(LIMIT_SHARE):
        document["override"] = _override(rng, scaled["min_replicas"], maximum, start, duration_s)
    if rng.happens(3 * LIMIT_SHARE):
        document["slo"] = {"ttft_s": rng.scale(0.1, 10.0), "itl_s": rng.choice((None, 0.02, 0.1))}
    return document


def _budget(rng: WorldRng, scaled: Mapping[str, Any]) -> dict[str, Any]:
    """Return a budget between the use of the minimums and more than the workload can use."""
    pools = scaled["pools"].values()
    minimum = max(scaled["min_replicas"], sum(pool.get("min_replicas", 0) for pool in pools))
    replicas = rng.integer(minimum, 2 * scaled["max_replicas"])
    if rng.happens(0.5) or any("price_usd_per_hour" not in pool for pool in pools):
        return {"gpus": replicas * max(pool.get("gpus_per_replica", 1) for pool in pools)}
    return {"usd_per_hour": replicas * max(pool["price_usd_per_hour"] for pool in pools)}


def _maintenance(rng: WorldRng) -> dict[str, Any]:
    hour, minute = rng.integer(0, 2), rng.integer(0, 59)
    mode = rng.choice(("hold", "no_scale_in", "no_scale_out"))
    return {"start": f"{hour:02d}:{minute:02d}", "end": f"{hour + rng.integer(1, 2):02d}:00", "mode": mode}


def _override(rng: WorldRng, minimum: int, maximum: int, start: str, duration_s: float) -> dict[str, Any]:
    beyond = rng.happens(0.5)
    until = datetime.fromisoformat(start) + timedelta(seconds=round(rng.share(0.0, 1.5) * duration_s))
    replicas = rng.integer(0, maximum + 3) if beyond else rng.integer(minimum, maximum)
    return {"replicas": replicas, "until": until.isoformat(), "reason": "the swarm", "beyond_bounds": beyond}
