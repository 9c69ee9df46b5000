"""Translates ``behavior`` to a workload's own windows and steps.

It does so as far as these can express it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from scaler.migrate.autoscaler_ir import Autoscaler
from scaler.migrate.yaml_writer import Block

TOLERANCE: Final = 0.1
WINDOW_S: Final = 300
BEHAVIOR: Final = {"hpa": ("behavior",), "keda": ("advanced", "horizontalPodAutoscalerConfig", "behavior")}
UP: Final = ({"type": "pods", "value": 4, "period_s": 15}, {"type": "percent", "value": 100, "period_s": 15})
DOWN: Final = ({"type": "percent", "value": 100, "period_s": 15},)
"""Defaults of autoscaling/v2 for the rules that a behavior leaves out."""


def add_stabilization(workload: Block, autoscaler: Autoscaler) -> None:
    """Add cooldown, tolerance, `scale_up` and `scale_down` to the workload."""
    if autoscaler.kind == "keda":
        workload.add("cooldown_s", autoscaler.cooldown_s, "cooldownPeriod (300)")
    workload.add("tolerance", _tolerance(autoscaler), "--horizontal-pod-autoscaler-tolerance (0.1)")
    workload.remark(*autoscaler.remarks.get("behavior", ()))
    if autoscaler.behavior is None:
        up = {"window_s": 0, "period_s": 15, "max_replicas": 3, "max_share": 1.0}
        down = {"window_s": WINDOW_S, "period_s": 15, "max_share": 1.0}
        workload.add("scale_up", _block(up), "no behavior: at most twice the size, or 4 replicas")
        workload.add("scale_down", _block(down), "no behavior: to the highest recommendation of the last 300 s")
        return
    for side, default_s, rules in (("scale_up", 0, UP), ("scale_down", WINDOW_S, DOWN)):
        workload.add(side, _side(side, default_s, rules, autoscaler), f"behavior.{_field(side)}")


def _field(side: str) -> str:
    return "scaleUp" if side == "scale_up" else "scaleDown"


def _tolerance(autoscaler: Autoscaler) -> float:
    sides = (autoscaler.behavior or {}).values()
    tolerances = [side["tolerance"] for side in sides if "tolerance" in side]
    if not tolerances:
        return TOLERANCE
    if len(tolerances) == 1 or tolerances[0] != tolerances[1]:
        rule = "has a tolerance per direction, but a workload has one for both: the smaller applies"
        autoscaler.remark("behavior", autoscaler.reporter.differs(autoscaler.place, rule))
    return float(min([*tolerances, TOLERANCE] if len(tolerances) == 1 else tolerances))


def _side(side: str, default_s: int, defaults: Sequence[Mapping[str, Any]], autoscaler: Autoscaler) -> Block:
    behavior = (autoscaler.behavior or {}).get(side, {})
    rules = behavior.get("policies", defaults)
    settings: dict[str, Any] = {"window_s": behavior.get("stabilization_window_s", default_s)}
    place = (*autoscaler.place, *BEHAVIOR[autoscaler.kind], _field(side))
    remarks = []
    if behavior.get("select_policy") == "disabled":
        rule = "Disabled has no counterpart: the smallest step is one replica per period"
        remarks.append(
            autoscaler.reporter.lost((*place, "selectPolicy"), rule, "import without --native, or set paused: true")
        )
        return Block().remark(*remarks).add("max_replicas", 1).add("max_share", 0.0).add("period_s", 3600)
    kinds = [rule["type"] for rule in rules]
    is_expressible = len({rule["period_s"] for rule in rules}) == 1 and len(set(kinds)) == len(kinds)
    if not is_expressible or (len(rules) > 1 and behavior.get("select_policy") == "min"):
        rule = "cannot be expressed as one step in replicas and one share per period: only the first policy is kept"
        remarks.append(
            autoscaler.reporter.lost((*place, "policies"), rule, "import without --native, or set the steps yourself")
        )
        rules = rules[:1]
    settings["period_s"] = rules[0]["period_s"]
    settings["max_replicas"] = next((rule["value"] for rule in rules if rule["type"] == "pods"), 1)
    settings["max_share"] = next((rule["value"] / 100 for rule in rules if rule["type"] == "percent"), 0.0)
    if side == "scale_down":
        settings["max_share"] = min(settings["max_share"], 1.0)
    return _block(settings, Block().remark(*remarks))


def _block(settings: Mapping[str, Any], block: Block | None = None) -> Block:
    block = Block() if block is None else block
    for key, value in settings.items():
        block.add(key, value)
    return block
