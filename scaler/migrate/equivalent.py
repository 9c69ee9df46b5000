"""Writes a workload that behaves like the autoscaler.

It uses the peer policies, with unchanged numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scaler.migrate import common
from scaler.migrate.autoscaler_ir import Autoscaler, CronSchedule, Signal, SourceDraft
from scaler.migrate.yaml_writer import Block


def block(autoscaler: Autoscaler) -> Block:
    """Return the workload's document."""
    workload = common.top_level(autoscaler)
    names = common.name_sources([signal.source for signal in autoscaler.signals])
    if names:
        workload.add("sources", common.sources(names, autoscaler.signals))
    policy = _hpa(autoscaler, names) if autoscaler.kind == "hpa" else _keda(autoscaler, names)
    workload.add("policies", Block().add("hpa" if autoscaler.kind == "hpa" else "scaledobject", policy))
    return workload.add("pools", common.pools(autoscaler))


def _hpa(autoscaler: Autoscaler, names: Mapping[SourceDraft, str]) -> Block:
    policy = Block().remark(*autoscaler.remarks.get("policies", ())).add("kind", "hpa")
    metrics = []
    for signal in autoscaler.signals:
        item = _metric(signal, names)
        if signal.target_type == "mean":
            item.add("type", "pods", "mean over the ready replicas")
        metrics.append(item)
    policy.add("metrics", metrics)
    return _add_behavior(policy, autoscaler)


def _metric(signal: Signal, names: Mapping[SourceDraft, str]) -> Block:
    """Return the settings that a metric and a trigger have in common."""
    item = Block().remark(*signal.remarks)
    item.add("quantities", list(signal.quantities))
    item.add("target", signal.target, f"{signal.label}, {signal.type}")
    if signal.target_type == "value":
        item.add("target_type", "value")
    if len(names) > 1:
        item.add("source", names[signal.source])
    return item


def _keda(autoscaler: Autoscaler, names: Mapping[SourceDraft, str]) -> Block:
    policy = Block().remark(*autoscaler.remarks.get("policies", ())).add("kind", "keda")
    items = [_metric(s, names).add("activation", s.activation, "activation threshold (0)") for s in autoscaler.signals]
    policy.add("triggers", items)
    if autoscaler.schedules:
        policy.add("crons", [_cron(schedule) for schedule in autoscaler.schedules])
    policy.add("polling_interval_s", autoscaler.polling_interval_s, "pollingInterval (30)")
    policy.add("cooldown_s", autoscaler.cooldown_s, "cooldownPeriod (300)")
    policy.add("initial_cooldown_s", autoscaler.initial_cooldown_s, "initialCooldownPeriod (0)")
    if autoscaler.active_replicas is not None:
        policy.add("active_replicas", autoscaler.active_replicas, "minReplicaCount, since idleReplicaCount is set")
    remarks = autoscaler.remarks.get("fallback", ())
    if autoscaler.fallback is not None:
        policy.add("fallback", autoscaler.fallback, "", *remarks)
    else:
        policy.remark(*remarks)
    return _add_behavior(policy, autoscaler)


def _cron(schedule: CronSchedule) -> Block:
    item = Block().remark(*schedule.remarks)
    item.add("replicas", schedule.replicas, "desiredReplicas")
    item.add("windows", schedule.windows, schedule.label)
    return item.add("time_zone", schedule.time_zone)


def _add_behavior(policy: Block, autoscaler: Autoscaler) -> Block:
    """Add the behavior to the policy."""
    remarks = autoscaler.remarks.get("behavior", ())
    if autoscaler.behavior is None:
        label = "no behavior: up to twice the size or 4, down to the highest recommendation of the last 300 s"
        return policy.add("behavior", None, label, *remarks)
    behavior: dict[str, Any] | Block = Block() if autoscaler.behavior else {}
    for side, rules in autoscaler.behavior.items():
        inner = Block()
        for key, value in rules.items():
            inner.add(key, value)
        behavior.add(side, inner if rules else {})  # type: ignore[union-attr]
    return policy.add("behavior", behavior, "missing keys have the defaults of autoscaling/v2", *remarks)
