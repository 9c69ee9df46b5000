"""A KEDA ScaledObject, keda.sh/v1alpha1."""

from __future__ import annotations

from typing import Final

from scaler.migrate import triggers
from scaler.migrate.autoscaler_ir import CronSchedule, Scaled
from scaler.migrate.behavior import behavior
from scaler.migrate.common import SYNC_S
from scaler.migrate.manifest_reader import Cursor
from scaler.migrate.options import MigrationOptions

VERSION: Final = "keda.sh/v1alpha1"
ANNOTATION: Final = "autoscaling.keda.sh/"
MAX_REPLICAS: Final = 100
"""``defaultHPAMaxReplicas``."""
FALLBACKS: Final = {
    "static": "static",
    "currentReplicas": "current_replicas",
    "currentReplicasIfHigher": "current_replicas_if_higher",
    "currentReplicasIfLower": "current_replicas_if_lower",
}
RESOURCES: Final = frozenset({"cpu", "memory"})


def read(found: Cursor, spec: Cursor, name: str, given: MigrationOptions, *, native: bool) -> Scaled:
    """Return the ScaledObject in our words; what is wrong with it is told to its voice."""
    scaled = Scaled(
        voice=found.voice,
        place=spec.place,
        kind="keda",
        name=name,
        target=given.target,
        min_replicas=spec.whole("minReplicaCount", 0) or 0,
        max_replicas=spec.whole("maxReplicaCount", MAX_REPLICAS, least=1) or MAX_REPLICAS,
        signals=[],
        polling_interval_s=_seconds(spec, "pollingInterval", 30),
        cooldown_s=_seconds(spec, "cooldownPeriod", 300),
        initial_cooldown_s=_seconds(spec, "initialCooldownPeriod", 0),
        said={"min_replicas": "minReplicaCount (0)", "max_replicas": f"maxReplicaCount ({MAX_REPLICAS})"},
    )
    spec.skip("scaleTargetRef")
    if scaled.polling_interval_s % SYNC_S and not native:
        rule = f"is looked at when a turn is taken, every {SYNC_S} s"
        scaled.remark("interval_s", spec.voice.differs(spec.at("pollingInterval"), rule, "or lower interval_s"))
    _idle(spec, scaled)
    _triggers(spec, scaled, given, native=native)
    _fallback(spec, scaled)
    _advanced(spec, scaled)
    _annotations(found, scaled)
    scaled.remark("", *spec.unread())
    return scaled


def _seconds(spec: Cursor, key: str, default: int) -> int:
    value = spec.whole(key, default)
    return default if value is None else value


def _idle(spec: Cursor, scaled: Scaled) -> None:
    idle = spec.whole("idleReplicaCount", None)
    if idle is None:
        return
    if idle >= scaled.min_replicas:
        spec.wrong("idleReplicaCount", f"must be below minReplicaCount, {scaled.min_replicas}, as KEDA has it")
    elif idle > 0:
        spec.wrong("idleReplicaCount", "must be 0: KEDA supports no other")
    scaled.active_replicas, scaled.min_replicas = scaled.min_replicas, 0
    scaled.said["min_replicas"] = "idleReplicaCount"


def _triggers(spec: Cursor, scaled: Scaled, given: MigrationOptions, *, native: bool) -> None:
    items = spec.items("triggers")
    if not items:
        spec.wrong("triggers", "must not be empty")
    kinds = {str(item.data.get("type")) for item in items}
    given.totals = not native and not kinds <= RESOURCES
    for item in items:
        found, remarks = triggers.read(item, given)
        scaled.remark("policies", *remarks)
        if isinstance(found, CronSchedule):
            scaled.clocks.append(found)
        elif found is not None:
            scaled.signals.append(found)
    if kinds <= RESOURCES and items:
        scaled.kind = "hpa"  # KEDA makes nothing but an HPA of these, and never goes to zero
        if scaled.min_replicas == 0:
            rule = "0 is not reached by cpu and memory alone: they are always active"
            scaled.remark("min_replicas", spec.voice.differs(spec.at("minReplicaCount"), rule))
            scaled.min_replicas = 1


def _fallback(spec: Cursor, scaled: Scaled) -> None:
    if not spec.has("fallback"):
        spec.skip("fallback")
        return
    found = spec.below("fallback")
    threshold, replicas = found.whole("failureThreshold", None), found.whole("replicas", None)
    for key in ("failureThreshold", "replicas"):
        if not found.has(key):
            found.wrong(key, "is required")
    if found.data.get("behavior") == "scalingModifiers":
        found.skip("behavior")
        rule = "hands missing values to the formula, which is not carried over"
        scaled.remark("fallback", spec.voice.lost(found.at("behavior"), rule, "the size is held instead"))
        return
    kind = found.choice("behavior", FALLBACKS, "static")
    scaled.fallback = {"failure_threshold": threshold, "replicas": replicas, "behavior": kind}
    rule = "counts failed turns, and lowers no size that cannot be seen: KEDA counts queries, and may shrink in a burst"
    scaled.remark("fallback", spec.voice.differs(spec.at("fallback"), rule), *found.unread())


def _advanced(spec: Cursor, scaled: Scaled) -> None:
    advanced = spec.below("advanced")
    if advanced.flag("restoreToOriginalReplicaCount"):
        rule = "has no counterpart: the last size stays when the workload is removed"
        scaled.remark("", spec.voice.differs(advanced.at("restoreToOriginalReplicaCount"), rule))
    config = advanced.below("horizontalPodAutoscalerConfig")
    config.skip("name")
    if config.has("behavior"):
        scaled.behavior, remarks = behavior(config.below("behavior"))
        scaled.remark("behavior", *remarks)
    config.skip("behavior")
    modifiers = advanced.below("scalingModifiers")
    if modifiers.data:
        rule = "makes one metric of all triggers; here each asks for itself, and the largest counts"
        hint = "write the formula as one PromQL query, if all of it is in Prometheus"
        place = modifiers.at("formula") if modifiers.has("formula") else modifiers.place
        scaled.remark("policies", spec.voice.lost(place, rule, hint))
    scaled.remark("", *config.unread(), *advanced.unread())


def _annotations(found: Cursor, scaled: Scaled) -> None:
    """Translate what annotations configure in KEDA."""
    given = Cursor(found.voice, ("metadata", "annotations"), found.below("metadata").below("annotations").data)
    given.place = (*found.place, "metadata", "annotations")
    replicas = given.text(f"{ANNOTATION}paused-replicas")
    if replicas is not None or given.flag(f"{ANNOTATION}paused"):
        key = "paused" if replicas is None else "paused-replicas"
        rule = "holds the size found" + ("" if replicas is None else f", where KEDA first sets it to {replicas}")
        scaled.paused = (found.voice.differs(given.at(ANNOTATION + key), rule, "paused: false lets it go on"),)
    for key, side in (("paused-scale-in", "scale_down"), ("paused-scale-out", "scale_up")):
        if given.flag(ANNOTATION + key):
            scaled.behavior = {**(scaled.behavior or {})}
            scaled.behavior[side] = {**scaled.behavior.get(side, {}), "select_policy": "disabled"}
            rule = "is select_policy: disabled here"
            remark = found.voice.differs(given.at(ANNOTATION + key), rule)
            if scaled.min_replicas == 0:
                remark = found.voice.lost(given.at(ANNOTATION + key), f"{rule}, which leaves 0 to 1 and back free")
            scaled.remark("behavior", remark)
    if given.flag(f"{ANNOTATION}force-activation") and scaled.min_replicas == 0:
        scaled.min_replicas = 1
        rule = "is min_replicas: 1 here"
        scaled.remark("min_replicas", found.voice.differs(given.at(ANNOTATION + "force-activation"), rule))
