"""Turns the outcomes of ticks into notices for Kubernetes Events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from policies.model import Outcome, Result, Tick
from policies.model.pool import Pool
from policies.model.spec import WorkloadSpec
from policies.model.tick import NOT_WRITTEN
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.config.kinds.kserve import KServe
from scaler.config.kinds.kubernetes import CAPACITY_BUFFER_GROUP, CapacityBuffer, Kubernetes
from scaler.ports import Context, Misconfigured
from scaler.registry import import_object
from scaler.telemetry.log import log

OPEN: Final = "scaler.clouds.kubernetes.event_writer:open_writer"
"""Imported with the first notice: it needs the extra kubernetes."""
SILENT: Final = frozenset({Result.UNCHANGED}) | NOT_WRITTEN


@dataclass(frozen=True, slots=True)
class Regarding:
    """The object that an event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class WorkloadEvent:
    """One event to write. `reason` is in CamelCase, `note` is a sentence."""

    regarding: Regarding
    reason: str
    note: str
    warning: bool = False


def notices(tick: Tick, spec: WorkloadSpec) -> Iterator[tuple[KubeCluster, WorkloadEvent]]:
    """Yield a notice for each resize and each refused resize of an object in a namespace."""
    for outcome in tick.outcomes:
        pool = spec.pools[outcome.pool]
        regarding = object_of(pool)
        if regarding is not None and outcome.result not in SILENT:
            yield pool.cluster, _notice(tick, outcome, regarding)


def object_of(pool: Pool) -> Regarding | None:
    """Return the object in a namespace that a pool resizes; None for any other pool."""
    if isinstance(pool, Kubernetes | KServe):
        return Regarding(pool.api_version, pool.object_kind, pool.namespace, pool.name)
    if isinstance(pool, CapacityBuffer):
        return Regarding(f"{CAPACITY_BUFFER_GROUP}/{pool.api_version}", "CapacityBuffer", pool.namespace, pool.name)
    return None


def _notice(tick: Tick, outcome: Outcome, regarding: Regarding) -> WorkloadEvent:
    change = f"Workload {tick.workload}: {outcome.before} -> {outcome.after} replicas"
    if outcome.result is Result.ACCEPTED:
        reason = "ScaledOut" if outcome.after > outcome.before else "ScaledIn"
        return WorkloadEvent(regarding, reason, f"{change}: {tick.decision.reason}")
    reason = "".join(word.capitalize() for word in outcome.result.value.split("_"))
    words = outcome.result.value.replace("_", " ")
    return WorkloadEvent(regarding, reason, f"{change} refused ({words}): {outcome.reason}", warning=True)


class KubernetesEvents:
    """Passes the notices of ticks to the writer of each cluster."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._writers: dict[KubeCluster, asyncio.Task[Callable[[WorkloadEvent], None] | None]] = {}

    def observe(self, tick: Tick, spec: WorkloadSpec) -> None:
        """Queue the notices of a tick. It never waits."""
        for cluster, notice in notices(tick, spec):
            self.put(cluster, notice)

    def put(self, cluster: KubeCluster, notice: WorkloadEvent) -> None:
        """Queue a notice. The cluster's writer is opened in the background."""
        if cluster not in self._writers:
            self._writers[cluster] = asyncio.create_task(self._open(cluster))

        def deliver(opened: asyncio.Task[Callable[[WorkloadEvent], None] | None]) -> None:
            if not opened.cancelled() and (put := opened.result()) is not None:
                put(notice)

        self._writers[cluster].add_done_callback(deliver)

    async def _open(self, cluster: KubeCluster) -> Callable[[WorkloadEvent], None] | None:
        try:
            opener: Any = await asyncio.to_thread(import_object, OPEN)
            writer = await opener(self._context, cluster)
        except (ImportError, Misconfigured) as e:
            log.warning("kubernetes events", error=str(e), remedy="set daemon.kubernetes_events to false")
            return None
        put: Callable[[WorkloadEvent], None] = writer.put
        return put
