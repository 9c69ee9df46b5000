"""A shadow's last tick and its totals, compared with the live policy."""

from __future__ import annotations

from typing import Any

from scaler.journal.explain import verdict, weights_text
from scaler.shadow.counterfactual import ComparedSide
from scaler.shadow.runner import Shadow
from scaler.telemetry.dashboard.columns import number


def shadow_rows(shadow: Shadow) -> dict[str, Any]:
    """Return the shadow's section of a workload's page. An unknown value is null."""
    shadow_tick, totals = shadow.last, shadow.totals
    return {
        "at": None if shadow_tick is None else shadow_tick.tick.at,
        "verdict": "no tick yet" if shadow_tick is None else verdict(shadow_tick.tick),
        "open_loop": shadow_tick is not None and shadow_tick.open_loop,
        "first": _side(None if shadow_tick is None else shadow_tick.first),
        "shadow": _side(None if shadow_tick is None else shadow_tick.shadow),
        "estimated_by": totals.estimated_by,
        "totals": totals.as_dict(),
        "text": totals.text(),
    }


def _side(side: ComparedSide | None) -> dict[str, Any]:
    if side is None:
        return {"requested": None, "serving": None, "usd_per_hour": None, "splits": {}}
    return {
        "requested": side.requested,
        "serving": number(side.serving),
        "usd_per_hour": number(side.total_usd_per_hour),
        "splits": {name: weights_text(weights) for name, weights in side.splits.items()},
    }
