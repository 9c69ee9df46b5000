"""Warnings about a valid workload: settings that do less than they say.

``forescale check`` prints them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, Final

from policies.allocate import quantum
from policies.model.spec import Slo, WorkloadSpec
from policies.signals.latency_quantities import LATENCIES
from scaler.clouds.engines.presets import BUCKET_BOUNDS_S, PRESETS
from scaler.config.derived import Finding, list_remedy
from scaler.config.kinds.kubernetes import Published
from scaler.config.partners import Partners
from scaler.registry import kind_of

MAX_SCRAPES_PER_AGE: Final = 2
"""Scrape intervals in a `max_age_s`, as its description recommends."""


def warnings(spec: WorkloadSpec, partners: Partners) -> Iterator[Finding]:
    """Yield the warnings about a workload: place, what is wrong, remedy."""
    if partners == Partners():
        yield from _unserved_pools(spec)
    yield from _empty_pools(spec)
    if spec.slo is not None:
        yield from _unmeasured_limits(spec, spec.slo)
        yield from _limits_between_buckets(spec, spec.slo)
        yield from _policies_without_slo(spec)
    yield from _short_windows(spec)
    yield from _unknown_capacity(spec)


def _unknown_capacity(spec: WorkloadSpec) -> Iterator[Finding]:
    """Yield the group of a workload that no other member can send requests to."""
    learned = any(kind_of("policy", policy) == "predictive" for policy in spec.policies.values())
    stated = any(route.requests_per_replica_per_s is not None for route in spec.routes.values())
    if spec.group is not None and not (learned or stated):
        rule = "sends this workload no requests: it is not known how many of them a replica carries"
        yield ("group",), rule, "use the policy predictive, or set requests_per_replica_per_s of a route"


def _unserved_pools(spec: WorkloadSpec) -> Iterator[Finding]:
    """Yield the published pools, whose size no other autoscaler can read without a server."""
    for name, pool in spec.pools.items():
        if isinstance(pool, Published):
            rule = "is published, and no server for other autoscalers is set"
            yield ("pools", name), rule, "set daemon.partners.keda or daemon.partners.external_metrics"


def _empty_pools(spec: WorkloadSpec) -> Iterator[Finding]:
    """Yield the pools whose maximum is less than one quantum: they are scaled in to zero."""
    for name, pool in spec.pools.items():
        limit = spec.max_replicas if pool.max_replicas is None else min(spec.max_replicas, pool.max_replicas)
        if limit and quantum.bounds(pool, spec.max_replicas)[1] == 0:
            rule = f"never has a replica: its quantum is {pool.quantum}, and at most {limit} is allowed"
            yield ("pools", name), rule, f"set max_replicas to {pool.quantum} or more"


def _unmeasured_limits(spec: WorkloadSpec, slo: Slo) -> Iterator[Finding]:
    """Yield the limits whose late requests no source reports."""
    read = {quantity for source in spec.sources.values() for quantity in source.quantities()}
    others = f"limit {' or '.join(LATENCIES)}, which engines report"
    for key in slo.limits_s:
        latency = LATENCIES.get(key)
        if latency is None:
            yield ("slo", key), "is not measured: no source reports the duration of whole requests", others
        elif latency.late_share not in read:
            mean = latency.mean in read or latency.p95 in read
            rule = "is estimated from means" if mean else "is not measured"
            other = f"add a source with preset: vllm, or a query named {latency.late_share}"
            remedy = list_remedy(spec.sources, (latency.late_share,)) or other
            yield ("slo", key), f"{rule}: no source reads {latency.late_share}", remedy


def _limits_between_buckets(spec: WorkloadSpec, slo: Slo) -> Iterator[Finding]:
    """Yield the limits that are not a bucket bound of the engine's histogram.

    Example: 2 lies between vLLM's bounds 1 and 2.5. Of the requests in this bucket, (2 - 1) / (2.5 - 1) = 67 % count as
    in time, wherever in it they are.
    """
    presets = dict.fromkeys(str(getattr(source, "preset", None)) for source in spec.sources.values())
    for preset in presets:
        for key, limit_s in slo.limits_s.items():
            bounds_s = BUCKET_BOUNDS_S.get(preset, {}).get(key, ())
            if not bounds_s or limit_s in bounds_s:
                continue
            i = bisect_left(bounds_s, limit_s)
            near = [f"{bound_s:g}" for bound_s in bounds_s[max(0, i - 1) : i + 1]]
            rule = f"is not a bucket bound of {preset}'s histogram, so the late share between bounds is interpolated"
            yield ("slo", key), rule, f"set it to {' or '.join(near)}, the nearest bounds"


def _policies_without_slo(spec: WorkloadSpec) -> Iterator[Finding]:
    """Yield the policies that measure demand by targets of their own."""
    for name, policy in spec.policies.items():
        if policy.needs() and not getattr(policy, "follows_slo", False):
            rule = "ignores the SLO: its own target sets the size"
            yield ("policies", name), rule, "use kind predictive, or a target that keeps the SLO"


def _short_windows(spec: WorkloadSpec) -> Iterator[Finding]:
    """Yield the windows that may hold a single scrape: a rate takes two.

    The scrape interval is not configured here. By its description, a `max_age_s` of 60 covers scrapes every 30 s.
    """
    for name, source in spec.sources.items():
        window_s, age_s = getattr(source, "window_s", None), getattr(source, "max_age_s", None)
        if window_s is None or age_s is None or window_s >= age_s or not _reads_rates(source):
            continue
        interval_s = age_s / MAX_SCRAPES_PER_AGE
        rule = f"is less than two scrape intervals of {interval_s:g} s, for which max_age_s of {age_s:g} s is set"
        yield ("sources", name, "window_s"), rule, "set window_s to four of your scrape intervals, and max_age_s to two"


def _reads_rates(source: Any) -> bool:
    preset = PRESETS.get(getattr(source, "preset", None) or "", {})
    return any(preset[quantity].needs_history for quantity in source.quantities() if quantity in preset)
