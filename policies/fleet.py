"""What one workload may hold and remove now, given what all of them hold and need: the part of the guard that spans
workloads.

A pure function of the claims, so that the grant which the journal records is all that a replay needs. For each of GPUs
and USD per hour:

1. Every workload's minimum is kept for it.
2. Needs are met in the order of priority. Among equals those who hold something keep it as far as they need it, and
   what is free is shared out evenly: nobody stops serving for an equal.
3. A workload grows only into what is free now, less what is kept for minimums and higher priorities.
4. One that holds more than its part is told so, and gives way by its own scale-down window and steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

from policies.guard.blast import removable
from policies.guard.late import SPARED
from policies.guard.money import EPSILON, gpus, usd_per_hour
from policies.limits import BlastRadius
from policies.model import Decision, Grant, PoolName, Quota, WorkloadName
from policies.rules import Rule
from policies.spec import Pool, WorkloadSpec


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Limits that span all workloads of this daemon. Whose need goes first is the workloads' priority."""

    max_gpus: Annotated[int | None, Rule("GPUs of all workloads at most; null: no limit. GPUs.", ge=0)] = None
    max_usd_per_hour: Annotated[
        float | None,
        Rule(
            "Price of all replicas at most, but for reserved pools; every other pool then needs a price; null: no"
            " limit. USD per hour.",
            ge=0,
        ),
    ] = None
    blast_radius: Annotated[BlastRadius, Rule("How much of the fleet may be scaled in within a window.")] = field(
        default_factory=BlastRadius
    )

    @property
    def limits(self) -> bool:
        """Whether it sets any limit."""
        return self.max_gpus is not None or self.max_usd_per_hour is not None or self.blast_radius.share < 1.0


class Amount(NamedTuple):
    """Of GPUs or USD per hour: what is held, the least that must be left, what is needed, and what a replica takes."""

    held: float
    least: float
    need: float
    replica: float


@dataclass(frozen=True, slots=True)
class Claim:
    """One workload's latest state, as the fleet sees it. `unread` where its size was never seen: it counts in full."""

    priority: int
    replicas: int
    gpus: Amount
    usd_per_hour: Amount
    unread: bool = False


def claim(spec: WorkloadSpec, sizes: Mapping[PoolName, int] | None, needed: float | None) -> Claim:
    """A workload's claim. `sizes` are its pools' sizes, None where one was never seen: it then counts as its maximum.

    `needed` is in replicas, None where it is not known: what is held is then needed.
    """
    current = spec.max_replicas if sizes is None else sum(sizes.values())
    wanted = current if needed is None else math.ceil(needed - EPSILON)
    wanted = max(spec.min_replicas, min(wanted, spec.max_replicas))
    return Claim(
        spec.priority,
        current,
        _amount(spec, sizes, wanted, gpus, spec.budget.gpus),
        _amount(spec, sizes, wanted, usd_per_hour, spec.budget.usd_per_hour),
        unread=sizes is None,
    )


def need(spec: WorkloadSpec, decision: Decision) -> float | None:
    """What a workload would hold if no budget stood in its way, in replicas: None where that is not known.

    An override counts as it says; growth that the guard holds back because it would not help does not count.
    """
    if spec.override is not None and spec.override.in_force(decision.at):
        return float(spec.override.replicas)
    spared = [step.replicas for step in decision.steps if step.rule == SPARED]
    needs = [r.need for r in decision.recommendations if r.need is not None]
    return None if spec.paused or not needs else spared[0] if spared else max(needs)


def _amount(
    spec: WorkloadSpec,
    sizes: Mapping[PoolName, int] | None,
    wanted: int,
    unit: Callable[[Pool], float],
    budget: float | None,
) -> Amount:
    """What replicas come to: a need is priced as the replicas held are on average, by the cheapest pool without any."""
    units = [unit(pool) for pool in spec.pools.values()]
    most = math.inf if budget is None else budget
    if sizes is None:
        held = min(most, spec.max_replicas * max(units))
        return Amount(held, least(spec, unit), held, max(units))
    held = sum(size * unit(spec.pools[name]) for name, size in sizes.items())
    current = sum(sizes.values())
    each = held / current if current else min(units)
    return Amount(held, least(spec, unit), min(most, wanted * each), max(units))


def least(spec: WorkloadSpec, unit: Callable[[Pool], float]) -> float:
    """What the minimums come to at the least: the pools' own, and the rest of the workload's in the cheapest."""
    pools: list[Pool] = list(spec.pools.values())
    rest = spec.min_replicas - sum(pool.min_replicas for pool in pools)
    return sum(pool.min_replicas * unit(pool) for pool in pools) + max(0, rest) * min(unit(pool) for pool in pools)


def grant(
    fleet: Fleet, me: WorkloadName, claims: Mapping[WorkloadName, Claim], removed: int = 0, largest: int = 0
) -> Grant:
    """What `me` may hold and remove now. In its window `removed` replicas of `largest` went, whosever they were."""
    own, others = claims[me], [c for name, c in claims.items() if name != me]
    unread = ", ".join(name for name, c in claims.items() if c.unread and name != me)
    gpus_due = Due(own.priority, own.gpus, [(c.priority, c.gpus) for c in others], unread)
    usd_due = Due(own.priority, own.usd_per_hour, [(c.priority, c.usd_per_hour) for c in others], unread)
    return Grant(
        None if fleet.max_gpus is None else gpus_due.quota("max_gpus", fleet.max_gpus),
        None if fleet.max_usd_per_hour is None else usd_due.quota("max_usd_per_hour", fleet.max_usd_per_hour),
        _removable(fleet.blast_radius, largest, removed),
    )


class Due(NamedTuple):
    """What of a limit is due to one of `priority` that has `own`, beside `others` with their priorities."""

    priority: int
    own: Amount
    others: list[tuple[int, Amount]]
    unread: str

    def quota(self, key: str, limit: float) -> Quota:
        part, held = self.part(limit), self.own.held
        most = min(part, held + self.free(limit)) if part >= held else part
        total = held + sum(o.held for _, o in self.others)
        words = (
            f"daemon.fleet.{key} is {limit:g}, the fleet holds {total:g}, priority {self.priority} may have {most:g}"
        )
        return Quota(most, words + (f"; {self.unread} counts in full: never read" if self.unread else ""))

    def part(self, limit: float) -> float:
        """How much in the end, when all have given way: never less than the minimum."""
        own = self.own
        left = limit - own.least - sum(o.least for _, o in self.others) - self._above(lambda o: o.least)
        left = max(0.0, left)
        mine = max(0.0, own.held - own.least)
        together = mine + sum(max(0.0, min(o.held, o.need) - o.least) for o in self._equals())
        if together > left:
            return own.least + left * (mine / together)
        return own.least + mine + even(left - together, self._unmet(), own.replica)

    def free(self, limit: float) -> float:
        """How much more at once, before anybody has given way: minimums first, then needs by priority."""
        own = self.own
        left = max(0.0, limit - own.held - sum(o.held for _, o in self.others))
        short = [max(0.0, o.least - o.held) for _, o in self.others]
        first = min(max(0.0, own.least - own.held), even(left, short, own.replica))
        left -= first + sum(short) + self._above(lambda o: max(o.held, o.least))
        return first + even(max(0.0, left), self._unmet(), own.replica)

    def _equals(self) -> list[Amount]:
        return [o for priority, o in self.others if priority == self.priority]

    def _above(self, beyond: Callable[[Amount], float]) -> float:
        """What higher priorities need beyond this."""
        return sum(max(0.0, o.need - beyond(o)) for priority, o in self.others if priority > self.priority)

    def _unmet(self) -> list[float]:
        return [max(0.0, o.need - max(o.held, o.least)) for o in self._equals()]


def even(left: float, others: Iterable[float], replica: float) -> float:
    """The part of `left` of one who can use all of it, beside `others` who need so much; rounded up to a replica.

    All get the same, and who needs less leaves the rest to those who need more (max-min fairness, Bertsekas and
    Gallager 1992, section 6.5.2).
    """
    rest, unmet = left, sorted(others)
    for i, need in enumerate(unmet):
        fair = rest / (len(unmet) - i + 1)
        if need > fair:
            rest = fair
            break
        rest -= need
    if replica > 0:
        rest = math.ceil(rest / replica - EPSILON) * replica
    return min(left, rest)


def _removable(radius: BlastRadius, largest: int, removed: int) -> Quota | None:
    if radius.share >= 1.0:
        return None
    left = removable(radius, largest, removed)
    key = f"daemon.fleet.blast_radius.share is {radius.share:g} in {radius.window_s:g} s"
    return Quota(left, f"{key}: {removed} of the fleet's {largest} went already, {left} may go")
