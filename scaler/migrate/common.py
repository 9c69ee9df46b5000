"""Parts that equivalent and native workloads share: top-level settings, sources and pools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from scaler.migrate.autoscaler_ir import Autoscaler, Signal, SourceDraft
from scaler.migrate.findings import Remark
from scaler.migrate.yaml_writer import Block

SYNC_S: Final = 15
"""Default of ``--horizontal-pod-autoscaler-sync-period``, which is not in a manifest. Seconds."""
DEADLINE_S: Final = 5
NAMES: Final = {
    "cloudwatch": "cloudwatch",
    "http_json": "service",
    "postgresql": "database",
    "prometheus": "prometheus",
}
"""Names of sources by kind. All other kinds are queues."""


def top_level(autoscaler: Autoscaler, *remarks: Remark) -> Block:
    """Return the workload's name, bounds and intervals."""
    block = Block()
    block.add("workload", autoscaler.name)
    block.remark(*remarks)
    for key, value in (("min_replicas", autoscaler.min_replicas), ("max_replicas", autoscaler.max_replicas)):
        block.add(key, value, autoscaler.labels.get(key, ""), *autoscaler.remarks.get(key, ()))
    comment = "default sync period of the HPA controller (15 s); no manifest states it"
    block.add("interval_s", SYNC_S, comment, *autoscaler.remarks.get("interval_s", ()))
    block.add("deadline_s", DEADLINE_S)
    if autoscaler.paused is not None:
        block.add("paused", value=True, label="decides and records, but keeps the size").remark(*autoscaler.paused)
    block.remark(*autoscaler.remarks.get("", ()))
    return block


def name_sources(sources: Sequence[SourceDraft]) -> dict[SourceDraft, str]:
    """Return a name for each source, in order."""
    names: dict[SourceDraft, str] = {}
    for source in sources:
        base = NAMES.get(source.kind, "queue")
        if source not in names:
            count = sum(name.partition("-")[0] == base for name in names.values())
            names[source] = f"{base}-{count + 1}" if count else base
    return names


def sources(names: Mapping[SourceDraft, str], signals: Sequence[Signal]) -> Block:
    """Return the sources, each with the queries of its signals."""
    block = Block()
    for source, name in names.items():
        source_signals = [s for s in signals if s.source == source]
        remarks = dict.fromkeys(r for s in source_signals for r in s.source.remarks)
        inner = Block().remark(*remarks).add("kind", source.kind)
        for key, value in source.settings:
            inner.add(key, value)
        for key, attribute in (("queries", "queries"), ("timestamp_queries", "times")):
            queries = Block()
            for signal in source_signals:
                for quantity, query in getattr(signal, attribute).items():
                    queries.add(quantity, query)
            if queries:
                inner.add(key, queries)
        block.add(name, inner)
    return block


def pools(autoscaler: Autoscaler) -> Block:
    """Return the pool of the autoscaler's target."""
    target = autoscaler.target
    settings: dict[str, Any] = {"kind": "kubernetes"}
    if (target.api_version, target.kind) != ("apps/v1", "Deployment"):
        settings |= {"api_version": target.api_version, "object_kind": target.kind}
    inner = Block()
    for key, value in {**settings, "name": target.name, "namespace": target.namespace}.items():
        inner.add(key, value, "scaleTargetRef" if key == "name" else "")
    inner.add("price_usd_per_hour", None, "price of one replica, for forescale advise and for placement across pools")
    return Block().add("replicas", inner)
