"""Rules between several records.

A record states the rules between its own fields in ``problems()``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, Final, Literal, NewType, get_args, get_origin, get_type_hints

from policies.allocate import quantum
from policies.history.ticks import MAX_ROWS
from policies.model.pool import Pool
from policies.model.spec import WorkloadSpec
from scaler.config.derived import Finding
from scaler.config.headroom_tiers import tiers
from scaler.config.limits import limits
from scaler.config.yaml_composer import Place
from scaler.registry import did_you_mean, kind_of

LEAVES: Final = frozenset({str, int, float, bool, type(None)})
"""Types of values that contain no record. Most fields have one of them."""
REPLACED: Final = ("cooldown_s", "tolerance", "scale_up", "scale_down")
"""A workload's settings that have no effect under a policy with its own stabilization."""


def own_problems(record: Any, place: Place = ()) -> Iterator[Finding]:
    """Yield the problems of every record in the tree.

    A record's ``problems()`` yields them as (field, rule) pairs.
    """
    if dataclasses.is_dataclass(record):
        if hasattr(record, "problems"):
            for field, rule in record.problems():
                yield (*place, field) if field else place, rule, ""
        cls: Any = type(record)
        for name in _fields_with_problems(cls):
            yield from own_problems(getattr(record, name), (*place, name))
    elif isinstance(record, tuple):
        for i, value in enumerate(record):
            yield from own_problems(value, (*place, i))
    elif isinstance(record, Mapping):
        for key, value in record.items():
            yield from own_problems(value, (*place, key))


@cache
def _fields_with_problems(cls: Any) -> tuple[str, ...]:
    """Return the fields of a record class whose values may contain a record with ``problems()``."""
    return tuple(name for name, hint in get_type_hints(cls).items() if _may_have_problems(hint))


def _may_have_problems(hint: Any) -> bool:
    if dataclasses.is_dataclass(hint):
        cls: Any = hint
        return hasattr(cls, "problems") or bool(_fields_with_problems(cls))
    if isinstance(hint, NewType) or get_origin(hint) is Literal:
        return False
    args = get_args(hint)
    return any(map(_may_have_problems, args)) if args else hint not in LEAVES


def deciding_sources(spec: WorkloadSpec) -> Iterator[Finding]:
    """Yield the problems of the policies and bounds, which can be checked without sources."""
    for name, policy in spec.policies.items():
        yield from own_problems(policy, ("policies", name))
    yield from bounds(spec)
    yield from named_pools(spec)


def named_pools(spec: WorkloadSpec) -> Iterator[Finding]:
    """Yield the pools that a policy names and that do not exist."""
    for name, policy in spec.policies.items():
        for pool in getattr(policy, "pools_named", tuple)():
            if pool not in spec.pools:
                hint = did_you_mean(pool, list(spec.pools)) or f"pools: {', '.join(spec.pools)}"
                yield ("policies", name), f"names pool {pool!r}, which is not in pools", hint


def routed_pools(spec: WorkloadSpec) -> Iterator[Finding]:
    """Yield the pools that a route names and that do not exist or do not serve."""
    for name, route in spec.routes.items():
        for backend, settings in route.backends.items():
            place: Place = ("routes", name, "backends", backend, "pool")
            pool = settings.pool
            if pool is not None and pool not in spec.pools:
                hint = did_you_mean(pool, list(spec.pools)) or f"pools: {', '.join(spec.pools)}"
                yield place, "is not in pools", hint
            elif pool is not None and pool not in spec.serving_pools:
                yield place, f"has the tier {spec.pools[pool].tier}, and must serve", "name a pool with tier: serving"


def residency(spec: WorkloadSpec) -> Iterator[Finding]:
    """Yield the pools and providers in regions where prompts must not be processed."""
    places: dict[Place, str | None] = {("pools", name): pool.region for name, pool in spec.pools.items()}
    for name, route in spec.routes.items():
        for backend, provider in route.providers.items() if route.allow_external else ():
            places["routes", name, "backends", backend, "provider"] = provider.region
    allowed = ", ".join(spec.regions)
    for place, region in places.items() if spec.regions else ():
        if region is None:
            yield (*place, "region"), f"must be set, because regions allows only {allowed}", "name its region"
        elif not any(fnmatchcase(region, pattern) for pattern in spec.regions):
            hint = f"remove this {place[-1] if place[-1] == 'provider' else 'pool'}, or allow its region in regions"
            yield (*place, "region"), f"must be in regions, which allows only {allowed}", hint


def localities(spec: WorkloadSpec) -> Iterator[Finding]:
    """Yield the routes that prefer near backends, none of which has a region."""
    for name, route in spec.routes.items():
        pools = [spec.pools[b.pool] for b in route.backends.values() if b.pool in spec.pools]
        if route.prefer == "locality" and not any(place.region for place in (*pools, *route.providers.values())):
            rule = "has no effect: no pool and no provider of the route has a region"
            yield ("routes", name, "prefer"), rule, "set region of its pools and providers, or remove prefer"


def rate_windows(spec: WorkloadSpec) -> Iterator[Finding]:
    """Yield the policies whose `rate_window_s` differs from the window of their source's rates."""
    for name, policy in spec.policies.items():
        window_s = getattr(policy, "rate_window_s", None)
        source_s = getattr(spec.sources.get(policy.source), "window_s", None) if window_s is not None else None
        if source_s is not None and source_s != window_s:
            rule = f"must equal sources.{policy.source}.window_s, {source_s:g}"
            yield ("policies", name, "rate_window_s"), rule, "remove it: the policy then follows its source"


def stabilization_problems(spec: WorkloadSpec) -> Iterator[Finding]:
    """Yield the conflicts with a policy that has its own stabilization.

    The conflicts are with other policies and with settings.
    """
    name = next((name for name, policy in spec.policies.items() if policy.owns_stabilization), None)
    if name is None:
        return
    policy = spec.policies[name]
    own = f"{kind_of('policy', policy)} has its own windows, tolerance and rate limits"
    if len(spec.policies) > 1:
        rule = f"must be the only policy of the workload: {own}"
        yield ("policies", name), rule, "remove the other policies, or move each to its own workload and pool"
    for field in dataclasses.fields(spec):
        key, factory = field.name, field.default_factory
        default = factory() if factory is not dataclasses.MISSING else field.default
        if key in REPLACED and getattr(spec, key) != default:
            yield (key,), f"has no effect: {own}", f"remove it, and set the counterpart under policies.{name}"
    if policy.lookback_s > MAX_ROWS * spec.interval_s:
        rule = f"is too short: {name} looks back {policy.lookback_s:g} s, and the history holds {MAX_ROWS} ticks"
        yield (
            ("interval_s",),
            rule,
            f"set it to at least {policy.lookback_s / MAX_ROWS:.3g}, or shorten the windows of {name}",
        )


def live_kinds(specs: Iterable[WorkloadSpec]) -> Iterator[tuple[str, str]]:
    """Yield the kinds of adapters that need the real clock, as (rule, hint)."""
    for spec in specs:
        kinds = {kind_of("source", s) for s in spec.sources.values()} | {
            kind_of("pool", p) for p in spec.pools.values()
        }
        kinds |= {kind_of("route", r) for r in spec.routes.values()}
        for kind in sorted(kinds - {"embedded"}):
            yield f"is for embedded worlds only, and workload {spec.workload} uses {kind}", "remove speed and start"


def _fits(pool: Pool, cap: int) -> bool:
    """Return whether a positive multiple of the pool's quantum lies within its bounds."""
    return quantum.round_up(max(1, pool.min_replicas), pool.quantum) <= quantum.bounds(pool, cap)[1]


def bounds(spec: WorkloadSpec) -> Iterator[Finding]:
    """Yield bounds that contradict each other.

    Yield also a `min_replicas` of 0 that no policy could scale out from.
    """
    if spec.min_replicas > spec.max_replicas:
        yield ("min_replicas",), f"must be at most max_replicas, {spec.max_replicas}", "lower it, or raise max_replicas"
    for name, pool in spec.pools.items():
        if pool.max_replicas is not None and pool.min_replicas > pool.max_replicas:
            yield ("pools", name, "min_replicas"), f"must be at most the pool's max_replicas, {pool.max_replicas}", ""
        elif pool.max_replicas != 0 and not _fits(pool, spec.max_replicas):
            remedy = "set min_replicas and max_replicas to multiples of quantum"
            yield (
                ("pools", name, "quantum"),
                f"has no multiple of {pool.quantum} between min_replicas and max_replicas",
                remedy,
            )
    yield from tiers(spec)
    serving = [p for p in spec.pools.values() if p.tier == "serving"]
    minimum = sum(quantum.round_up(p.min_replicas, p.quantum) for p in serving)
    if minimum > spec.max_replicas:
        yield (
            ("max_replicas",),
            f"must be at least the sum of the pools' min_replicas, {minimum}",
            "raise it, or lower the pools' min_replicas",
        )
    maximum = sum(quantum.bounds(p, spec.max_replicas)[1] for p in serving)
    fitting = serving and all(p.max_replicas == 0 or _fits(p, spec.max_replicas) for p in serving)
    if fitting and maximum < min(spec.min_replicas, spec.max_replicas):
        yield (
            ("min_replicas",),
            f"must be at most the sum of the pools' max_replicas, {maximum}",
            "lower it, or raise the pools' max_replicas",
        )
    if spec.min_replicas == 0 and not any(p.can_activate for p in spec.policies.values()):
        yield (
            ("min_replicas",),
            "may be 0 only with a policy that detects load at zero replicas",
            "set it to 1, or add queue_depth, concurrency on a gateway, a metric total or a schedule",
        )
    yield from rate_windows(spec)
    if (
        spec.policies
        and all(p.post_demand for p in spec.policies.values())
        and not any(p.can_activate for p in spec.policies.values())
    ):
        yield (
            ("policies",),
            "needs a policy that measures demand",
            "add one, such as predictive: headroom only adds to it",
        )
    yield from limits(spec)
    yield from stabilization_problems(spec)
    if spec.deadline_s >= spec.interval_s and spec.interval_s >= 1:
        yield (
            ("deadline_s",),
            f"must be below interval_s, {spec.interval_s:g} s",
            "lower it: a slow read would delay the next tick",
        )
