"""Random limits of the owner's: budgets, blast radius, maintenance, a size set by hand, promises. Most have none."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from tests.fuzz.worlds.rng import Chance

SHARE: Final = 0.12
"""Of worlds that have one of these, each for itself."""


def guards(chance: Chance, scaled: Mapping[str, Any], start: str, duration_s: float) -> dict[str, Any]:
    """The keys that limit a workload, given its document without them and when its world begins."""
    most: int = scaled["max_replicas"]
    found: dict[str, Any] = {}
    if chance.happens(SHARE):
        found["budget"] = _budget(chance, scaled)
    if chance.happens(SHARE):
        found["blast_radius"] = {"share": chance.one((0.05, 0.25, 0.5)), "window_s": chance.one((60.0, 600.0))}
    if chance.happens(SHARE):
        windows = [_maintenance(chance) for _ in range(chance.whole(1, 2))]
        found["maintenance"] = {"windows": windows, "time_zone": chance.one(("UTC", "Europe/Berlin"))}
    if chance.happens(SHARE):
        found["override"] = _override(chance, scaled["min_replicas"], most, start, duration_s)
    if chance.happens(3 * SHARE):
        found["slo"] = {"ttft_s": chance.scale(0.1, 10.0), "itl_s": chance.one((None, 0.02, 0.1))}
    return found


def _budget(chance: Chance, scaled: Mapping[str, Any]) -> dict[str, Any]:
    """From what the minimums take to more than all could."""
    pools = scaled["pools"].values()
    least = max(scaled["min_replicas"], sum(pool.get("min_replicas", 0) for pool in pools))
    replicas = chance.whole(least, 2 * scaled["max_replicas"])
    if chance.happens(0.5) or any("price_usd_per_hour" not in pool for pool in pools):
        return {"gpus": replicas * max(pool.get("gpus_per_replica", 1) for pool in pools)}
    return {"usd_per_hour": replicas * max(pool["price_usd_per_hour"] for pool in pools)}


def _maintenance(chance: Chance) -> dict[str, Any]:
    hour, minute = chance.whole(0, 2), chance.whole(0, 59)
    mode = chance.one(("hold", "no_scale_in", "no_scale_out"))
    return {"start": f"{hour:02d}:{minute:02d}", "end": f"{hour + chance.whole(1, 2):02d}:00", "mode": mode}


def _override(chance: Chance, least: int, most: int, start: str, duration_s: float) -> dict[str, Any]:
    beyond = chance.happens(0.5)
    until = datetime.fromisoformat(start) + timedelta(seconds=round(chance.share(0.0, 1.5) * duration_s))
    replicas = chance.whole(0, most + 3) if beyond else chance.whole(least, most)
    return {"replicas": replicas, "until": until.isoformat(), "reason": "the swarm", "beyond_bounds": beyond}
