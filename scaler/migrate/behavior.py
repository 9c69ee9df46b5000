"""``behavior`` of a HorizontalPodAutoscaler, as the peers' policies take it."""

from __future__ import annotations

from typing import Any, Final

from scaler.migrate.findings import Remark
from scaler.migrate.manifest_reader import Cursor, quantity

SELECT: Final = {"Max": "max", "Min": "min", "Disabled": "disabled"}
TYPES: Final = {"Pods": "pods", "Percent": "percent"}
MAX_WINDOW_S: Final = 3600
MAX_PERIOD_S: Final = 1800
"""Kubernetes' own limits (``pkg/apis/autoscaling/validation``)."""


def behavior(found: Cursor) -> tuple[dict[str, Any], list[Remark]]:
    """Return what it says, without what it leaves out, and remarks on what is not read."""
    said: dict[str, Any] = {}
    remarks: list[Remark] = []
    for key, ours in (("scaleUp", "scale_up"), ("scaleDown", "scale_down")):
        if found.has(key):
            rules = found.below(key)
            said[ours] = _rules(rules)
            remarks += rules.unread()
    found.skip("scaleUp", "scaleDown")
    remarks += found.unread()
    return said, remarks


def _rules(found: Cursor) -> dict[str, Any]:
    rules: dict[str, Any] = {}
    window_s = found.whole("stabilizationWindowSeconds", None)
    if window_s is not None:
        if window_s > MAX_WINDOW_S:
            found.wrong("stabilizationWindowSeconds", f"must be at most {MAX_WINDOW_S}, as Kubernetes has it")
        rules["stabilization_window_s"] = window_s
    if found.has("selectPolicy"):
        rules["select_policy"] = found.choice("selectPolicy", SELECT, "max")
    if found.has("policies"):
        rules["policies"] = [_policy(item) for item in found.items("policies")]
        if not rules["policies"] and rules.get("select_policy") != "disabled":
            found.wrong("policies", "must not be empty", "leave it out for the defaults")
    if found.has("tolerance"):
        share = quantity(found.raw("tolerance"))
        if share is None or not 0 <= share < 1:
            found.wrong("tolerance", "must be a quantity from 0 to below 1")
        else:
            rules["tolerance"] = share
    found.skip("selectPolicy", "policies", "tolerance")
    return rules


def _policy(found: Cursor) -> dict[str, Any]:
    kind = found.choice("type", TYPES, "")
    if not found.has("type"):
        found.wrong("type", f"is required: one of {', '.join(TYPES)}")
    amount, period_s = found.whole("value", None, least=1), found.whole("periodSeconds", None, least=1)
    for key, given in (("value", amount), ("periodSeconds", period_s)):
        if given is None and (found.raw(key) is None or found.raw(key) == ""):
            found.wrong(key, "is required")
    if period_s is not None and period_s > MAX_PERIOD_S:
        found.wrong("periodSeconds", f"must be at most {MAX_PERIOD_S}, as Kubernetes has it")
    for _ in found.unread():
        pass
    return {"type": kind, "value": amount, "period_s": period_s}
