"""A workload's current state, signals and pools, from its last tick."""

from __future__ import annotations

import math
from typing import Any, Final

from policies.model import Absent, Fresh, PoolStatus, Reading, Result, RuleId, Stale, Tick
from scaler.journal.explain import remarks, verdict
from scaler.telemetry.dashboard.columns import unit
from scaler.telemetry.dashboard.decisions import problem
from scaler.telemetry.dashboard.workload_facts import Facts

STATES: Final = ("stalled", "refused", "blind", "yielding", "paused", "starting", "scaling", "dry run", "ok")
"""States of a workload, the most severe first. Several may apply."""


def states(tick: Tick, facts: Facts) -> list[str]:
    """Return the states that apply to a workload, the most severe first.

    "stalled" is not among them: no tick has it.
    """
    d = tick.decision
    results = {o.result for o in tick.outcomes}
    applies = {
        "refused": any(r.refused and r is not Result.CONFLICT for r in results),
        "blind": d.target is None or not d.may_scale_in,
        "yielding": Result.CONFLICT in results or _yields(tick),
        "paused": facts.paused,
        "scaling": d.current != d.target or (d.target is not None and d.ready != d.target),
        "dry run": tick.dry_run,
    }
    return [state for state in STATES if applies.get(state)] or ["ok"]


def summary(tick: Tick, facts: Facts) -> dict[str, Any]:
    """Return a workload's line in the list."""
    d = tick.decision
    return {
        "at": tick.at,
        "states": states(tick, facts),
        "demand": number(d.demand),
        "current": d.current,
        "desired": d.target,
        "ready": d.ready,
        "verdict": verdict(tick),
        "problem": problem(tick),
    }


def signals(tick: Tick) -> list[dict[str, Any]]:
    """Return each signal's last value, its age and its state."""
    return [
        {"signal": name, "unit": unit(name), **_reading(r, tick.at)} for name, r in tick.observation.readings.items()
    ]


def pools(tick: Tick) -> list[dict[str, Any]]:
    """Return each pool's observed size, and the outcome of its target."""
    outcomes = {o.pool: o for o in tick.outcomes}
    rows = []
    for name, reading in tick.observation.pools.items():
        outcome = outcomes.get(name)
        rows.append(
            {
                "pool": name,
                **_size(reading, tick.at),
                "target": None if outcome is None else outcome.after,
                "result": "" if outcome is None else outcome.result.value.replace("_", " "),
                "reason": "" if outcome is None else outcome.reason,
                "error": tick.observation.pool_errors.get(name, ""),
            }
        )
    return rows


def number(value: float | None, digits: int = 4) -> float | None:
    """Return a rounded value for strict JSON, and None if it is not finite."""
    return round(value, digits) if value is not None and math.isfinite(value) else None


def _yields(tick: Tick) -> bool:
    """Return whether another writer controls a pool."""
    sizes = (r.value for r in tick.observation.pools.values() if not isinstance(r, Absent))
    return any(s.other_writer for s in sizes) and any(s.rule == RuleId.UNMANAGED_POOLS for s in tick.decision.steps)


def _reading(reading: Reading[float], now: float) -> dict[str, Any]:
    match reading:
        case Fresh(value, measured_at, missing):
            state = {"state": "partial", "reason": f"a lower bound: {missing}"} if missing else {"state": "fresh"}
            return {**state, "value": number(value), "age_s": number(max(0.0, now - measured_at), 1)}
        case Stale(value, _, age_s):
            return {"state": "stale", "value": number(value), "age_s": number(age_s, 1)}
        case Absent(reason):
            return {"state": "absent", "value": None, "age_s": None, "reason": reason}


def _size(reading: Reading[PoolStatus], now: float) -> dict[str, Any]:
    match reading:
        case Fresh(s, measured_at):
            state, age_s = "fresh", max(0.0, now - measured_at)
        case Stale(s, _, age_s):
            state = "stale"
        case Absent(reason):
            return {"state": "absent", "why": reason}
    return {
        "state": state,
        "age_s": number(age_s, 1),
        "desired": s.desired,
        "ready": s.ready,
        "interruption_pending": s.interruption_pending,
        "failed": s.failed,
        "pending": s.pending,
        "remarks": list(remarks(s)),
    }
