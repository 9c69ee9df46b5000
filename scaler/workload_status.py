"""The status of a custom resource, from the last tick of its workload."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from policies.model import Fresh, Tick
from scaler.clock import iso_time
from scaler.config.custom_resource import ABLE_TO_SCALE, ACCEPTED, MAX_REASON, READY, SCALING_ACTIVE
from scaler.journal.explain import verdict


class Condition(NamedTuple):
    """A condition: its status (None: unknown), its reason in CamelCase, and its message."""

    status: bool | None
    reason: str
    message: str


VALID: Final = Condition(True, "Valid", "the specification is valid")
WAITING: Final = Condition(None, "NoTick", "no tick has ended yet")


def status_of(
    tick: Tick | None, accepted: Condition, generation: int | None, stored: Mapping[str, Any], now: float
) -> dict[str, Any]:
    """Return the status of a workload after its last tick. Unknown values are absent, never 0.

    `stored` is the present status: a condition that keeps its value keeps the time of its last transition.
    """
    conditions = {
        ACCEPTED: accepted,
        ABLE_TO_SCALE: WAITING if tick is None else _able_to_scale(tick),
        SCALING_ACTIVE: WAITING if tick is None else _scaling_active(tick),
    }
    failed = [c for c in conditions.values() if c.status is False]
    unknown = [c for c in conditions.values() if c.status is None]
    ready = next(iter(failed + unknown), None) or Condition(True, "Scaling", "the workload is scaled")
    status: dict[str, Any] = {} if tick is None else _values(tick)
    if generation is not None:
        status["observedGeneration"] = generation
    times = _transition_times(stored)
    status["conditions"] = [
        _body(kind, condition, generation, times, now) for kind, condition in (*conditions.items(), (READY, ready))
    ]
    return status


def _able_to_scale(tick: Tick) -> Condition:
    """Return whether the sizes of all pools are known, and the last writes were accepted."""
    for name, reading in tick.observation.pools.items():
        if not isinstance(reading, Fresh):
            error = tick.observation.pool_errors.get(name) or "its size is unknown"
            return Condition(False, "UnknownSize", f"pool {name}: {error}")
    for outcome in tick.outcomes:
        if outcome.result.refused:
            reason = "".join(word.capitalize() for word in outcome.result.value.split("_"))
            return Condition(False, reason, f"pool {outcome.pool}: {outcome.reason}")
    return Condition(True, "ReadyForNewScale", "the sizes of all pools are known")


def _scaling_active(tick: Tick) -> Condition:
    """Return whether a policy recommends a size from fresh readings."""
    if tick.decision.demand is not None:
        return Condition(True, "ValidReadings", "a policy recommends a size")
    errors = [f"source {name}: {error}" for name, error in tick.observation.source_errors.items()]
    reasons = [f"{r.policy}: {r.reason}" for r in tick.decision.recommendations]
    return Condition(False, "Blind", "; ".join(errors or reasons) or "no policy has a fresh reading")


def _values(tick: Tick) -> dict[str, Any]:
    observation, decision = tick.observation, tick.decision
    sizes = [reading.value for reading in observation.pools.values() if isinstance(reading, Fresh)]
    written = {o.pool: o.after for o in tick.outcomes if not o.result.refused}
    values: dict[str, Any] = {"reason": verdict(tick)[:MAX_REASON]}
    if len(sizes) == len(observation.pools):
        desired = [
            written.get(pool, reading.value.desired)
            for pool, reading in observation.pools.items()
            if isinstance(reading, Fresh)
        ]
        values |= {"desired": sum(desired), "ready": sum(size.ready for size in sizes)}
    if decision.demand is not None:
        values["demand"] = round(decision.demand, 2)
    if decision.cost_usd_per_hour is not None:
        values["costUsdPerHour"] = round(decision.cost_usd_per_hour, 2)
    if observation.error_budget is not None:
        values["slo"] = observation.error_budget.state.value
    return values


def _transition_times(stored: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """Return the last transition of each condition, by its type and its status."""
    conditions = stored.get("conditions")
    return {
        (str(c.get("type")), str(c.get("status"))): str(c["lastTransitionTime"])
        for c in (conditions if isinstance(conditions, list) else ())
        if isinstance(c, dict) and c.get("lastTransitionTime")
    }


def _body(
    kind: str, condition: Condition, generation: int | None, times: Mapping[tuple[str, str], str], now: float
) -> dict[str, Any]:
    status = "Unknown" if condition.status is None else str(condition.status)
    body: dict[str, Any] = {
        "type": kind,
        "status": status,
        "lastTransitionTime": times.get((kind, status), f"{iso_time(now)[:19]}Z"),
        "reason": condition.reason,
        "message": condition.message[:MAX_REASON],
    }
    return body if generation is None else {**body, "observedGeneration": generation}


def merge_patch(stored: Mapping[str, Any], desired: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON merge patch (RFC 7396) between two statuses; empty if they are equal.

    A null removes a key.
    """
    removed = dict.fromkeys(stored.keys() - desired.keys())
    return removed | {key: value for key, value in desired.items() if stored.get(key, ...) != value}
