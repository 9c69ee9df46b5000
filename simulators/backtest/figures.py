"""A live period as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from scaler.journal.explain import timestamp
from simulators.backtest.backtest import BacktestResult


def as_dict(period: Sequence[BacktestResult], left_out: Mapping[str, str]) -> dict[str, Any]:
    """Everything that the page says, by workload. What is not known is null."""
    return {
        "version": version("forescale"),
        "workloads": {one.recorded.name: _workload(one) for one in period},
        "left_out": dict(left_out),
    }


def _workload(one: BacktestResult) -> dict[str, Any]:
    found, recorded = one.found, one.recorded
    return {
        "since": timestamp(float(recorded.at[0])),
        "span_s": round(recorded.span_s, 3),
        "silent_s": round(recorded.silent_s, 3),
        "turns": len(recorded),
        "turns_by_specification": dict(recorded.specs),
        "damaged_lines": recorded.damaged,
        "turns_left_out": recorded.turned_back,
        "dry_run": bool(recorded.columns["dry_run"].any()),
        "recorded": {
            "usd": None if found.unpriced else found.total(found.usd),
            "usd_known_share": found.known(found.usd),
            "unpriced_pools": list(found.unpriced),
            "idle_usd": found.total(found.idle_usd),
            "replica_hours": found.replica_hours,
            "late": found.total(found.late),
            "late_known_share": found.known(found.late),
            "late_told_by": found.late_how,
            "blind_share": found.blind_share,
            "refused_writes": int(recorded.columns["refused"].sum()),
            "turns_without_capacity": int(recorded.columns["short"].sum()),
        },
        "looks": [look.as_dict() for look in one.looks],
        "reasons": {
            name: {"turns": rule.turns, "changes": rule.changes, "said_last": rule.reason, "at": timestamp(rule.at)}
            for name, rule in recorded.reasons.rules.items()
        },
        "changes": [
            {"at": timestamp(c.at), "before": c.before, "after": c.after, "reason": c.reason}
            for c in recorded.reasons.largest
        ],
        "others": _others(one),
    }


def _others(one: BacktestResult) -> dict[str, Any]:
    if one.others is None:
        return {"simulated": False, "why_not": one.why_not}
    rebuilt = None if one.world is None else {
        "requests": len(one.world.rebuilt.trace),
        "seen_share": one.world.rebuilt.seen,
        "how": list(one.world.how),
        "promised": one.world.promised,
    }  # fmt: skip
    return {
        "simulated": True,
        "rebuilt": rebuilt,
        "error": one.others.error.as_dict(),
        "policies": {outcome.name: outcome.as_dict() for outcome in one.others.outcomes},
        "left_out": list(one.others.left_out),
    }
