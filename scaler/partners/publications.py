"""The sizes of published pools, as they are valid now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from policies.model import PoolName, Result, Tick, WorkloadName
from scaler.config.kinds.kubernetes import Published
from scaler.controller import Controller
from scaler.ports import Misconfigured, Unavailable
from scaler.telemetry.health import Health

METRIC: Final = "forescale-desired-replicas"
"""Name of the metric that KEDA and HPAs read. Its target is 1 per replica, so that the value is the size."""


@dataclass(frozen=True, slots=True)
class Publication:
    """A published pool of a workload."""

    workload: WorkloadName
    pool: PoolName


class Publications:
    """The published sizes of a daemon's workloads.

    A size is valid while its workload's loop makes progress, by the rule of ``/healthz``. There is no size without a
    decision on it: an old or missing decision is an error, so that the other autoscaler keeps its size.
    """

    def __init__(
        self, controllers: Mapping[WorkloadName, Controller], ticks: Mapping[WorkloadName, Tick], health: Health
    ) -> None:
        self._controllers = controllers
        self._ticks = ticks
        self._health = health

    def select(self, namespace: str, labels: Mapping[str, str]) -> Publication:
        """Return the published pool in a namespace that the labels `workload` and `pool` name.

        A workload with one published pool needs no `pool`. Raises `Misconfigured`, which names the pools that exist.
        """
        pools = self._in(namespace)
        workload, pool = labels.get("workload"), labels.get("pool")
        selected = [p for p in pools if workload in {None, p.workload} and pool in {None, p.pool}]
        if workload is not None and len(selected) == 1:
            return selected[0]
        known = ", ".join(f"workload {p.workload}, pool {p.pool}" for p in pools) or "none"
        if workload is None:
            problem = "the key workload is missing"
        else:
            wanted = f"workload {workload}" + ("" if pool is None else f", pool {pool}")
            count = f"{len(selected)} published pools, so name its pool" if selected else "no published pool"
            problem = f"{wanted} has {count}"
        raise Misconfigured(f"{problem}; published pools in namespace {namespace}: {known}")

    def size(self, publication: Publication) -> int:
        """Return the decided size of a published pool. Raises `Unavailable` where none is valid now."""
        workload, pool = publication.workload, publication.pool
        tick = self._ticks.get(workload)
        if tick is None:
            raise Unavailable(f"{workload}: no decision yet")
        if stall := self._health.stall_of(workload):
            raise Unavailable(f"{workload}: {stall}")
        if tick.dry_run:
            raise Unavailable(f"{workload}: the daemon runs with --dry-run, which publishes nothing")
        outcome = next((o for o in tick.outcomes if o.pool == pool), None)
        if outcome is None:
            reason = tick.observation.pool_errors.get(pool) or tick.decision.reason
            raise Unavailable(f"{workload}, pool {pool}: no size is decided: {reason}")
        if outcome.result is not Result.PUBLISHED:
            raise Unavailable(f"{workload}, pool {pool}: {outcome.result}: {outcome.reason}")
        return outcome.after

    def _in(self, namespace: str) -> list[Publication]:
        """Return the published pools of a namespace."""
        return [
            Publication(workload, name)
            for workload, controller in sorted(self._controllers.items())
            for name, pool in controller.workload.spec.pools.items()
            if isinstance(pool, Published) and pool.namespace == namespace
        ]
