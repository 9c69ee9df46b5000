"""Reads a KEDA ScaledObject, keda.sh/v1alpha1."""

from __future__ import annotations

from typing import Final

from scaler.migrate import triggers
from scaler.migrate.autoscaler_ir import Autoscaler, CronSchedule
from scaler.migrate.behavior import behavior
from scaler.migrate.common import SYNC_S
from scaler.migrate.manifest_reader import Cursor
from scaler.migrate.options import MigrationOptions

VERSION: Final = "keda.sh/v1alpha1"
ANNOTATION: Final = "autoscaling.keda.sh/"
MAX_REPLICAS: Final = 100
"""KEDA's ``defaultHPAMaxReplicas``."""
FALLBACKS: Final = {
    "static": "static",
    "currentReplicas": "current_replicas",
    "currentReplicasIfHigher": "current_replicas_if_higher",
    "currentReplicasIfLower": "current_replicas_if_lower",
}
RESOURCES: Final = frozenset({"cpu", "memory"})


def read(root: Cursor, spec: Cursor, name: str, options: MigrationOptions, *, native: bool) -> Autoscaler:
    """Return the ScaledObject of the object `root`. Problems are added to its reporter."""
    autoscaler = Autoscaler(
        reporter=root.reporter,
        place=spec.place,
        kind="keda",
        name=name,
        target=options.target,
        min_replicas=spec.integer("minReplicaCount", 0) or 0,
        max_replicas=spec.integer("maxReplicaCount", MAX_REPLICAS, minimum=1) or MAX_REPLICAS,
        signals=[],
        polling_interval_s=_seconds(spec, "pollingInterval", 30),
        cooldown_s=_seconds(spec, "cooldownPeriod", 300),
        initial_cooldown_s=_seconds(spec, "initialCooldownPeriod", 0),
        labels={"min_replicas": "minReplicaCount (0)", "max_replicas": f"maxReplicaCount ({MAX_REPLICAS})"},
    )
    spec.skip("scaleTargetRef")
    if autoscaler.polling_interval_s % SYNC_S and not native:
        rule = f"takes effect at ticks only, every {SYNC_S} s"
        autoscaler.remark(
            "interval_s",
            spec.reporter.differs(spec.place_of("pollingInterval"), rule, "or lower interval_s"),
        )
    _idle(spec, autoscaler)
    _triggers(spec, autoscaler, options, native=native)
    _fallback(spec, autoscaler)
    _advanced(spec, autoscaler)
    _annotations(root, autoscaler)
    autoscaler.remark("", *spec.unread())
    return autoscaler


def _seconds(spec: Cursor, key: str, default: int) -> int:
    value = spec.integer(key, default)
    return default if value is None else value


def _idle(spec: Cursor, autoscaler: Autoscaler) -> None:
    idle = spec.integer("idleReplicaCount", None)
    if idle is None:
        return
    if idle >= autoscaler.min_replicas:
        spec.report_error(
            "idleReplicaCount", f"must be below minReplicaCount, {autoscaler.min_replicas}, as KEDA requires"
        )
    elif idle > 0:
        spec.report_error("idleReplicaCount", "must be 0, the only value that KEDA supports")
    autoscaler.active_replicas, autoscaler.min_replicas = autoscaler.min_replicas, 0
    autoscaler.labels["min_replicas"] = "idleReplicaCount"


def _triggers(spec: Cursor, autoscaler: Autoscaler, options: MigrationOptions, *, native: bool) -> None:
    items = spec.items("triggers")
    if not items:
        spec.report_error("triggers", "must not be empty")
    kinds = {str(item.data.get("type")) for item in items}
    options.totals = not native and not kinds <= RESOURCES
    for item in items:
        trigger, remarks = triggers.read(item, options)
        autoscaler.remark("policies", *remarks)
        if isinstance(trigger, CronSchedule):
            autoscaler.schedules.append(trigger)
        elif trigger is not None:
            autoscaler.signals.append(trigger)
    if kinds <= RESOURCES and items:
        autoscaler.kind = "hpa"  # KEDA leaves these to the HPA, which never scales to zero
        if autoscaler.min_replicas == 0:
            rule = "0 is never reached with cpu and memory triggers alone: KEDA keeps them active"
            autoscaler.remark("min_replicas", spec.reporter.differs(spec.place_of("minReplicaCount"), rule))
            autoscaler.min_replicas = 1


def _fallback(spec: Cursor, autoscaler: Autoscaler) -> None:
    if not spec.has("fallback"):
        spec.skip("fallback")
        return
    fallback = spec.mapping("fallback")
    threshold, replicas = fallback.integer("failureThreshold", None), fallback.integer("replicas", None)
    for key in ("failureThreshold", "replicas"):
        if not fallback.has(key):
            fallback.report_missing(key)
    if fallback.data.get("behavior") == "scalingModifiers":
        fallback.skip("behavior")
        rule = "passes missing values to the formula, which is not carried over"
        autoscaler.remark(
            "fallback", spec.reporter.lost(fallback.place_of("behavior"), rule, "the size is kept instead")
        )
        return
    kind = fallback.choice("behavior", FALLBACKS, "static")
    autoscaler.fallback = {"failure_threshold": threshold, "replicas": replicas, "behavior": kind}
    rule = "counts failed ticks and never scales in without readings; KEDA counts failed queries and may scale in"
    autoscaler.remark("fallback", spec.reporter.differs(spec.place_of("fallback"), rule), *fallback.unread())


def _advanced(spec: Cursor, autoscaler: Autoscaler) -> None:
    advanced = spec.mapping("advanced")
    if advanced.flag("restoreToOriginalReplicaCount"):
        rule = "has no counterpart: the pool keeps its last size when the workload is removed"
        autoscaler.remark("", spec.reporter.differs(advanced.place_of("restoreToOriginalReplicaCount"), rule))
    config = advanced.mapping("horizontalPodAutoscalerConfig")
    config.skip("name")
    if config.has("behavior"):
        autoscaler.behavior, remarks = behavior(config.mapping("behavior"))
        autoscaler.remark("behavior", *remarks)
    config.skip("behavior")
    modifiers = advanced.mapping("scalingModifiers")
    if modifiers.data:
        rule = "combines all triggers into one metric; here each trigger recommends a size and the largest applies"
        hint = "write the formula as one PromQL query if all its metrics are in Prometheus"
        place = modifiers.place_of("formula") if modifiers.has("formula") else modifiers.place
        autoscaler.remark("policies", spec.reporter.lost(place, rule, hint))
    autoscaler.remark("", *config.unread(), *advanced.unread())


def _annotations(root: Cursor, autoscaler: Autoscaler) -> None:
    """Translate KEDA's annotations for pausing and activation."""
    annotations = root.mapping("metadata").mapping("annotations")
    replicas = annotations.text(f"{ANNOTATION}paused-replicas")
    if replicas is not None or annotations.flag(f"{ANNOTATION}paused"):
        key = "paused" if replicas is None else "paused-replicas"
        rule = "keeps the current size" + ("" if replicas is None else f", but KEDA first sets it to {replicas}")
        autoscaler.paused = (
            root.reporter.differs(annotations.place_of(ANNOTATION + key), rule, "resume with paused: false"),
        )
    for key, side in (("paused-scale-in", "scale_down"), ("paused-scale-out", "scale_up")):
        if annotations.flag(ANNOTATION + key):
            autoscaler.behavior = {**(autoscaler.behavior or {})}
            autoscaler.behavior[side] = {**autoscaler.behavior.get(side, {}), "select_policy": "disabled"}
            rule = "becomes select_policy: disabled"
            remark = root.reporter.differs(annotations.place_of(ANNOTATION + key), rule)
            if autoscaler.min_replicas == 0:
                remark = root.reporter.lost(
                    annotations.place_of(ANNOTATION + key), f"{rule}, but changes between 0 and 1 stay possible"
                )
            autoscaler.remark("behavior", remark)
    if annotations.flag(f"{ANNOTATION}force-activation") and autoscaler.min_replicas == 0:
        autoscaler.min_replicas = 1
        rule = "becomes min_replicas: 1"
        autoscaler.remark(
            "min_replicas", root.reporter.differs(annotations.place_of(ANNOTATION + "force-activation"), rule)
        )
