"""Rules between the workloads of a group, whose routes send requests to one another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

from policies.model import WorkloadName
from policies.model.spec import WorkloadSpec
from scaler.config.derived import Finding
from scaler.config.yaml_composer import Place
from scaler.registry import did_you_mean


def group_settings(spec: WorkloadSpec) -> Iterator[Finding]:
    """Yield the problems of backends that are workloads, as far as one workload shows them."""
    routes = [name for name, route in spec.routes.items() if route.workloads]
    for name in routes[1:]:
        rule = f"must not have workloads in backends, which route {routes[0]} has: one gateway measures the demand"
        yield ("routes", name, "backends"), rule, "move these backends to that route"
    for place, target in _backends(spec):
        if target == spec.workload:
            yield place, "must be another workload", "name a pool of this one with pool:"
        elif spec.group is None:
            yield place, "needs a group", "set group in both workloads"


def member_problems(spec: WorkloadSpec, specs: Mapping[WorkloadName, WorkloadSpec]) -> Iterator[Finding]:
    """Yield the backends whose workload does not exist or must not get requests."""
    for place, target in _backends(spec):
        other = specs.get(target)
        if other is None:
            hint = did_you_mean(target, list(specs)) or "add it, or remove this backend"
            yield place, "is not a workload of this configuration", hint
        elif other.group_key != spec.group_key:
            rule = f"must be in group {spec.group}, as this workload is"
            yield place, rule, f"set group: {spec.group} in workload {target}, in the same namespace"
        else:
            yield from _residency(spec, other, place)


def _backends(spec: WorkloadSpec) -> Iterator[tuple[Place, WorkloadName]]:
    for name, route in spec.routes.items():
        for backend, workload in route.workloads.items():
            yield ("routes", name, "backends", backend, "workload"), workload


def _residency(spec: WorkloadSpec, other: WorkloadSpec, place: Place) -> Iterator[Finding]:
    """Yield the backend if its workload has a pool where prompts must not be processed."""
    for name, pool in other.serving_pools.items() if spec.regions else ():
        if pool.region is None or not any(fnmatchcase(pool.region, pattern) for pattern in spec.regions):
            where = "an unknown region" if pool.region is None else pool.region
            rule = f"has pool {name} in {where}, and regions allows only {', '.join(spec.regions)}"
            yield place, rule, "remove this backend, or allow the region in regions"
            return
