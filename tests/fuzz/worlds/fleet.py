"""Random pools: markets, zones with changing capacity, slow starts, and responses to requests for more."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.fuzz.worlds.rng import WorldRng

PHASES: Final = ("node", "image", "weights", "compile", "ready")
NAMES: Final = ("pool-a", "pool-b", "pool-c", "pool-d")


def offers(rng: WorldRng, models: list[str], maximum: int, duration_s: float, files: dict[str, str]) -> dict[str, Any]:
    """Return one to four pools by name. `maximum` is the workload's maximum number of replicas."""
    names = NAMES[: rng.choice((1, 1, 1, 2, 2, 3, 4))]
    return {name: _offer(rng, rng.choice(models), maximum, duration_s, files) for name in names}


def with_failures(rng: WorldRng, offered: dict[str, Any], maximum: int) -> dict[str, Any]:
    """Return the offers with the failures that their platforms report later."""
    return {name: offer | _failure_options(rng, offer, maximum) for name, offer in offered.items()}


def _offer(rng: WorldRng, model: str, maximum: int, duration_s: float, files: dict[str, str]) -> dict[str, Any]:
    market = rng.choice(("on_demand", "on_demand", "spot", "spot", "reserved"))
    offer: dict[str, Any] = {
        "model": model,
        "price_usd_per_hour": round(rng.scale(0.5, 20.0), 2),
        "market": market,
        "cloud": rng.choice(("aws", "gcp", "azure")),
        "zones": {f"zone-{k}": _zone(rng, market, maximum, duration_s, files) for k in range(rng.choice((1, 1, 2, 3)))},
        "placement": rng.choice(("balanced", "ordered")),
        "on_shortage": rng.choice(("wait", "refuse", "partial")),
        "scale_in": rng.choice(("least_loaded", "newest", "oldest")),
        "replace": rng.happens(0.8),
        "grace_s": rng.choice((None, None, 0.0, 30.0)),
        "start_up": _start_up(rng),
    }
    if rng.happens(0.2):
        offer["quota"] = rng.integer(0, 2 * maximum)
    if market == "spot":
        offer |= _spot(rng)
    if rng.happens(0.2):
        offer["headroom"] = {tier: rng.integer(0, 2) for tier in ("awake_spare", "slept", "warm_node")}
    return offer


def _failure_options(rng: WorldRng, offer: dict[str, Any], maximum: int) -> dict[str, Any]:
    """Return random failure rules, zones in the status, and reservations in the status.

    Half of the pools with failures have little capacity, so that failures occur.
    """
    document: dict[str, Any] = {}
    if rng.happens(0.5):
        failures: dict[str, Any] = {
            "after_s": rng.choice((1.0, 15.0, 60.0, 300.0)),
            "then": rng.choice(("retry", "retry", "stay", "roll_back")),
            "retry_s": rng.choice((15.0, 60.0, 300.0)),
        }
        if offer["on_shortage"] == "wait" and rng.happens(0.5):
            failures["quota"] = True
            document["quota"] = offer.get("quota", rng.integer(0, maximum))
        document["failures"] = failures
        if offer["market"] != "reserved" and rng.happens(0.5):
            few = {name: {**zone, "capacity": rng.integer(0, 2)} for name, zone in offer["zones"].items()}
            document["zones"] = {
                name: few[name] if "trace" not in zone else zone for name, zone in offer["zones"].items()
            }
    reports = [what for what, may in (("parts", True), ("reserved", offer["market"] == "reserved")) if may]
    document["reports"] = [what for what in reports if rng.happens(0.5)]
    return document


def _start_up(rng: WorldRng) -> dict[str, Any]:
    """Return start-up phases with a total median of 30 s to 12 minutes."""
    total_s, sigma = rng.scale(30, 720), rng.choice((0.0, 0.2, 0.6))
    parts = [rng.share(0.05, 1.0) for _ in PHASES]
    return {
        phase: {"median_s": round(total_s * part / sum(parts), 1), "sigma": sigma}
        for phase, part in zip(PHASES, parts, strict=True)
    }


def _spot(rng: WorldRng) -> dict[str, Any]:
    return {
        "reclaim": rng.choice(("random", "newest")),
        "on_notice": rng.choice(("replace", "serve")),
        "on_rebalance": rng.choice(("replace", "serve")),
        "notices": rng.choice(
            (
                None,
                {"notice_s": 0.0},
                {"notice_s": 120.0, "missing_share": 0.5},
                {"notice_s": 30.0, "rebalance_s": 300.0, "rebalance_missing_share": 0.5},
            )
        ),
    }


def _zone(rng: WorldRng, market: str, maximum: int, duration_s: float, files: dict[str, str]) -> dict[str, Any]:
    capacity = rng.integer(0, 2 * maximum)
    if market == "reserved":
        return {"capacity": rng.integer(1, maximum)}
    zone: dict[str, Any] = {"losses_per_node_hour": rng.choice((0.0, 0.0, 0.5, 5.0))}
    changes = rng.choice(("none", "none", "steps", "outages", "trace"))
    if changes == "steps":
        count = rng.integer(1, 6)
        times = [round((k + rng.share(0.0, 0.9)) * duration_s / count, 1) for k in range(count)]
        zone |= {"capacity": capacity, "steps": [{"at_s": at, "nodes": rng.integer(0, 2 * maximum)} for at in times]}
    elif changes == "outages":
        durations = {key: {"median_s": rng.scale(30, duration_s), "sigma": rng.share(0, 1.5)} for key in ("up", "down")}
        zone |= {"capacity": capacity, "outages": durations}
    elif changes == "trace":
        name = f"capacity-{len(files)}.json"
        data = [rng.integer(0, maximum) for _ in range(rng.integer(2, 20))]
        files[name] = json.dumps({"metadata": {"gap_seconds": rng.choice((60, 300))}, "data": data})
        zone["trace"] = {"file": name}
    elif rng.happens(0.5):
        zone["capacity"] = capacity
    return zone
