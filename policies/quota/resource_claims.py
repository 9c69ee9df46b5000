"""Claims of the workloads on shared limits: held, minimum and needed GPUs and USD per hour."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.guard.budget import EPSILON, gpus, reserved_usd_per_hour, usd_per_hour
from policies.model import Decision, PoolName, RuleId, WorkloadName
from policies.model.pool import Pool
from policies.model.spec import WorkloadSpec

NO_GROUP: Final = -1
"""Group of a claim that belongs to none."""


class Amount(NamedTuple):
    """GPUs or USD per hour: held, minimum, needed, and the largest amount of one replica.

    `unread` is the part of `held` that pools may hold whose size is not known in this tick.
    """

    held: float
    minimum: float
    need: float
    per_replica: float
    unread: float = 0.0

    def plus(self, reserved: float) -> Amount:
        """Return the amount with a part that is always held."""
        return self._replace(held=self.held + reserved, minimum=self.minimum + reserved, need=self.need + reserved)


@dataclass(frozen=True, slots=True)
class ResourceClaim:
    """One workload's latest claim. `unread`: its size was never read, and counts as the maximum."""

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
    """Return a workload's claim on the shared limits.

    `sizes` are its pools' sizes; None where one was never read, so that it counts as its maximum, within its budget,
    and needs its minimum: no other workload grows into the maximum, and none shrinks for it. `needed` is in replicas;
    None where it is not known, so that it needs what it holds. `read` are the sizes of the pools that could be read in
    this tick; None where all could. The budget of routes for providers counts as held.
    """
    current = spec.max_replicas if sizes is None else sum(sizes.values())
    replicas = current if needed is None else math.ceil(needed - EPSILON)
    replicas = max(spec.min_replicas, min(replicas, spec.max_replicas))
    gpu_amount = _amount(spec, sizes, replicas, gpus, spec.budget.gpus)
    usd_amount = _amount(spec, sizes, replicas, usd_per_hour, spec.budget.usd_per_hour)
    return ResourceClaim(
        spec.priority,
        current,
        _with_unread(spec, read, gpu_amount, gpus),
        _with_unread(spec, read, usd_amount, usd_per_hour).plus(reserved_usd_per_hour(spec)),
        unread=sizes is None,
    )


def need(spec: WorkloadSpec, decision: Decision) -> float | None:
    """Return the replicas that a workload would hold without budgets; None where unknown.

    An override counts as its size. Growth that SLO feasibility cuts does not count, nor does a need below activation at
    zero. A size that stays because the ready replicas are full does.
    """
    if spec.override is not None and spec.override.in_force(decision.at):
        return float(spec.override.replicas)
    feasible = [step.replicas for step in decision.steps if step.rule == RuleId.SLO_FEASIBILITY]
    if decision.target == 0 and decision.demand is not None and not decision.active and not spec.paused:
        return 0.0
    needs = [r.need for r in decision.recommendations if r.need is not None]
    needs += [step.replicas for step in decision.steps if step.rule == RuleId.READINESS and step.replicas is not None]
    if spec.paused or not needs:
        return None
    return feasible[0] if feasible else max(needs)


def _amount(
    spec: WorkloadSpec,
    sizes: Mapping[PoolName, int] | None,
    replicas: int,
    unit: Callable[[Pool], float],
    budget: float | None,
) -> Amount:
    """Return the amounts of a workload with `sizes` that needs `replicas`, within its `budget`.

    A need is measured by the mean of the current replicas, or by the cheapest pool where there are none. Example: 2
    replicas at 3 USD/h and 2 at 1 USD/h hold 8 USD/h; 6 replicas need 12.
    """
    units = [unit(pool) for pool in spec.pools.values()]
    maximum = math.inf if budget is None else budget
    if sizes is None:
        held = min(maximum, spec.max_replicas * max(units))
        minimum = minimum_claim(spec, unit)
        return Amount(held, minimum, minimum, max(units))
    held = sum(size * unit(spec.pools[name]) for name, size in sizes.items())
    current = sum(sizes.values())
    mean = held / current if current else min(units)
    return Amount(held, minimum_claim(spec, unit), min(maximum, replicas * mean), max(units))


def _with_unread(
    spec: WorkloadSpec, read: Mapping[PoolName, int] | None, amount: Amount, unit: Callable[[Pool], float]
) -> Amount:
    """Return the amount with the part that pools may hold which are not among those `read`."""
    if read is None:
        return amount
    known = sum(size * unit(spec.pools[name]) for name, size in read.items())
    return amount._replace(unread=max(0.0, amount.held - known))


def minimum_claim(spec: WorkloadSpec, unit: Callable[[Pool], float]) -> float:
    """Return the amount of the pools' minimums, and of the workload's in the cheapest pool.

    Example: a workload minimum of 5 with a pool minimum of 2 at 3 USD/h, and another pool at 1 USD/h, make 9 USD/h.
    """
    pools: list[Pool] = list(spec.pools.values())
    remaining = spec.min_replicas - sum(pool.min_replicas for pool in pools)
    return sum(pool.min_replicas * unit(pool) for pool in pools) + max(0, remaining) * min(unit(pool) for pool in pools)


class ResourceClaims:
    """All workloads' claims as rows of one array: sums over thousands are fast."""

    def __init__(self, claims: Mapping[WorkloadName, ResourceClaim] | None = None) -> None:
        self.replicas = 0
        """The replicas of all workloads whose size was ever read."""
        self.unread: set[WorkloadName] = set()
        self._claims: dict[WorkloadName, ResourceClaim] = {}
        self._row_of: dict[WorkloadName, int] = {}
        self._rows: NDArray[np.float64] = np.empty((0, 7))
        self._groups: NDArray[np.int64] = np.empty(0, np.int64)
        for name, initial in (claims or {}).items():
            self.set(name, initial)

    def __getitem__(self, name: WorkloadName) -> ResourceClaim:
        return self._claims[name]

    def set(self, name: WorkloadName, new: ResourceClaim, group: int = NO_GROUP) -> None:
        """Add or replace the claim of a workload, which belongs to a group for `held`."""
        if name not in self._row_of:
            self._row_of[name] = len(self._row_of)
            self._rows = np.vstack((self._rows, np.zeros(7)))
            self._groups = np.append(self._groups, NO_GROUP)
        else:
            self.replicas -= 0 if self._claims[name].unread else self._claims[name].replicas
        self._claims[name] = new
        self._groups[self._row_of[name]] = group
        self._rows[self._row_of[name]] = new.priority, *new.gpus[:3], *new.usd_per_hour[:3]
        self.replicas += 0 if new.unread else new.replicas
        (self.unread.add if new.unread else self.unread.discard)(name)

    def drop(self, name: WorkloadName) -> None:
        """Remove the claim of a workload."""
        if name in self._claims:
            self.replicas -= 0 if self._claims[name].unread else self._claims[name].replicas
            self.unread.discard(name)
            self._rows = np.delete(self._rows, self._row_of[name], axis=0)
            self._groups = np.delete(self._groups, self._row_of[name])
            del self._claims[name]
            self._row_of = {n: i for i, n in enumerate(n for n in self._row_of if n != name)}

    def others(self, name: WorkloadName) -> NDArray[np.float64]:
        """Return the others' columns: priority, then held, minimum, need of GPUs and of USD/h."""
        return np.delete(self._rows, self._row_of[name], axis=0).T

    def held(self, group: int) -> tuple[int, float, float]:
        """Return the number of a group's workloads, and the GPUs and USD per hour that they hold."""
        rows = self._rows[self._groups == group]
        return len(rows), float(rows[:, 1].sum()), float(rows[:, 4].sum())
