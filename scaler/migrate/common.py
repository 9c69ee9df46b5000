"""What both ways of writing a workload share: sources, pool, and the lines at its top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from scaler.migrate.autoscaler_ir import Scaled, Signal, SourceDraft
from scaler.migrate.findings import Remark
from scaler.migrate.yaml_writer import Block

SYNC_S: Final = 15
"""``--horizontal-pod-autoscaler-sync-period``, which no manifest tells."""
DEADLINE_S: Final = 5
NAMES: Final = {"prometheus": "prometheus", "cloudwatch": "cloudwatch"}
"""What a kind of source is called in the file; all others are queues."""
AWAKE: Final = "count(up == 1)"


def top_level(scaled: Scaled, *remarks: Remark) -> Block:
    """Return the workload's name, bounds and times."""
    block = Block()
    block.add("workload", scaled.name)
    block.remark(*remarks)
    for key, value in (("min_replicas", scaled.min_replicas), ("max_replicas", scaled.max_replicas)):
        block.add(key, value, scaled.said.get(key, ""), *scaled.remarks.get(key, ()))
    said = "the HPA's sync period (15 s), which no manifest tells"
    block.add("interval_s", SYNC_S, said, *scaled.remarks.get("interval_s", ()))
    block.add("deadline_s", DEADLINE_S)
    if scaled.paused is not None:
        block.add("paused", value=True, said="observes and decides, and holds the size").remark(*scaled.paused)
    block.remark(*scaled.remarks.get("", ()))
    return block


def named(sources: Sequence[SourceDraft]) -> dict[SourceDraft, str]:
    """Return a name for each source, in order."""
    names: dict[SourceDraft, str] = {}
    for source in sources:
        base = NAMES.get(source.kind, "queue")
        if source not in names:
            taken = sum(name.partition("-")[0] == base for name in names.values())
            names[source] = f"{base}-{taken + 1}" if taken else base
    return names


def sources(names: Mapping[SourceDraft, str], signals: Sequence[Signal]) -> Block:
    """Return the sources, each with all that is asked of it."""
    block = Block()
    for source, name in names.items():
        reading = [s for s in signals if s.source == source]
        remarks = dict.fromkeys(r for s in reading for r in s.source.remarks)
        inner = Block().remark(*remarks).add("kind", source.kind)
        for key, value in source.settings:
            inner.add(key, value)
        for key, made in (("queries", "queries"), ("timestamp_queries", "times")):
            asked = Block()
            for signal in reading:
                for quantity, query in getattr(signal, made).items():
                    asked.add(quantity, query)
            if asked:
                inner.add(key, asked)
        block.add(name, inner)
    return block


def idle_settings(scaled: Scaled, prometheus: str | None) -> Block:
    """Return a source for a workload that reads none, since each must have one: it is read and decides nothing."""
    if prometheus is None:
        rule = "reads nothing, and a workload needs a source that is read"
        scaled.voice.error(scaled.clocks[0].place, rule, "give --prometheus URL of any server")
    inner = Block().add("kind", "prometheus").add("url", prometheus or "http://prometheus")
    return Block().add("prometheus", inner.add("queries", Block().add("up", AWAKE, "a clock reads nothing: not used")))


def pools(scaled: Scaled) -> Block:
    """Return what is resized."""
    target = scaled.target
    settings: dict[str, Any] = {"kind": "kubernetes"}
    if (target.api_version, target.kind) != ("apps/v1", "Deployment"):
        settings |= {"api_version": target.api_version, "object_kind": target.kind}
    inner = Block()
    for key, value in {**settings, "name": target.name, "namespace": target.namespace}.items():
        inner.add(key, value, "scaleTargetRef" if key == "name" else "")
    inner.add("price_usd_per_hour", None, "what a replica costs: advise and the allocator reckon with it")
    return Block().add("replicas", inner)
