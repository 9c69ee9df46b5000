"""Rules between limits.

The problems are budgets that minimums exceed, missing prices, and an override out of bounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from policies.guard.budget import gpus, reserved_usd_per_hour, usd_per_hour
from policies.history.ticks import MAX_ROWS
from policies.model.spec import WorkloadSpec
from policies.quota import resource_claims
from policies.quota.fleet_quota import FleetLimits
from scaler.config.high_availability import HighAvailability
from scaler.config.yaml_composer import Place

Finding = tuple[Place, str, str]
PRICE = "set price_usd_per_hour of that pool, or market: reserved"


def unpriced(spec: WorkloadSpec) -> list[str]:
    """Return the pools without a price, which a budget in USD needs."""
    return [name for name, pool in spec.pools.items() if pool.market != "reserved" and pool.price_usd_per_hour is None]


def limits(spec: WorkloadSpec) -> Iterator[Finding]:
    """Yield the problems between one workload's limits."""
    budget, override = spec.budget, spec.override
    if budget.usd_per_hour is not None:
        for name in unpriced(spec):
            rule = f"is required because budget.usd_per_hour is {budget.usd_per_hour:g}"
            yield ("pools", name, "price_usd_per_hour"), rule, "set the price of a replica, or market: reserved"
    for key, maximum, unit in (("gpus", budget.gpus, gpus), ("usd_per_hour", budget.usd_per_hour, usd_per_hour)):
        minimum = resource_claims.minimum_claim(spec, unit)
        if maximum is not None and minimum > maximum:
            yield (
                ("budget", key),
                f"must be at least {minimum:g}, the need of min_replicas",
                "raise it, or lower min_replicas",
            )
    if override is not None and not override.beyond_bounds:
        low, high = spec.min_replicas, spec.max_replicas
        if not low <= override.replicas <= high:
            rule = f"must be between min_replicas and max_replicas, {low} to {high}"
            yield ("override", "replicas"), rule, "change it, or set beyond_bounds: true"
    max_window_s = MAX_ROWS * spec.interval_s
    radius = spec.blast_radius
    if radius.share < 1.0 and radius.window_s > max_window_s:
        rule = f"must be at most {max_window_s:g} s: the history holds {MAX_ROWS} ticks"
        yield ("blast_radius", "window_s"), rule, "lower it, or raise interval_s"


def fleet_limits(fleet: FleetLimits, specs: Iterable[WorkloadSpec]) -> Iterator[Finding]:
    """Yield the problems between the fleet's limits and the workloads."""
    specs = list(specs)
    reserved = sum(map(reserved_usd_per_hour, specs))
    for key, maximum, unit, routes in (
        ("max_gpus", fleet.max_gpus, gpus, 0.0),
        ("max_usd_per_hour", fleet.max_usd_per_hour, usd_per_hour, reserved),
    ):
        minimum = routes + sum(resource_claims.minimum_claim(spec, unit) for spec in specs)
        if maximum is not None and minimum > maximum:
            budgets, remedy = (" and overflow budgets", ", or these budgets") if routes else ("", "")
            rule = f"must be at least {minimum:g}, the need of all workloads' min_replicas{budgets}"
            yield ("daemon", "fleet", key), rule, f"raise it, or lower their min_replicas{remedy}"
    if fleet.max_usd_per_hour is not None:
        for spec in specs:
            for name in unpriced(spec):
                rule = f"requires the price of every pool: pools.{name} of workload {spec.workload} has none"
                yield ("daemon", "fleet", "max_usd_per_hour"), rule, PRICE


def lease_limits(ha: HighAvailability, specs: Iterable[WorkloadSpec]) -> Iterator[Finding]:
    """Yield the workloads whose writes do not fit into the validity of a lease."""
    for spec in specs:
        least_s = spec.deadline_s + ha.lease.renew_s
        if ha.lease.duration_s <= least_s:
            rule = f"must be above {least_s:g}, the sum of renew_s and the deadline_s of workload {spec.workload}"
            yield ("daemon", "ha", "lease", "duration_s"), rule, "raise it, or lower one of the two"
