"""A workload's current state, cost, SLO and signals, from its last tick."""

from __future__ import annotations

from typing import Any, Final

from policies.model import Absent, ErrorBudget, Fresh, Reading, Result, RuleId, SloState, Stale, Tick
from policies.model.error_budget import HOUR_S
from scaler.journal.explain import verdict
from scaler.telemetry.dashboard.columns import number, unit
from scaler.telemetry.dashboard.decisions import direction, kind, problem
from scaler.telemetry.dashboard.interruptions import RECENT_S
from scaler.telemetry.dashboard.pool_rows import markets, unpriced
from scaler.telemetry.dashboard.stored_ticks import StoredTicks
from scaler.telemetry.dashboard.workload_facts import Facts

STATES: Final = (
    "stalled",
    "unanswered",
    "SLO violated",
    "SLO at risk",
    "refused",
    "blind",
    "interrupted",
    "yielding",
    "paused",
    "starting",
    "scaling out",
    "scaling in",
    "held",
    "dry run",
    "SLO unknown",
    "ok",
)
"""States of a workload, the most severe first. Several may apply."""


def states(tick: Tick, stored: StoredTicks, facts: Facts) -> list[str]:
    """Return the states that apply to a workload, the most severe first.

    "stalled", "unanswered" and "starting" are not among them: no tick has them.
    """
    d, budget = tick.decision, tick.observation.error_budget
    results = {o.result for o in tick.outcomes}
    pending = [not isinstance(r, Absent) and r.value.interruption_pending > 0 for r in tick.observation.pools.values()]
    unfinished = _unfinished(tick)
    applies = {
        "SLO violated": budget is not None and budget.violated,
        "SLO at risk": budget is not None and budget.at_risk,
        "SLO unknown": budget is not None and budget.state is SloState.UNKNOWN,
        "refused": any(r.refused and r is not Result.CONFLICT for r in results),
        "blind": d.target is None or not d.may_scale_in,
        "interrupted": any(pending) or stored.interruptions.count(within_s=RECENT_S) > 0,
        "yielding": Result.CONFLICT in results or _yields(tick),
        "paused": facts.paused,
        "scaling out": unfinished > 0,
        "scaling in": unfinished < 0,
        "held": kind(tick) == "held",
        "dry run": tick.dry_run,
    }
    return [state for state in STATES if applies.get(state)] or ["ok"]


def summary(tick: Tick, stored: StoredTicks, facts: Facts) -> dict[str, Any]:
    """Return a workload's line in the list."""
    d = tick.decision
    return {
        "at": tick.at,
        "states": states(tick, stored, facts),
        "demand": number(d.demand),
        "current": d.current,
        "desired": d.target,
        "ready": d.ready,
        "usd_per_hour": number(d.cost_usd_per_hour),
        "unpriced": unpriced(facts.spec),
        "markets": markets(tick, facts.spec),
        "slo": slo_status(tick.observation.error_budget, tick.at),
        "verdict": verdict(tick),
        "problem": problem(tick),
    }


def slo_status(budget: ErrorBudget | None, at: float) -> dict[str, Any] | None:
    """Return the state of an SLO and its windows of at least an hour; None without an SLO.

    `problem` is the reason why requests are not measured now.
    """
    if budget is None:
        return None
    return {
        "state": budget.state.value,
        "share": budget.share,
        "limits": dict(budget.limits_s),
        "window_s": budget.window_s,
        "remaining": number(budget.remaining, 4),
        "problem": budget.problem,
        "windows": [_burn(budget, window_s, at) for window_s in budget.windows if window_s >= HOUR_S],
    }


def _burn(budget: ErrorBudget, window_s: float, at: float) -> dict[str, Any]:
    """Return the requests, the attainment and the burn rate of one window."""
    count = budget.windows[window_s]
    return {
        "window_s": window_s,
        "since": None if budget.since is None else max(budget.since, at - window_s),
        "measured_s": round(count.measured_s),
        "requests": round(count.requests),
        "late": round(count.late),
        "attainment": number(budget.attainment(window_s), 6),
        "burn_rate": number(budget.burn_rate(window_s), 3),
    }


def signals(tick: Tick) -> list[dict[str, Any]]:
    """Return each signal's last value, its age and its state."""
    return [
        {"signal": name, "unit": unit(name), **_reading(r, tick.at)} for name, r in tick.observation.readings.items()
    ]


def _unfinished(tick: Tick) -> int:
    """Return 1 while the workload grows, -1 while it shrinks, and 0 at its size.

    It is 0 where the size is unknown.

    Example: 4 replicas are decided and 3 are ready: it grows until the fourth one serves.
    """
    d = tick.decision
    if d.target is None or d.ready is None:
        return 0
    return direction(tick) or (d.target > d.ready) - (d.target < d.ready)


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
