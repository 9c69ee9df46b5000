"""A workload that does what the autoscaler does today: by the peers' policies, with every number as it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scaler.migrate import common
from scaler.migrate.autoscaler_ir import CronSchedule, Scaled, Signal, SourceDraft
from scaler.migrate.yaml_writer import Block


def block(scaled: Scaled, prometheus: str | None) -> Block:
    """Return the workload's document."""
    made = common.top_level(scaled)
    names = common.named([signal.source for signal in scaled.signals])
    made.add("sources", common.sources(names, scaled.signals) if names else common.idle_settings(scaled, prometheus))
    policy = _hpa(scaled, names) if scaled.kind == "hpa" else _keda(scaled, names)
    made.add("policies", Block().add("hpa" if scaled.kind == "hpa" else "scaledobject", policy))
    return made.add("pools", common.pools(scaled))


def _hpa(scaled: Scaled, names: Mapping[SourceDraft, str]) -> Block:
    made = Block().remark(*scaled.remarks.get("policies", ())).add("kind", "hpa")
    metrics = []
    for signal in scaled.signals:
        item = _metric(signal, names)
        if signal.target_type == "mean":
            item.add("type", "pods", "a mean over the ready replicas")
        metrics.append(item)
    made.add("metrics", metrics)
    return _settling(made, scaled)


def _metric(signal: Signal, names: Mapping[SourceDraft, str]) -> Block:
    """Return what a metric and a trigger have in common."""
    item = Block().remark(*signal.remarks)
    item.add("quantities", list(signal.quantities))
    item.add("target", signal.target, f"{signal.said}, {signal.type}")
    if signal.target_type == "value":
        item.add("target_type", "value")
    if len(names) > 1:
        item.add("source", names[signal.source])
    return item


def _keda(scaled: Scaled, names: Mapping[SourceDraft, str]) -> Block:
    made = Block().remark(*scaled.remarks.get("policies", ())).add("kind", "keda")
    items = [_metric(s, names).add("activation", s.activation, "activation threshold (0)") for s in scaled.signals]
    made.add("triggers", items)
    if scaled.clocks:
        made.add("crons", [_clock(clock) for clock in scaled.clocks])
    made.add("polling_interval_s", scaled.polling_interval_s, "pollingInterval (30)")
    made.add("cooldown_s", scaled.cooldown_s, "cooldownPeriod (300)")
    made.add("initial_cooldown_s", scaled.initial_cooldown_s, "initialCooldownPeriod (0)")
    if scaled.active_replicas is not None:
        made.add("active_replicas", scaled.active_replicas, "minReplicaCount, since idleReplicaCount is set")
    remarks = scaled.remarks.get("fallback", ())
    if scaled.fallback is not None:
        made.add("fallback", scaled.fallback, "", *remarks)
    else:
        made.remark(*remarks)
    return _settling(made, scaled)


def _clock(clock: CronSchedule) -> Block:
    item = Block().remark(*clock.remarks)
    item.add("replicas", clock.replicas, "desiredReplicas")
    item.add("windows", clock.windows, clock.said)
    return item.add("time_zone", clock.time_zone)


def _settling(made: Block, scaled: Scaled) -> Block:
    """Behavior and tolerance."""
    remarks = scaled.remarks.get("behavior", ())
    if scaled.behavior is None:
        said = "no behavior: the older path, at most twice the size or four, and the largest want of 300 s"
        return made.add("behavior", None, said, *remarks)
    shown: dict[str, Any] | Block = Block() if scaled.behavior else {}
    for side, rules in scaled.behavior.items():
        inner = Block()
        for key, value in rules.items():
            inner.add(key, value)
        shown.add(side, inner if rules else {})  # type: ignore[union-attr]
    return made.add("behavior", shown, "what it leaves out has the defaults of autoscaling/v2", *remarks)
