"""A workload by this daemon's own policies, out of what the autoscaler was set to: a proposal to look at."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from scaler.migrate import common, promql
from scaler.migrate.autoscaler_ir import CronSchedule, Scaled, Signal, SourceDraft
from scaler.migrate.complete import settling_settings
from scaler.migrate.findings import Remark
from scaler.migrate.metric_detection import Read, named_mean, recognize
from scaler.migrate.yaml_writer import Block

QUEUES: Final = frozenset({"sqs", "pubsub", "service_bus"})
AGE: Final = "oldest_age_s"
"""Of a queue, and no count of messages."""


def block(scaled: Scaled, prometheus: str | None) -> Block:
    """Return the workload's document."""
    read = [_preset(signal) for signal in scaled.signals]
    signals = [signal for signal, _ in read]
    names = common.named([signal.source for signal in signals])
    policies = Block().remark(*scaled.remarks.get("policies", ()))
    wakes = bool(scaled.clocks)
    for signal, known in read:
        wakes |= _add(policies, signal, known, names, scaled)
    for clock in scaled.clocks:
        policies.add(_free(policies, "schedule"), _schedule(clock))
    if scaled.min_replicas == 0 and not wakes:
        rule = "0 needs a policy that can tell work where no replica is; these measure replicas"
        place = scaled.signals[0].place if scaled.signals else ()
        scaled.remark("min_replicas", scaled.voice.lost(place, rule, "add queue_depth, or a gateway's metric total"))
        scaled.min_replicas = 1
    made = common.top_level(scaled, *_unlike(scaled))
    settling_settings(made, scaled)
    made.add("sources", _sources(names, read) if names else common.idle_settings(scaled, prometheus))
    return made.add("policies", policies).add("pools", common.pools(scaled))


def _unlike(scaled: Scaled) -> list[Remark]:
    """Return what of KEDA's own loop is done another way."""
    if scaled.kind == "hpa":
        return []
    said = [Remark("pollingInterval has no counterpart: every turn looks at all, from 0 to 1 too.")]
    if scaled.initial_cooldown_s:
        said.append(Remark("initialCooldownPeriod has no counterpart: after a start nothing shrinks unseen anyway."))
    if scaled.fallback is not None:
        said.append(Remark("fallback is not needed: what cannot be seen is held, and grows if anything else asks."))
    if scaled.active_replicas is not None:
        rule = f"{scaled.active_replicas} while there is work, and 0 else: here zero is left to what the work needs"
        said.append(scaled.voice.lost((*scaled.place, "minReplicaCount"), rule, "or set min_replicas, without zero"))
    return said


def _preset(signal: Signal) -> tuple[Signal, Read | None]:
    """Return the signal by a preset, where its query says just what one reads."""
    if signal.source.kind != "prometheus" or len(signal.queries) != 1 or signal.target_type == "value":
        return signal, None
    known = recognize(next(iter(signal.queries.values())))
    if known is None:
        return _by_name(signal)
    settings: dict[str, Any] = {**dict(signal.source.settings), "preset": known.preset}
    if known.match:
        settings["match"] = dict(known.match)
    source = SourceDraft("prometheus", tuple(settings.items()), signal.source.remarks)
    changed = dataclasses.replace(signal, source=source, quantities=known.quantities, queries={}, times={})
    return _scaled(changed, known.divisor), known


def _by_name(signal: Signal) -> tuple[Signal, Read | None]:
    """Return a mean that some preset knows by its metric's name, under the quantity's name.

    Its query stays as it is.
    """
    found = promql.series(signal.type)
    known = named_mean(found[0]) if found and signal.target_type == "mean" else None
    if known is None:
        return signal, None
    (query,), (time,) = signal.queries.values(), signal.times.values()
    quantity = known.quantities[0]
    asked = query if known.divisor == 1 else f"{query} / {known.divisor:g}"
    changed = dataclasses.replace(signal, quantities=(quantity,), queries={quantity: asked}, times={quantity: time})
    return _scaled(changed, known.divisor), known


def _scaled(signal: Signal, divisor: float) -> Signal:
    return dataclasses.replace(signal, target=signal.target / divisor, activation=signal.activation / divisor)


def _sources(names: Mapping[SourceDraft, str], read: list[tuple[Signal, Read | None]]) -> Block:
    made = common.sources(names, [signal for signal, _ in read])
    for source, name in names.items():
        preset = [s for s, known in read if known and s.source == source and not s.queries]
        wanted = dict.fromkeys(quantity for s in preset for quantity in s.quantities)
        if wanted:
            inner = next(part.value for part in made.parts if not isinstance(part, Remark) and part.key == name)
            inner.add("read", list(wanted))
    return made


def _add(policies: Block, signal: Signal, known: Read | None, names: Mapping[SourceDraft, str], scaled: Scaled) -> bool:
    """Add the policy for a signal; whether it can tell work at zero."""
    settings: dict[str, Any]
    remarks = list(signal.remarks)
    target: dict[str, Any] = {"target_per_replica": signal.target, "activation": signal.activation}
    total = signal.target_type == "average_value"
    if signal.source.kind in QUEUES and AGE not in signal.quantities:
        if not total:
            remarks.append(_value(scaled, signal))
        name, settings = "queue-depth", {"kind": "queue_depth", **target, "count": list(signal.quantities)}
        total = True
    elif known and total and set(signal.quantities) == {"running", "waiting"}:
        name, settings = "concurrency", {"kind": "concurrency", **target}
    elif known and known.across == "mean" and signal.target <= 1:
        if total:
            rule = "was a mean that KEDA divided by the replicas: it asked for one or two, whatever the load"
            remarks.append(scaled.voice.differs(signal.place, rule, "here the mean is held at the target"))
        kind = {"kv_cache_usage": "kv_cache_usage", "utilization": "gpu_utilization"}.get(signal.quantities[0])
        name = "kv-cache" if kind == "kv_cache_usage" else "gpu" if kind else signal.quantities[0].replace("_", "-")
        settings = {"kind": kind, "target": signal.target} if kind else _metric(signal, "mean")
        total = False
    else:
        if signal.target_type == "value":
            remarks.append(_value(scaled, signal))
        name = signal.quantities[0].replace("_", "-").strip("-")[:60]
        settings = _metric(signal, "total" if total else "mean")
    if len(names) > 1:
        settings["source"] = names[signal.source]
    inner = Block().remark(*remarks)
    for key, value in settings.items():
        inner.add(key, value, f"{signal.said}, {signal.type}" if key.startswith("target") else "")
    policies.add(_free(policies, name), inner)
    return total


def _value(scaled: Scaled, signal: Signal) -> Remark:
    rule = "is a ratio times the ready replicas, which overshoots while replicas start"
    return scaled.voice.differs(signal.place, rule, "measure what one replica carries, and state that per replica")


def _metric(signal: Signal, across: str) -> dict[str, Any]:
    settings: dict[str, Any] = {"kind": "metric", "quantity": signal.quantities[0], "target": signal.target}
    if across == "mean":
        return {**settings, "across": "mean"}
    return {**settings, "activation": signal.activation if signal.activation < 1e9 else 0.0}


def _schedule(clock: CronSchedule) -> Block:
    made = Block().remark(*clock.remarks).add("kind", "schedule")
    windows = [{**window, "replicas": max(1, clock.replicas)} for window in clock.windows]
    return made.add("windows", windows, clock.said).add("time_zone", clock.time_zone)


def _free(policies: Block, name: str) -> str:
    taken = {part.key for part in policies.parts if not isinstance(part, Remark)}
    n, found = 2, name
    while found in taken:
        found, n = f"{name}-{n}", n + 1
    return found
