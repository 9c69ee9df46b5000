"""Configuration keys that were renamed before the first release.

An old key is refused with its new name.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

RENAMED: Final = {
    "activity": "gpu_activity",
    "beside": "concurrent_scenarios",
    "bridge_s": "stale_bound_s",
    "deadline_s": "queue_deadline_s",
    "drain_s": "backlog_clear_s",
    "foresee": "use_forecast",
    "forget_s": "learning_decay_s",
    "hold_s": "demand_hold_s",
    "keep": "keep_files",
    "ladder": "cost_allocation",
    "late_growth": "slo_feasibility",
    "lateness_ratio": "slo_violation_cost_ratio",
    "learn": "learn_capacity",
    "least_interval_s": "min_interval_s",
    "max_blind_s": "max_evidence_gap_s",
    "message_s": "message_service_s",
    "minimum_s": "min_billed_s",
    "on_foreign_writer": "on_other_writer",
    "read_every_s": "read_interval_s",
    "reload_s": "config_poll_s",
    "seed_s": "history_backfill_s",
    "supervise": "slo_correction",
    "supervise_period_s": "slo_correction_time_s",
    "tells": "reports",
    "weather": "faults",
    "yield_s": "other_writer_yield_s",
}
"""Old names and new ones. A name applies where the new key is a setting of the same mapping."""


def new_name(key: str, settings: Collection[str]) -> str | None:
    """Return the new name of a key among the `settings` of its mapping.

    Returns None where it was not renamed.
    """
    new = RENAMED.get(key)
    return new if new in settings else None
