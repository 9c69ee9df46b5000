"""``behavior`` as this daemon's own windows and steps, as far as they go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from scaler.migrate.autoscaler_ir import Scaled
from scaler.migrate.yaml_writer import Block

TOLERANCE: Final = 0.1
WINDOW_S: Final = 300
BEHAVIOR: Final = {"hpa": ("behavior",), "keda": ("advanced", "horizontalPodAutoscalerConfig", "behavior")}
UP: Final = ({"type": "pods", "value": 4, "period_s": 15}, {"type": "percent", "value": 100, "period_s": 15})
DOWN: Final = ({"type": "percent", "value": 100, "period_s": 15},)
"""autoscaling/v2's defaults, where a behavior leaves them out."""


def settling_settings(made: Block, scaled: Scaled) -> None:
    """Cooldown, tolerance, and how fast it grows and shrinks."""
    if scaled.kind == "keda":
        made.add("cooldown_s", scaled.cooldown_s, "cooldownPeriod (300)")
    made.add("tolerance", _tolerance(scaled), "--horizontal-pod-autoscaler-tolerance (0.1)")
    made.remark(*scaled.remarks.get("behavior", ()))
    if scaled.behavior is None:
        up = {"window_s": 0, "period_s": 15, "max_replicas": 3, "max_share": 1.0}
        down = {"window_s": WINDOW_S, "period_s": 15, "max_share": 1.0}
        made.add("scale_up", _block(up), "no behavior: at most twice the size, or four")
        made.add("scale_down", _block(down), "no behavior: the largest want of 300 s, then all at once")
        return
    for side, default_s, rules in (("scale_up", 0, UP), ("scale_down", WINDOW_S, DOWN)):
        made.add(side, _side(side, default_s, rules, scaled), f"behavior.{_field(side)}")


def _field(side: str) -> str:
    return "scaleUp" if side == "scale_up" else "scaleDown"


def _tolerance(scaled: Scaled) -> float:
    sides = (scaled.behavior or {}).values()
    given = [side["tolerance"] for side in sides if "tolerance" in side]
    if not given:
        return TOLERANCE
    if len(given) == 1 or given[0] != given[1]:
        rule = "holds for one direction, and there is one tolerance here: the smaller counts for both"
        scaled.remark("behavior", scaled.voice.differs(scaled.place, rule))
    return float(min([*given, TOLERANCE] if len(given) == 1 else given))


def _side(side: str, default_s: int, defaults: Sequence[Mapping[str, Any]], scaled: Scaled) -> Block:
    given = (scaled.behavior or {}).get(side, {})
    rules = given.get("policies", defaults)
    made: dict[str, Any] = {"window_s": given.get("stabilization_window_s", default_s)}
    place = (*scaled.place, *BEHAVIOR[scaled.kind], _field(side))
    remarks = []
    if given.get("select_policy") == "disabled":
        rule = "no change in this direction cannot be set: the least step is one replica a period"
        remarks.append(scaled.voice.lost((*place, "selectPolicy"), rule, "use the peer's policy, or paused: true"))
        return Block().remark(*remarks).add("max_replicas", 1).add("max_share", 0.0).add("period_s", 3600)
    kinds = [rule["type"] for rule in rules]
    same = len({rule["period_s"] for rule in rules}) == 1 and len(set(kinds)) == len(kinds)
    if not same or (len(rules) > 1 and given.get("select_policy") == "min"):
        rule = "one step of replicas and one share over one period can be set, the larger counts: the first is kept"
        remarks.append(scaled.voice.lost((*place, "policies"), rule, "use the peer's policy, or choose yourself"))
        rules = rules[:1]
    made["period_s"] = rules[0]["period_s"]
    made["max_replicas"] = next((rule["value"] for rule in rules if rule["type"] == "pods"), 1)
    made["max_share"] = next((rule["value"] / 100 for rule in rules if rule["type"] == "percent"), 0.0)
    if side == "scale_down":
        made["max_share"] = min(made["max_share"], 1.0)
    return _block(made, Block().remark(*remarks))


def _block(settings: Mapping[str, Any], made: Block | None = None) -> Block:
    made = Block() if made is None else made
    for key, value in settings.items():
        made.add(key, value)
    return made
