"""Random pools: markets, zones that come and go, slow starts, and whatever a cloud says to a wish for more."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.fuzz.worlds.rng import Chance

PHASES: Final = ("node", "image", "weights", "compile", "ready")
NAMES: Final = ("pool-a", "pool-b", "pool-c", "pool-d")


def offers(chance: Chance, models: list[str], most: int, duration_s: float, files: dict[str, str]) -> dict[str, Any]:
    """One to four pools by name; `most` is what the workload may have of all."""
    names = NAMES[: chance.one((1, 1, 1, 2, 2, 3, 4))]
    return {name: _offer(chance, chance.one(models), most, duration_s, files) for name in names}


def talkative(chance: Chance, offered: dict[str, Any], most: int) -> dict[str, Any]:
    """The offers, with what their platforms say later."""
    return {name: offer | _told(chance, offer, most) for name, offer in offered.items()}


def _offer(chance: Chance, model: str, most: int, duration_s: float, files: dict[str, str]) -> dict[str, Any]:
    market = chance.one(("on_demand", "on_demand", "spot", "spot", "reserved"))
    offer: dict[str, Any] = {
        "model": model,
        "price_usd_per_hour": round(chance.scale(0.5, 20.0), 2),
        "market": market,
        "cloud": chance.one(("aws", "gcp", "azure")),
        "zones": {f"zone-{k}": _zone(chance, market, most, duration_s, files) for k in range(chance.one((1, 1, 2, 3)))},
        "placement": chance.one(("balanced", "ordered")),
        "on_shortage": chance.one(("wait", "refuse", "partial")),
        "scale_in": chance.one(("least_loaded", "newest", "oldest")),
        "replace": chance.happens(0.8),
        "grace_s": chance.one((None, None, 0.0, 30.0)),
        "start_up": _start_up(chance),
    }
    if chance.happens(0.2):
        offer["quota"] = chance.whole(0, 2 * most)
    if market == "spot":
        offer |= _spot(chance)
    if chance.happens(0.2):
        offer["headroom"] = {tier: chance.whole(0, 2) for tier in ("awake_spare", "slept", "warm_node")}
    return offer


def _told(chance: Chance, offer: dict[str, Any], most: int) -> dict[str, Any]:
    """What a platform says later: that what it took does not come, where its replicas are, what is held.

    Half of those that say so have little to give, lest they never do.
    """
    found: dict[str, Any] = {}
    if chance.happens(0.5):
        failures: dict[str, Any] = {
            "after_s": chance.one((1.0, 15.0, 60.0, 300.0)),
            "then": chance.one(("retry", "retry", "stay", "roll_back")),
            "retry_s": chance.one((15.0, 60.0, 300.0)),
        }
        if offer["on_shortage"] == "wait" and chance.happens(0.5):
            failures["quota"] = True
            found["quota"] = offer.get("quota", chance.whole(0, most))
        found["failures"] = failures
        if offer["market"] != "reserved" and chance.happens(0.5):
            few = {name: {**zone, "capacity": chance.whole(0, 2)} for name, zone in offer["zones"].items()}
            found["zones"] = {name: few[name] if "trace" not in zone else zone for name, zone in offer["zones"].items()}
    tells = [what for what, may in (("parts", True), ("reserved", offer["market"] == "reserved")) if may]
    found["tells"] = [what for what in tells if chance.happens(0.5)]
    return found


def _start_up(chance: Chance) -> dict[str, Any]:
    """30 s to 12 minutes in the median, shared out over the phases."""
    total_s, sigma = chance.scale(30, 720), chance.one((0.0, 0.2, 0.6))
    parts = [chance.share(0.05, 1.0) for _ in PHASES]
    return {
        phase: {"median_s": round(total_s * part / sum(parts), 1), "sigma": sigma}
        for phase, part in zip(PHASES, parts, strict=True)
    }


def _spot(chance: Chance) -> dict[str, Any]:
    return {
        "reclaim": chance.one(("random", "newest")),
        "on_notice": chance.one(("replace", "serve")),
        "on_rebalance": chance.one(("replace", "serve")),
        "notices": chance.one(
            (
                None,
                {"notice_s": 0.0},
                {"notice_s": 120.0, "missing_share": 0.5},
                {"notice_s": 30.0, "rebalance_s": 300.0, "rebalance_missing_share": 0.5},
            )
        ),
    }


def _zone(chance: Chance, market: str, most: int, duration_s: float, files: dict[str, str]) -> dict[str, Any]:
    capacity = chance.whole(0, 2 * most)
    if market == "reserved":
        return {"capacity": chance.whole(1, most)}
    zone: dict[str, Any] = {"losses_per_node_hour": chance.one((0.0, 0.0, 0.5, 5.0))}
    changes = chance.one(("none", "none", "steps", "outages", "trace"))
    if changes == "steps":
        count = chance.whole(1, 6)
        times = [round((k + chance.share(0.0, 0.9)) * duration_s / count, 1) for k in range(count)]
        zone |= {"capacity": capacity, "steps": [{"at_s": at, "nodes": chance.whole(0, 2 * most)} for at in times]}
    elif changes == "outages":
        spans = {
            key: {"median_s": chance.scale(30, duration_s), "sigma": chance.share(0, 1.5)} for key in ("up", "down")
        }
        zone |= {"capacity": capacity, "outages": spans}
    elif changes == "trace":
        name = f"capacity-{len(files)}.json"
        data = [chance.whole(0, most) for _ in range(chance.whole(2, 20))]
        files[name] = json.dumps({"metadata": {"gap_seconds": chance.one((60, 300))}, "data": data})
        zone["trace"] = {"file": name}
    elif chance.happens(0.5):
        zone["capacity"] = capacity
    return zone
