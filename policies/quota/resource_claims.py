"""What one workload holds, needs at the least and needs, in GPUs and USD per hour: its claim on what all share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.guard.budget import EPSILON, gpus, usd_per_hour
from policies.model import Decision, PoolName, RuleId, WorkloadName
from policies.model.spec import Pool, WorkloadSpec


class Amount(NamedTuple):
    """Of GPUs or USD per hour: what is held, the least that must be left, what is needed, and what a replica takes.

    `unread` is the part of `held` that pools may hold whose size is not known in this tick.
    """

    held: float
    least: float
    need: float
    replica: float
    unread: float = 0.0


@dataclass(frozen=True, slots=True)
class ResourceClaim:
    """One workload's latest state, as the fleet sees it. `unread` where its size was never seen: it counts in full."""

    priority: int
    replicas: int
    gpus: Amount
    usd_per_hour: Amount
    unread: bool = False


def claim(
    spec: WorkloadSpec,
    sizes: Mapping[PoolName, int] | None,
    needed: float | None,
    read: Mapping[PoolName, int] | None = None,
) -> ResourceClaim:
    """A workload's claim. `sizes` are its pools' sizes, None where one was never seen: it then counts as its maximum.

    `needed` is in replicas, None where it is not known: what is held is then needed. `read` are the sizes of the pools
    that could be read in this tick, None where all could.
    """
    current = spec.max_replicas if sizes is None else sum(sizes.values())
    wanted = current if needed is None else math.ceil(needed - EPSILON)
    wanted = max(spec.min_replicas, min(wanted, spec.max_replicas))
    return ResourceClaim(
        spec.priority,
        current,
        _unread(spec, read, _amount(spec, sizes, wanted, gpus, spec.budget.gpus), gpus),
        _unread(spec, read, _amount(spec, sizes, wanted, usd_per_hour, spec.budget.usd_per_hour), usd_per_hour),
        unread=sizes is None,
    )


def need(spec: WorkloadSpec, decision: Decision) -> float | None:
    """Return what a workload would hold if no budget stood in its way, in replicas: None where that is not known.

    An override counts as it says. Growth that the guard holds back because it would not help does not count, nor does a
    need below activation at zero. A size kept because the ready replicas are full does.
    """
    if spec.override is not None and spec.override.in_force(decision.at):
        return float(spec.override.replicas)
    spared = [step.replicas for step in decision.steps if step.rule == RuleId.SLO_FEASIBILITY]
    if decision.target == 0 and decision.demand is not None and not decision.active and not spec.paused:
        return 0.0
    needs = [r.need for r in decision.recommendations if r.need is not None]
    needs += [step.replicas for step in decision.steps if step.rule == RuleId.READINESS and step.replicas is not None]
    return None if spec.paused or not needs else spared[0] if spared else max(needs)


def _amount(
    spec: WorkloadSpec,
    sizes: Mapping[PoolName, int] | None,
    wanted: int,
    unit: Callable[[Pool], float],
    budget: float | None,
) -> Amount:
    """Return what replicas come to.

    A need is priced as the replicas held are on average, by the cheapest pool without any.
    """
    units = [unit(pool) for pool in spec.pools.values()]
    most = math.inf if budget is None else budget
    if sizes is None:
        held = min(most, spec.max_replicas * max(units))
        return Amount(held, minimum_claim(spec, unit), held, max(units))
    held = sum(size * unit(spec.pools[name]) for name, size in sizes.items())
    current = sum(sizes.values())
    each = held / current if current else min(units)
    return Amount(held, minimum_claim(spec, unit), min(most, wanted * each), max(units))


def _unread(
    spec: WorkloadSpec, read: Mapping[PoolName, int] | None, amount: Amount, unit: Callable[[Pool], float]
) -> Amount:
    """Return the amount with the part of it that pools may hold which are not among those `read`."""
    if read is None:
        return amount
    known = sum(size * unit(spec.pools[name]) for name, size in read.items())
    return amount._replace(unread=max(0.0, amount.held - known))


def minimum_claim(spec: WorkloadSpec, unit: Callable[[Pool], float]) -> float:
    """Return what the minimums come to at the least: the pools' own, and the rest of the workload's in the cheapest."""
    pools: list[Pool] = list(spec.pools.values())
    rest = spec.min_replicas - sum(pool.min_replicas for pool in pools)
    return sum(pool.min_replicas * unit(pool) for pool in pools) + max(0, rest) * min(unit(pool) for pool in pools)


class ResourceClaims:
    """All workloads' claims side by side in columns, so that thousands are summed up at once."""

    def __init__(self, claims: Mapping[WorkloadName, ResourceClaim] | None = None) -> None:
        self.replicas = 0
        """Those of all workloads whose size was ever read."""
        self.unread: set[WorkloadName] = set()
        self._claims: dict[WorkloadName, ResourceClaim] = {}
        self._at: dict[WorkloadName, int] = {}
        self._rows: NDArray[np.float64] = np.empty((0, 7))
        for name, made in (claims or {}).items():
            self.set(name, made)

    def __getitem__(self, name: WorkloadName) -> ResourceClaim:
        return self._claims[name]

    def set(self, name: WorkloadName, made: ResourceClaim) -> None:
        """Replace the claim of a workload."""
        if name not in self._at:
            self._at[name] = len(self._at)
            self._rows = np.vstack((self._rows, np.zeros(7)))
        else:
            self.replicas -= 0 if self._claims[name].unread else self._claims[name].replicas
        self._claims[name] = made
        self._rows[self._at[name]] = made.priority, *made.gpus[:3], *made.usd_per_hour[:3]
        self.replicas += 0 if made.unread else made.replicas
        (self.unread.add if made.unread else self.unread.discard)(name)

    def drop(self, name: WorkloadName) -> None:
        """Remove the claim of a workload."""
        if name in self._claims:
            self.replicas -= 0 if self._claims[name].unread else self._claims[name].replicas
            self.unread.discard(name)
            self._rows = np.delete(self._rows, self._at[name], axis=0)
            del self._claims[name]
            self._at = {n: i for i, n in enumerate(n for n in self._at if n != name)}

    def others(self, name: WorkloadName) -> NDArray[np.float64]:
        """Everybody else's columns: priority, then held, least and need of GPUs, and of USD per hour."""
        return np.delete(self._rows, self._at[name], axis=0).T
