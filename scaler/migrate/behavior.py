"""Reads ``behavior`` of a HorizontalPodAutoscaler.

The result has the form of the peer policies' settings.
"""

from __future__ import annotations

from typing import Any, Final

from scaler.migrate.findings import Remark
from scaler.migrate.manifest_reader import Cursor, quantity

SELECT: Final = {"Max": "max", "Min": "min", "Disabled": "disabled"}
TYPES: Final = {"Pods": "pods", "Percent": "percent"}
MAX_WINDOW_S: Final = 3600
MAX_PERIOD_S: Final = 1800
"""Limits of Kubernetes (``pkg/apis/autoscaling/validation``). Seconds."""


def behavior(cursor: Cursor) -> tuple[dict[str, Any], list[Remark]]:
    """Return the settings that are present, and remarks on the keys that are not read."""
    rules_by_direction: dict[str, Any] = {}
    remarks: list[Remark] = []
    for key, direction in (("scaleUp", "scale_up"), ("scaleDown", "scale_down")):
        if cursor.has(key):
            rules = cursor.mapping(key)
            rules_by_direction[direction] = _rules(rules)
            remarks += rules.unread()
    cursor.skip("scaleUp", "scaleDown")
    remarks += cursor.unread()
    return rules_by_direction, remarks


def _rules(cursor: Cursor) -> dict[str, Any]:
    rules: dict[str, Any] = {}
    window_s = cursor.integer("stabilizationWindowSeconds", None)
    if window_s is not None:
        if window_s > MAX_WINDOW_S:
            cursor.report_error("stabilizationWindowSeconds", f"must be at most {MAX_WINDOW_S}, Kubernetes' limit")
        rules["stabilization_window_s"] = window_s
    if cursor.has("selectPolicy"):
        rules["select_policy"] = cursor.choice("selectPolicy", SELECT, "max")
    if cursor.has("policies"):
        rules["policies"] = [_policy(item) for item in cursor.items("policies")]
        if not rules["policies"] and rules.get("select_policy") != "disabled":
            cursor.report_error("policies", "must not be empty", "remove the key to get the defaults")
    if cursor.has("tolerance"):
        share = quantity(cursor.raw("tolerance"))
        if share is None or not 0 <= share < 1:
            cursor.report_error("tolerance", "must be a quantity from 0 to below 1")
        else:
            rules["tolerance"] = share
    cursor.skip("selectPolicy", "policies", "tolerance")
    return rules


def _policy(cursor: Cursor) -> dict[str, Any]:
    kind = cursor.choice("type", TYPES, "")
    if not cursor.has("type"):
        cursor.report_error("type", f"is required: one of {', '.join(TYPES)}")
    amount, period_s = cursor.integer("value", None, minimum=1), cursor.integer("periodSeconds", None, minimum=1)
    for key, value in (("value", amount), ("periodSeconds", period_s)):
        if value is None and (cursor.raw(key) is None or cursor.raw(key) == ""):
            cursor.report_missing(key)
    if period_s is not None and period_s > MAX_PERIOD_S:
        cursor.report_error("periodSeconds", f"must be at most {MAX_PERIOD_S}, Kubernetes' limit")
    for _ in cursor.unread():
        pass
    return {"type": kind, "value": amount, "period_s": period_s}
