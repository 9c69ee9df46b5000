"""A shadow's last turn and what it came to so far, beside the policy that is run."""

from __future__ import annotations

from typing import Any

from scaler.journal.explain import verdict
from scaler.shadow.counterfactual import ComparedSide
from scaler.shadow.runner import Shadow
from scaler.telemetry.dashboard.status import number


def shadow_rows(shadow: Shadow) -> dict[str, Any]:
    """Return the shadow's section of a workload's page. What is not known is null."""
    turn, totals = shadow.last, shadow.totals
    return {
        "at": None if turn is None else turn.tick.at,
        "verdict": "no turn yet" if turn is None else verdict(turn.tick),
        "open_loop": turn is not None and turn.open_loop,
        "first": _side(None if turn is None else turn.first),
        "shadow": _side(None if turn is None else turn.shadow),
        "told_by": totals.estimated_by,
        "totals": totals.as_dict(),
        "words": totals.text(),
    }


def _side(side: ComparedSide | None) -> dict[str, Any]:
    if side is None:
        return {"asked": None, "serving": None, "usd_per_hour": None}
    return {"asked": side.requested, "serving": number(side.serving), "usd_per_hour": number(side.usd_per_hour)}
