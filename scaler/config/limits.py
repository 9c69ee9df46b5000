"""Limits against each other: budgets that minimums exceed, missing prices, a size set by hand out of bounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from policies.guard.budget import gpus, usd_per_hour
from policies.history.ticks import MAX_ROWS
from policies.model.spec import WorkloadSpec
from policies.quota import resource_claims
from policies.quota.fleet_quota import FleetLimits
from scaler.config.yaml_composer import Place

Finding = tuple[Place, str, str]
PRICE = "set price_usd_per_hour there, or market: reserved"


def unpriced(spec: WorkloadSpec) -> list[str]:
    """Return the pools whose price a budget of money needs and lacks."""
    return [name for name, pool in spec.pools.items() if pool.market != "reserved" and pool.price_usd_per_hour is None]


def limits(spec: WorkloadSpec) -> Iterator[Finding]:
    """Yield what is wrong between one workload's limits."""
    budget, override = spec.budget, spec.override
    if budget.usd_per_hour is not None:
        for name in unpriced(spec):
            rule = f"is required, since budget.usd_per_hour is {budget.usd_per_hour:g}"
            yield ("pools", name, "price_usd_per_hour"), rule, "what a replica costs, or market: reserved"
    for key, most, unit in (("gpus", budget.gpus, gpus), ("usd_per_hour", budget.usd_per_hour, usd_per_hour)):
        least = resource_claims.minimum_claim(spec, unit)
        if most is not None and least > most:
            yield ("budget", key), f"is below what the minimum takes, {least:g}", "raise it, or lower min_replicas"
    if override is not None and not override.beyond_bounds:
        low, high = spec.min_replicas, spec.max_replicas
        if not low <= override.replicas <= high:
            rule = f"must lie within min_replicas and max_replicas, {low} to {high}"
            yield ("override", "replicas"), rule, "or say beyond_bounds: true"
    remembered_s = MAX_ROWS * spec.interval_s
    radius = spec.blast_radius
    if radius.share < 1.0 and radius.window_s > remembered_s:
        rule = f"must be at most {remembered_s:g}: {MAX_ROWS} turns are remembered"
        yield ("blast_radius", "window_s"), rule, "or raise interval_s"


def across(limits_: FleetLimits, specs: Iterable[WorkloadSpec]) -> Iterator[Finding]:
    """Yield what is wrong between the fleet's limits and the workloads."""
    specs = list(specs)
    for key, most, unit in (
        ("max_gpus", limits_.max_gpus, gpus),
        ("max_usd_per_hour", limits_.max_usd_per_hour, usd_per_hour),
    ):
        least = sum(resource_claims.minimum_claim(spec, unit) for spec in specs)
        if most is not None and least > most:
            rule = f"is below what the workloads' minimums take together, {least:g}"
            yield ("daemon", "fleet", key), rule, "raise it, or lower their min_replicas"
    if limits_.max_usd_per_hour is not None:
        for spec in specs:
            for name in unpriced(spec):
                rule = f"needs a price of every pool: pools.{name} of workload {spec.workload} has none"
                yield ("daemon", "fleet", "max_usd_per_hour"), rule, PRICE
