"""Proposes a workload by this daemon's own policies from an autoscaler's settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from scaler.migrate import common, promql
from scaler.migrate.autoscaler_ir import Autoscaler, CronSchedule, Signal, SourceDraft
from scaler.migrate.complete import add_stabilization
from scaler.migrate.findings import Remark
from scaler.migrate.metric_detection import PresetReading, named_mean, recognize
from scaler.migrate.yaml_writer import Block

QUEUES: Final = frozenset({"kafka", "pubsub", "rabbitmq", "redis", "service_bus", "sqs"})
AGE: Final = "oldest_age_s"
"""The quantity of a queue that is not a count of messages."""


def block(autoscaler: Autoscaler) -> Block:
    """Return the workload's document."""
    recognized = [_preset(signal) for signal in autoscaler.signals]
    signals = [signal for signal, _ in recognized]
    names = common.name_sources([signal.source for signal in signals])
    policies = Block().remark(*autoscaler.remarks.get("policies", ()))
    can_activate = bool(autoscaler.schedules)
    for signal, preset in recognized:
        can_activate |= _add(policies, signal, preset, names, autoscaler)
    for schedule in autoscaler.schedules:
        policies.add(_unused_name(policies, "schedule"), _schedule(schedule))
    if autoscaler.min_replicas == 0 and not can_activate:
        rule = "0 needs a policy that measures work at zero replicas; these policies measure replicas"
        place = autoscaler.signals[0].place if autoscaler.signals else ()
        autoscaler.remark(
            "min_replicas",
            autoscaler.reporter.lost(
                place, rule, "add queue_depth, or metric on a gateway's total", names=("scale-to-zero",)
            ),
        )
        autoscaler.min_replicas = 1
    workload = common.top_level(autoscaler, *_keda_differences(autoscaler))
    add_stabilization(workload, autoscaler)
    if names:
        workload.add("sources", _sources(names, recognized))
    return workload.add("policies", policies).add("pools", common.pools(autoscaler))


def _keda_differences(autoscaler: Autoscaler) -> list[Remark]:
    """Return remarks on the parts of KEDA's own loop that work differently here."""
    if autoscaler.kind == "hpa":
        return []
    remarks = [Remark("pollingInterval has no counterpart: every tick reads all sources, also at 0 replicas.")]
    if autoscaler.initial_cooldown_s:
        remarks.append(Remark("initialCooldownPeriod has no counterpart: scale-in waits for a window of readings."))
    if autoscaler.fallback is not None:
        remarks.append(Remark("fallback is not needed: without readings the size stays; other policies may raise it."))
    if autoscaler.active_replicas is not None:
        rule = f"{autoscaler.active_replicas} while there is work, otherwise 0: here the size above 0 follows the work"
        remarks.append(
            autoscaler.reporter.lost((*autoscaler.place, "minReplicaCount"), rule, "or set min_replicas, without 0")
        )
    return remarks


def _preset(signal: Signal) -> tuple[Signal, PresetReading | None]:
    """Return the signal as a preset reads it, with that preset.

    The signal's query must equal the preset's.
    """
    if signal.source.kind != "prometheus" or len(signal.queries) != 1 or signal.target_type == "value":
        return signal, None
    preset = recognize(next(iter(signal.queries.values())))
    if preset is None:
        return _by_name(signal)
    settings: dict[str, Any] = {**dict(signal.source.settings), "preset": preset.preset}
    if preset.match:
        settings["match"] = dict(preset.match)
    source = SourceDraft("prometheus", tuple(settings.items()), signal.source.remarks)
    changed = dataclasses.replace(signal, source=source, quantities=preset.quantities, queries={}, times={})
    return _divide_target(changed, preset.divisor), preset


def _by_name(signal: Signal) -> tuple[Signal, PresetReading | None]:
    """Return a mean under the quantity's name of a preset that has its metric.

    Its query stays as it is.
    """
    series = promql.series(signal.type)
    preset = named_mean(series[0]) if series and signal.target_type == "mean" else None
    if preset is None:
        return signal, None
    (query,), (time,) = signal.queries.values(), signal.times.values()
    quantity = preset.quantities[0]
    scaled = query if preset.divisor == 1 else f"{query} / {preset.divisor:g}"
    changed = dataclasses.replace(signal, quantities=(quantity,), queries={quantity: scaled}, times={quantity: time})
    return _divide_target(changed, preset.divisor), preset


def _divide_target(signal: Signal, divisor: float) -> Signal:
    return dataclasses.replace(signal, target=signal.target / divisor, activation=signal.activation / divisor)


def _sources(names: Mapping[SourceDraft, str], recognized: list[tuple[Signal, PresetReading | None]]) -> Block:
    sources = common.sources(names, [signal for signal, _ in recognized])
    for source, name in names.items():
        signals = [s for s, preset in recognized if preset and s.source == source and not s.queries]
        quantities = dict.fromkeys(quantity for s in signals for quantity in s.quantities)
        if quantities:
            inner = next(part.value for part in sources.parts if not isinstance(part, Remark) and part.key == name)
            inner.add("read", list(quantities))
    return sources


def _add(
    policies: Block,
    signal: Signal,
    preset: PresetReading | None,
    names: Mapping[SourceDraft, str],
    autoscaler: Autoscaler,
) -> bool:
    """Add the policy for a signal. Return whether it can activate a workload at zero replicas."""
    settings: dict[str, Any]
    remarks = list(signal.remarks)
    target: dict[str, Any] = {"target_per_replica": signal.target, "activation": signal.activation}
    is_total = signal.target_type == "average_value"
    if signal.source.kind in QUEUES and AGE not in signal.quantities:
        if not is_total:
            remarks.append(_value_remark(autoscaler, signal))
        name, settings = "queue-depth", {"kind": "queue_depth", **target, "count": list(signal.quantities)}
        is_total = True
    elif preset and is_total and set(signal.quantities) == {"running", "waiting"}:
        name, settings = "concurrency", {"kind": "concurrency", **target}
    elif preset and preset.across == "mean" and signal.target <= 1:
        if is_total:
            rule = "is a mean that KEDA treats as a total: it recommends one or two replicas at any load"
            remarks.append(autoscaler.reporter.differs(signal.place, rule, "here the mean is kept at the target"))
        kind = {"kv_cache_usage": "kv_cache_usage", "utilization": "gpu_utilization"}.get(signal.quantities[0])
        name = "kv-cache" if kind == "kv_cache_usage" else "gpu" if kind else signal.quantities[0].replace("_", "-")
        settings = {"kind": kind, "target": signal.target} if kind else _metric(signal, "mean")
        is_total = False
    else:
        if signal.target_type == "value":
            remarks.append(_value_remark(autoscaler, signal))
        name = signal.quantities[0].replace("_", "-").strip("-")[:60]
        settings = _metric(signal, "total" if is_total else "mean")
    if len(names) > 1:
        settings["source"] = names[signal.source]
    inner = Block().remark(*remarks)
    for key, value in settings.items():
        inner.add(key, value, f"{signal.label}, {signal.type}" if key.startswith("target") else "")
    policies.add(_unused_name(policies, name), inner)
    return is_total


def _value_remark(autoscaler: Autoscaler, signal: Signal) -> Remark:
    rule = "scales the ready replicas by a ratio, which overshoots while replicas start"
    return autoscaler.reporter.differs(
        signal.place, rule, "measure what one replica can serve, and set that as target per replica"
    )


def _metric(signal: Signal, across: str) -> dict[str, Any]:
    settings: dict[str, Any] = {"kind": "metric", "quantity": signal.quantities[0], "target": signal.target}
    if across == "mean":
        return {**settings, "across": "mean"}
    return {**settings, "activation": signal.activation if signal.activation < 1e9 else 0.0}


def _schedule(schedule: CronSchedule) -> Block:
    policy = Block().remark(*schedule.remarks).add("kind", "schedule")
    windows = [{**window, "replicas": max(1, schedule.replicas)} for window in schedule.windows]
    return policy.add("windows", windows, schedule.label).add("time_zone", schedule.time_zone)


def _unused_name(policies: Block, name: str) -> str:
    used = {part.key for part in policies.parts if not isinstance(part, Remark)}
    n, candidate = 2, name
    while candidate in used:
        candidate, n = f"{name}-{n}", n + 1
    return candidate
