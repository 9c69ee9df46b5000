"""Rows of a workload's routes: the decided share and the measured requests of each backend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from policies.model import Absent, Fresh, Tick
from policies.model.route import RouteDecision, RouteStatus, share_of
from scaler.telemetry.dashboard.columns import number


def routes(tick: Tick) -> list[dict[str, Any]]:
    """Return each route's split, its reason and cost, and the outcome of its write."""
    outcomes = {o.route: o for o in tick.route_outcomes}
    rows = []
    for name, split in tick.decision.routes.items():
        reading, outcome = tick.observation.routes.get(name, Absent("")), outcomes.get(name)
        status = reading.value if isinstance(reading, Fresh) else None
        rows.append(
            {
                "route": name,
                "demand": number(split.demand),
                "usd_per_hour": number(split.usd_per_hour),
                "retry_after_s": number(split.retry_after_s),
                "reason": split.reason,
                "backends": list(_backends(split, status)),
                "result": "" if outcome is None else outcome.result.value.replace("_", " "),
                "refusal": "" if outcome is None else outcome.reason,
                "error": tick.observation.route_errors.get(name, ""),
            }
        )
    return rows


def _backends(split: RouteDecision, status: RouteStatus | None) -> Iterator[dict[str, Any]]:
    """Yield the backends of a split, with their requests where they are measured."""
    over_s = 0.0 if status is None else status.over_s
    for name in split.weights:
        traffic = None if status is None else status.traffic.get(name)
        yield {
            "backend": name,
            "share": number(share_of(split.weights, name)),
            "requests_per_s": number(traffic.requests / over_s) if traffic is not None and over_s > 0.0 else None,
            "error_share": number(traffic.errors / traffic.requests) if traffic and traffic.requests else None,
        }
