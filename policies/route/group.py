"""A member of a group: the demand that others hand over, and its state for them."""

from __future__ import annotations

from typing import Final

from policies.guard.bounds import with_override_bounds
from policies.history.ticks import History
from policies.model import (
    Absent,
    Decision,
    Evidence,
    Fresh,
    Observation,
    Recommendation,
    Stale,
    WorkloadName,
)
from policies.model.group import MemberStatus
from policies.model.names import RATE_WINDOW, SignalName
from policies.model.spec import WorkloadSpec
from policies.recommend.evaluate import Evaluated
from policies.recommend.need_bounds import max_need
from policies.route import supply
from policies.route.demand import group_policy, own_need, service_time_s
from policies.route.size import with_recommendations
from policies.signals.rate_windows import rate_window_s

UNKNOWN_WINDOW_S: Final = 60.0
"""Window of the rates of a source that does not state it. Seconds."""


def with_handed_demand(
    evaluated: Evaluated, spec: WorkloadSpec, observation: Observation, current: int | None
) -> Evaluated:
    """Return the recommendations with that of the group, for requests that are to come.

    Example: the own requests need 3.0 replicas. Another member hands over 4 requests per second, of which it sends 1
    so far. With 2 requests per second a replica, the group recommends 3.0 + 3 / 2 = 4.5.
    """
    if spec.group_key is None or evaluated.demand is None:
        return evaluated
    recommendation = _group_recommendation(spec, evaluated, observation)
    if recommendation is None:
        return evaluated
    return with_recommendations(evaluated, [recommendation], max_need(spec, current))


def _group_recommendation(spec: WorkloadSpec, evaluated: Evaluated, observation: Observation) -> Recommendation | None:
    """Return the recommendation of the group; None where no more requests are to come."""
    policy, name = group_policy(spec), WorkloadName(spec.workload)
    route = next(iter(spec.routes.values()), None)
    service_s = service_time_s(route, evaluated.recommendations)
    due = {}
    for member, reading in observation.members.items():
        if isinstance(reading, Absent):
            continue
        handed, sent = reading.value.handed.get(name, 0.0), reading.value.sent.get(name)
        if handed and (isinstance(reading, Stale) or sent is None or service_s is None):
            reason = f"{member} hands over requests, and it is not known how many are to come"
            return Recommendation(policy, None, Evidence.BLIND, True, reason)
        if handed > (sent or 0.0):
            due[member] = handed - (sent or 0.0)
    if not due or service_s is None or evaluated.demand is None:
        return None
    replicas = evaluated.demand + sum(due.values()) * service_s
    senders = " and ".join(f"{rate:.1f} requests/s of {member}" for member, rate in due.items())
    reason = f"the own need of {evaluated.demand:.1f} and {senders} to come need {replicas:.1f} replicas"
    return Recommendation(policy, replicas, Evidence.FULL, True, reason)


def member_status(spec: WorkloadSpec, history: History, observation: Observation, decision: Decision) -> MemberStatus:
    """Return the state of a workload for the other members of its group, after a decision."""
    spec = with_override_bounds(spec, observation.at)
    ready = 0.0
    for name, pool in spec.serving_pools.items():
        reading = observation.pools.get(name)
        ready += reading.value.ready * pool.work_per_replica if isinstance(reading, Fresh) else 0.0
    route = next(iter(spec.routes.values()), None)
    service_s = service_time_s(route, decision.recommendations)
    regions = {pool.region for pool in spec.serving_pools.values()}
    return MemberStatus(
        ready=ready,
        need=own_need(spec, decision.recommendations) if decision.may_scale_in else None,
        max_supply=supply.proven_supply(spec, history, observation),
        requests_per_replica_per_s=1.0 / service_s if service_s else None,
        usd_per_hour=supply.next_usd_per_hour(spec, history, observation),
        region=regions.pop() if len(regions) == 1 else None,
        sent=_sent(spec, observation),
        handed=_handed(decision),
        settle_s=_settle_s(spec, observation),
    )


def _settle_s(spec: WorkloadSpec, observation: Observation) -> float:
    """Return the time after which the need shows a change of the requests. Seconds.

    It is the longest window of the sources and one tick. Example: with rates over 60 s and a tick of 15 s, 75 s.
    """
    windows_s = [_window_s(source, spec, observation) for source in spec.sources]
    return max(windows_s, default=UNKNOWN_WINDOW_S) + spec.interval_s


def _window_s(source: str, spec: WorkloadSpec, observation: Observation) -> float:
    """Return the window of a source's rates, as it reports or states it. Seconds."""
    reading = observation.readings.get(SignalName(f"{source}.{RATE_WINDOW}"))
    window_s = reading.value if isinstance(reading, Fresh) else rate_window_s(spec, source)
    return UNKNOWN_WINDOW_S if window_s is None else window_s


def _sent(spec: WorkloadSpec, observation: Observation) -> dict[WorkloadName, float | None]:
    """Return the requests per second to each member that a route names; None where unknown."""
    sent: dict[WorkloadName, float | None] = {}
    for name, route in spec.routes.items():
        reading = observation.routes.get(name)
        status = reading.value if isinstance(reading, Fresh) else None
        rate = None if status is None else status.requests_per_s
        for backend, workload in route.workloads.items():
            sent[workload] = None if status is None or rate is None else rate * status.share(backend)
    return sent


def _handed(decision: Decision) -> dict[WorkloadName, float]:
    return {name: rate for split in decision.routes.values() for name, rate in split.handed.items()}
