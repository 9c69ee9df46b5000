"""The fleet's page: limits, spend, and the replicas of all pools by zone and market."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from policies.model import Grant, Quota
from policies.quota.fleet_quota import FleetLimits
from scaler.quota_ledger import QuotaLedger
from scaler.telemetry.dashboard.columns import number
from scaler.telemetry.dashboard.pool_rows import pools, unpriced
from scaler.telemetry.dashboard.stored_ticks import StoredTicks
from scaler.telemetry.dashboard.workload_facts import Facts

SUMMED = ("replicas", "ready", "pending", "interruption_pending", "gpus", "usd_per_hour")


def fleet_line(stored: StoredTicks, facts: Facts) -> dict[str, Any] | None:
    """Return a workload's line; None before its first tick and after its removal."""
    tick, spec = stored.last, facts.spec
    if tick is None or spec is None:
        return None
    rows = pools(tick, spec, stored.interruptions)
    unknown = [row["pool"] for row in rows if row["state"] == "absent"]
    return {
        "workload": tick.workload,
        "priority": spec.priority,
        "gpus": None if unknown else sum(place["gpus"] for row in rows for place in row["places"]),
        "usd_per_hour": number(tick.decision.cost_usd_per_hour),
        "unpriced": unpriced(spec),
        "budget": {"gpus": spec.budget.gpus, "usd_per_hour": spec.budget.usd_per_hour},
        "grant": _grant(tick.observation.grant),
        "unknown": unknown,
        "interrupted": stored.interruptions.count(),
        "pools": rows,
    }


def fleet_sums(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sums over workloads, and the places of their pools.

    The cost is that of the workloads with a known one; `without_cost` counts the others.
    """
    costs = [line["usd_per_hour"] for line in lines]
    return {
        "usd_per_hour": number(sum(cost for cost in costs if cost is not None)),
        "without_cost": sum(cost is None for cost in costs),
        "interrupted": sum(line["interrupted"] for line in lines),
        "places": sorted(_places(lines), key=lambda p: -p["gpus"]),
    }


def quota_view(ledger: QuotaLedger) -> dict[str, Any]:
    """Return the limits of the fleet, and what is held of them."""
    return {"limits": _limits(ledger.limits), "held": {key: number(value) for key, value in ledger.held().items()}}


def _places(lines: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    """Return the sums over pools by zone, market and accelerator."""
    places: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in (row for line in lines for row in line["pools"]):
        accelerator = row["accelerator"]
        for place in row["places"]:
            total = places.setdefault(
                (place["zone"] or "", place["market"], accelerator or ""),
                {
                    "zone": place["zone"],
                    "market": place["market"],
                    "accelerator": accelerator,
                    **dict.fromkeys(SUMMED, 0),
                },
            )
            for name in SUMMED:
                total[name] = _sum((total[name], place[name]))
    return places.values()


def _sum(values: Iterable[float | None]) -> float | None:
    """Return the sum, or None if a part of it is unknown."""
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return number(total)


def _limits(limits: FleetLimits) -> dict[str, Any]:
    radius = limits.blast_radius
    return {
        "gpus": limits.max_gpus,
        "usd_per_hour": limits.max_usd_per_hour,
        "blast_radius": None if radius.share >= 1.0 else {"share": radius.share, "window_s": radius.window_s},
    }


def _grant(grant: Grant | None) -> dict[str, Any] | None:
    if grant is None:
        return None
    quotas: dict[str, Quota | None] = {
        "gpus": grant.gpus,
        "usd_per_hour": grant.usd_per_hour,
        "removable": grant.removable,
    }
    return {key: None if quota is None else number(quota.most) for key, quota in quotas.items()}
