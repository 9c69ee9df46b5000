"""The split of a route: ready pools first, then other workloads and providers, and back."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from policies.history.ticks import History
from policies.model import Absent, Decision, Observation
from policies.model.names import BackendName, RouteName
from policies.model.route import RouteDecision, share_of
from policies.model.spec import WorkloadSpec
from policies.route.drain import drain_memory
from policies.route.ejection import BackendHealth
from policies.route.hysteresis import held_share
from policies.route.pools import pool_shares
from policies.route.providers import FILL, may_overflow
from policies.route.situation import DEMAND, LASTING_DEMAND, RISE, Situation, rank_key, situation_of
from policies.route.words import because, kept_reason

HELD_S = "held_s"
"""Key of a route's memory: time since the last change of the weights. Seconds."""


def split_routes(
    spec: WorkloadSpec, history: History, observation: Observation, decision: Decision
) -> dict[RouteName, RouteDecision]:
    """Return the split of each route. A pure function, like the size."""
    return {name: _split(spec, history, observation, decision, name) for name in spec.routes}


def _split(
    spec: WorkloadSpec, history: History, observation: Observation, decision: Decision, name: RouteName
) -> RouteDecision:
    situation = situation_of(spec, history, observation, decision, name)
    if situation is None:
        return _unread(history, observation, name)
    problem = _blind(situation)
    if problem:
        return _kept(situation, problem, _memory(situation, {}))
    if not situation.ready:
        return _without_replicas(situation, history)
    must = _must_change(situation)
    shares, memory = _shares(situation, is_free=bool(must))
    if not must and not _is_worth_a_change(situation, shares):
        return _kept(situation, kept_reason(situation), _memory(situation, memory))
    held_s = situation.memory.get(HELD_S, math.inf) + situation.elapsed_s
    settle_s = situation.status.settle_s
    if not must and held_s < max(situation.route.hold_s, settle_s):
        setting = "hold_s" if settle_s <= situation.route.hold_s else "the TTL of the records"
        return _kept(situation, f"the last change was {held_s:.0f} s ago ({setting})", _memory(situation, memory))
    return _changed(situation, shares, because(situation, shares, must), memory)


def _unread(history: History, observation: Observation, name: RouteName) -> RouteDecision:
    """Return the last split of a route whose gateway could not be read."""
    last, reading = history.routes.get(name), observation.routes.get(name, Absent("never read"))
    error = observation.route_errors.get(name) or (reading.reason if isinstance(reading, Absent) else "too old")
    reason = f"the weights stay: the gateway could not be read ({error})"
    if last is not None:
        return dataclasses.replace(last, reason=reason, is_kept=True)
    return RouteDecision({} if isinstance(reading, Absent) else reading.value.weights, reason, True)


def _blind(situation: Situation) -> str:
    """Return why the weights must stay as they are; empty where they may change."""
    route, status = situation.route, situation.status
    if situation.spec.paused:
        return "the weights stay: the workload is paused"
    if status.other_writer and route.on_other_writer == "yield":
        return f"the weights stay: {status.other_writer}"
    if situation.unread_pools:
        return f"the weights stay: the readiness of {situation.unread_pools} is unknown"
    if not status.weights and situation.ready:
        return ""  # there is no split that could stay
    needs_demand = may_overflow(route) or bool(route.workloads) or situation.outside > 0.0
    if needs_demand and situation.demand.replicas is None:
        return f"the weights stay: {situation.demand.missing}"
    return ""


# --- the share of other workloads and providers


def needed_share(situation: Situation) -> float:
    """Return the share of requests that should not reach the own pools.

    It is the share that ready pools cannot carry within the SLO, or what other members of the group are to carry, if
    that is more, within all limits. Providers get no handed requests.

    Example: 3 ready replicas of a demand of 4.2 leave 1 - 3 / 4.2 = 28.6 %.
    """
    demand, usable = situation.expected_demand, sum(situation.usable.values())
    excess = 1.0 if not usable else max(0.0, 1.0 - usable / demand) if demand else 0.0
    members = sum(situation.member_shares(max(excess, situation.handed_share)).values())
    external = min(max(0.0, excess - members), situation.route.overflow.max_share)
    return members + sum(situation.market.shares(external).values())


def _outside(situation: Situation, *, is_free: bool) -> tuple[float, dict[str, float]]:
    """Return the share that does not reach the own pools, with the memory of its hysteresis.

    Where the present split must change, the needed share applies.
    """
    needed, min_fall = needed_share(situation), situation.route.min_change
    return (needed, {}) if is_free else held_share(situation, situation.outside, needed, min_fall)


# --- the split


def _shares(situation: Situation, *, is_free: bool) -> tuple[dict[BackendName, float], dict[str, float]]:
    """Return the share of each backend, with the memory of the hysteresis.

    A share of providers that stays may fill their limits as the rate of requests changes. `is_free` is whether the
    present split must change.
    """
    share, memory = _outside(situation, is_free=is_free)
    members = situation.member_shares(share)
    external = max(0.0, share - sum(members.values()))
    outside = members | situation.market.shares(external, fill=1.0 if share == situation.outside else FILL)
    pools, held = pool_shares(situation, 1.0 - sum(outside.values()), is_free=is_free)
    return outside | pools, memory | held


def _must_change(situation: Situation) -> str:
    """Return why the present split must not stay; empty where it may."""
    if not situation.status.weights:
        return "the gateway does not split requests yet"
    allowed = situation.capacity.keys() | {offer.name for offer in situation.market.offers}
    allowed |= {offer.backend for offer in situation.members if not situation.health[offer.backend].ejected_s}
    for name, share in situation.applied.items():
        if share > 0.0 and name not in allowed:
            return f"{name} must get no requests: {_why_not(situation, name)}"
    if situation.external > situation.route.overflow.max_share + 1.0 / situation.route.weight_total:
        return "providers have more than max_share"
    return situation.market.excess(situation.applied) or _avoidably_late(situation)


def _avoidably_late(situation: Situation) -> str:
    """Return which late provider is to lose requests that another one can take; else empty."""
    possible = situation.market.shares(situation.external)
    verb = "begin" if situation.route.latency_term == "ttft_s" else "end"
    for name, share in situation.applied.items():
        health = situation.health.get(name, BackendHealth())
        if health.late and health.ejected_s and possible.get(name, share) < share - situation.route.min_change / 2:
            return (
                f"the responses of {name} {verb} late ({health.latency_s:.1f} s; the limit is"
                f" {situation.max_latency_s:g} s), and it is ejected for {health.ejected_s:.0f} s"
            )
    return ""


def _why_not(situation: Situation, name: BackendName) -> str:
    """Return why a backend may not get requests."""
    if name not in situation.route.backends:
        return "it is not configured"
    if name in situation.status.unhealthy:
        return "its health check fails"
    if situation.health[name].ejected_s > 0.0:
        traffic = situation.status.traffic.get(name)
        failed = "" if traffic is None else f" ({traffic.errors:g} of {traffic.requests:g} requests failed)"
        return f"it fails{failed}, and is ejected for {situation.health[name].ejected_s:.0f} s"
    if name in situation.emptied:
        return "its pool is resized to 0"
    if name in situation.pools:
        return "no replica of it is ready"
    if not may_overflow(situation.route):
        return "providers are not allowed (allow_external, overflow.max_usd_per_hour)"
    return "its cost is unknown: the tokens of a request are not known"


def _is_worth_a_change(situation: Situation, shares: Mapping[BackendName, float]) -> bool:
    """Return whether a split differs enough from the present one.

    It does by `min_change`, or if it uses other backends.
    """
    changes = (abs(shares.get(name, 0.0) - share) for name, share in situation.applied.items())
    used = {name for name, share in weights_of(shares, situation).items() if share > 0}
    return max(changes) >= situation.route.min_change or used != {n for n, s in situation.applied.items() if s > 0.0}


def weights_of(shares: Mapping[BackendName, float], situation: Situation) -> dict[BackendName, int]:
    """Return shares as weights with the sum `weight_total`.

    Shares of providers are rounded down, so that no limit is exceeded. The largest share takes what rounding leaves.
    """
    total = situation.route.weight_total
    weights = {name: int(shares.get(name, 0.0) * total + 1e-6) for name in situation.route.backends}
    pools = {name: share for name, share in shares.items() if name in situation.pools and share > 0.0} or shares
    weights[max(pools, key=lambda name: pools[name])] += total - sum(weights.values())
    return weights


def _without_replicas(situation: Situation, history: History) -> RouteDecision:
    """Return the split while no pool has a ready replica that stays.

    As configured, others get all requests, the weights stay, or requests are rejected. Where other members of the group
    can take a part of the requests, that part is not rejected.
    """
    route = situation.route
    if route.zero_replicas == "hold":
        return _kept(situation, "no replica is ready: the gateway holds requests", _memory(situation, {}))
    if route.zero_replicas == "overflow":
        shares, cause = _all_outside(situation), "no replica is ready"
        keeps_part = not route.can_reject or any(shares.get(name) for name in route.workloads)
        if sum(shares.values()) < 1.0 - 1e-9 and keeps_part:
            shares, cause = _filled_up(situation, shares), f"{cause}, and no provider may take the rest, which fails"
        if sum(shares.values()) >= 1.0 - 1e-9:
            if not situation.market.excess(situation.applied) and not _is_worth_a_change(situation, shares):
                return _kept(situation, kept_reason(situation), _memory(situation, {}))
            return _changed(situation, shares, because(situation, shares, cause), {})
    memories, pools = history.pool_memories, situation.pools.values()
    leads = [memories.of(pool).lead_times.usual_s(situation.spec.pools[pool].lead_time_s) for pool in pools]
    reason = "no replica is ready" if route.zero_replicas == "reject" else "no replica is ready, and no provider fits"
    reason = f"{reason}: requests are rejected, to be sent again after {min(leads):.0f} s"
    demand, memory = situation.demand.replicas, _memory(situation, {HELD_S: 0.0})
    rejects, wait_s = situation.status.rejects, math.ceil(min(leads))
    return RouteDecision({}, reason, rejects, demand, 0.0, wait_s, memory, situation.handed)


def _all_outside(situation: Situation) -> dict[BackendName, float]:
    """Return the shares while all requests must leave the pools, as far as the limits allow it."""
    members = situation.member_shares(1.0)
    return members | situation.market.shares(1.0 - sum(members.values()))


def _filled_up(situation: Situation, shares: Mapping[BackendName, float]) -> dict[BackendName, float]:
    """Return shares of providers with the rest on a pool.

    The gateway answers the requests to it with an error. It is the pool with the most desired replicas, which can serve
    first.
    """
    statuses = {name: situation.pool(name) for name in situation.pools}
    pool = max(statuses, key=lambda name: 0 if (status := statuses[name]) is None else status.desired)
    return {**shares, pool: 1.0 - sum(shares.values())}


# --- decisions


def _changed(
    situation: Situation, shares: Mapping[BackendName, float], reason: str, memory: Mapping[str, float]
) -> RouteDecision:
    weights = weights_of(shares, situation)
    applied = {name: share_of(weights, name) for name in weights}
    for name in situation.route.workloads:
        if applied[name] != situation.applied[name]:
            sent = applied[name] * (situation.demand.requests_per_s or 0.0)
            memory = {**memory, **situation.neighbours.changed_memory(name, sent)}
    memory = _memory(situation, {**memory, HELD_S: 0.0})
    usd_per_hour, demand = _usd_per_hour(situation, applied), situation.demand.replicas
    return RouteDecision(weights, reason, False, demand, usd_per_hour, memory=memory, handed=situation.handed)


def _kept(situation: Situation, reason: str, memory: Mapping[str, float]) -> RouteDecision:
    usd_per_hour = _usd_per_hour(situation, situation.applied)
    weights = dict(situation.status.weights)
    demand = situation.demand.replicas
    return RouteDecision(weights, reason, True, demand, usd_per_hour, memory=memory, handed=situation.handed)


def _usd_per_hour(situation: Situation, shares: Mapping[BackendName, float]) -> float | None:
    """Return the cost of the requests to providers; None where it is unknown."""
    used = {name for name, share in shares.items() if share > 0.0 and name in situation.providers}
    if not used:
        return 0.0
    known = used <= {offer.name for offer in situation.market.offers} and situation.demand.requests_per_s is not None
    return situation.market.usd_per_hour(shares) if known else None


def _memory(situation: Situation, changed: Mapping[str, float]) -> dict[str, float]:
    """Return the memory for the next tick."""
    held = {HELD_S: situation.memory[HELD_S] + situation.elapsed_s} if HELD_S in situation.memory else {}
    replicas = situation.demand.replicas
    demand = {} if replicas is None else {DEMAND: replicas, RISE: situation.rise}
    health = {key: value for name, h in situation.health.items() for key, value in h.memory(name).items()}
    order = _order(situation) | _members(situation)
    return {**situation.tokens, **demand, **order, **health, **drain_memory(situation), **held, **changed}


def _order(situation: Situation) -> dict[str, float]:
    """Return what a preference remembers: the lasting demand, or the order of the providers."""
    if situation.route.prefer == "latency":
        return {rank_key(name): float(rank) for name, rank in situation.ranks.items()}
    lasting = situation.lasting_demand if situation.route.prefer == "locality" or situation.members else None
    return {} if lasting is None else {LASTING_DEMAND: lasting}


def _members(situation: Situation) -> dict[str, float]:
    """Return what is remembered of other members: changed prices and recent changes of shares."""
    memory: dict[str, float] = {}
    for name in situation.route.workloads:
        memory |= situation.neighbours.shift_memory(name) | situation.neighbours.settled_memory(name)
    return memory
