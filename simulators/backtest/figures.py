"""Figures of a recorded period as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from scaler.journal.explain import timestamp
from simulators.backtest.backtest import BacktestResult
from simulators.backtest.counterfactuals import CounterfactualOutcome, Counterfactuals


def as_dict(period: Sequence[BacktestResult], left_out: Mapping[str, str]) -> dict[str, Any]:
    """Return the page's figures by workload. An unknown figure is None."""
    return {
        "version": version("forescale"),
        "workloads": {result.recorded.name: _workload(result) for result in period},
        "left_out": dict(left_out),
    }


def _workload(result: BacktestResult) -> dict[str, Any]:
    summary, recorded = result.summary, result.recorded
    return {
        "since": timestamp(float(recorded.at[0])),
        "span_s": round(recorded.span_s, 3),
        "silent_s": round(recorded.silent_s, 3),
        "ticks": len(recorded),
        "ticks_by_specification": dict(recorded.specs),
        "damaged_lines": recorded.damaged,
        "ticks_left_out": recorded.out_of_order,
        "dry_run": bool(recorded.columns["dry_run"].any()),
        "recorded": {
            "usd": None if summary.unpriced else summary.total(summary.usd),
            "usd_known_share": summary.known(summary.usd),
            "api_usd": summary.total(summary.api_usd),
            "api_usd_known_share": summary.known(summary.api_usd),
            "unpriced_pools": list(summary.unpriced),
            "idle_usd": summary.total(summary.idle_usd),
            "replica_hours": summary.replica_hours,
            "slo": str(summary.slo_status),
            "slo_reason": summary.late_reason if summary.late_requests is None else "",
            "late": summary.total(summary.late),
            "requests": None if summary.late_requests is None else summary.late_requests.requests,
            "late_known_share": summary.known(summary.late),
            "late_estimated_by": summary.late_method,
            "blind_share": summary.blind_share,
            "refused_writes": int(recorded.columns["refused"].sum()),
            "ticks_without_capacity": int(recorded.columns["short"].sum()),
        },
        "notable_periods": [period.as_dict() for period in result.notable],
        "reasons": {
            name: {"ticks": rule.ticks, "changes": rule.changes, "last_reason": rule.reason, "at": timestamp(rule.at)}
            for name, rule in recorded.reasons.rules.items()
        },
        "changes": [
            {"at": timestamp(c.at), "before": c.before, "after": c.after, "reason": c.reason}
            for c in recorded.reasons.largest
        ],
        "others": _others(result),
    }


def _others(result: BacktestResult) -> dict[str, Any]:
    if result.counterfactuals is None:
        return {"simulated": False, "why_not": result.skip_reason}
    rebuilt = None if result.world is None else {
        "requests": len(result.world.rebuilt.trace),
        "seen_share": result.world.rebuilt.covered,
        "how": list(result.world.assumptions),
        "promised": result.world.has_slo,
    }  # fmt: skip
    return {
        "simulated": True,
        "rebuilt": rebuilt,
        "error": result.counterfactuals.error.as_dict(),
        "policies": {
            outcome.name: {**outcome.as_dict(), "compared": _compared(result.counterfactuals, outcome)}
            for outcome in result.counterfactuals.outcomes
        },
        "left_out": list(result.counterfactuals.left_out),
    }


def _compared(counterfactuals: Counterfactuals, outcome: CounterfactualOutcome) -> dict[str, Any]:
    """Return the differences from the baseline, and whether each is within the method's error."""
    differences = {
        "usd": counterfactuals.usd_difference(outcome),
        "late": counterfactuals.late_difference(outcome),
    }
    return {key: None if checked is None else checked.as_dict() for key, checked in differences.items()}
