"""What one workload may hold and remove now, given what all of them hold and need: the part of the guard that spans
workloads.

A pure function of the claims, so that the grant which the journal records is all that a replay needs. For each of GPUs
and USD per hour:

1. Every workload's minimum is kept for it.
2. Needs are met in the order of priority. Among equals those who hold something keep it as far as they need it, and
   what is free is shared out evenly: nobody stops serving for an equal.
3. A workload grows only into what is free now, less what is kept for minimums and higher priorities.
4. One that holds more than its part is told so, and gives way by its own scale-down window and steps.
5. A grant is for the pools whose size is known in this tick; the others may hold the rest of what the workload counts
   for. Where a workload counts for 20 GPUs, 5 of them known, and may have 22, the known pools may grow from 5 to 7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.guard.blast_radius import removable
from policies.guard.budget import EPSILON
from policies.model import Grant, Quota, WorkloadName
from policies.model.field_metadata import FieldMetadata
from policies.model.limits import BlastRadius
from policies.quota.resource_claims import Amount, ResourceClaims

SHOWN: Final = 3
"""Names in a reason, at the most: enough to go and look."""


@dataclass(frozen=True, kw_only=True)
class FleetLimits:
    """Limits that span all workloads of this daemon. Whose need goes first is the workloads' priority."""

    max_gpus: Annotated[int | None, FieldMetadata("GPUs of all workloads at most; null: no limit. GPUs.", ge=0)] = None
    max_usd_per_hour: Annotated[
        float | None,
        FieldMetadata(
            "Price of all replicas at most, but for reserved pools; every other pool then needs a price; null: no"
            " limit. USD per hour.",
            ge=0,
        ),
    ] = None
    blast_radius: Annotated[BlastRadius, FieldMetadata("How much of the fleet may be scaled in within a window.")] = (
        field(default_factory=BlastRadius)
    )

    @property
    def limits(self) -> bool:
        """Whether it sets any limit."""
        return self.max_gpus is not None or self.max_usd_per_hour is not None or self.blast_radius.share < 1.0


def grant(fleet: FleetLimits, me: WorkloadName, claims: ResourceClaims, removed: int = 0, largest: int = 0) -> Grant:
    """Return what `me` may hold and remove now.

    In its window `removed` replicas of `largest` went, whosever they were.
    """
    own, others = claims[me], claims.others(me)
    unread = sorted(claims.unread - {me})
    dark = ", ".join(unread[:SHOWN]) + (f" and {len(unread) - SHOWN} more" if len(unread) > SHOWN else "")
    gpus = QuotaShare(own.priority, own.gpus, others[0], *others[1:4])
    usd_per_hour = QuotaShare(own.priority, own.usd_per_hour, others[0], *others[4:7])
    return Grant(
        None if fleet.max_gpus is None else gpus.quota("max_gpus", fleet.max_gpus, dark),
        None
        if fleet.max_usd_per_hour is None
        else usd_per_hour.quota("max_usd_per_hour", fleet.max_usd_per_hour, dark),
        _removable(fleet.blast_radius, largest, removed),
        removed,
    )


class QuotaShare(NamedTuple):
    """What of a limit is due to one of `priority` that has `own`, beside others: a column each."""

    priority: int
    own: Amount
    priorities: NDArray[np.float64]
    held: NDArray[np.float64]
    least: NDArray[np.float64]
    need: NDArray[np.float64]

    def quota(self, key: str, limit: float, dark: str) -> Quota:
        part, held = self.part(limit), self.own.held
        most = min(part, held + self.free(limit)) if part >= held else part
        most = min(most, max(held, most) - self.own.unread)
        total = f"the fleet holds {held + float(self.held.sum()):g}"
        words = f"daemon.fleet.{key} is {limit:g}, {total}, priority {self.priority} may have {most:g}"
        words += f"; its pools that cannot be read may hold {self.own.unread:g} more" if self.own.unread else ""
        return Quota(most, words + (f"; {dark} counts in full: never read" if dark else ""))

    def part(self, limit: float) -> float:
        """Return how much in the end, when all have given way: never less than the minimum."""
        own, equals = self.own, self.priorities == self.priority
        left = max(0.0, limit - own.least - float(self.least.sum()) - self._above(self.least))
        mine = max(0.0, own.held - own.least)
        kept = np.maximum(np.minimum(self.held, self.need) - self.least, 0.0)[equals]
        together = mine + float(kept.sum())
        if together > left:
            return own.least + left * (mine / together)
        return own.least + mine + fair_share(left - together, self._unmet(), own.replica)

    def free(self, limit: float) -> float:
        """Return how much more at once, before anybody has given way: minimums first, then needs by priority."""
        own = self.own
        left = max(0.0, limit - own.held - float(self.held.sum()))
        short = np.maximum(self.least - self.held, 0.0)
        first = min(max(0.0, own.least - own.held), fair_share(left, short, own.replica))
        left -= first + float(short.sum()) + self._above(np.maximum(self.held, self.least))
        return first + fair_share(max(0.0, left), self._unmet(), own.replica)

    def _above(self, beyond: NDArray[np.float64]) -> float:
        """Return what higher priorities need beyond this."""
        return float(np.maximum(self.need - beyond, 0.0)[self.priorities > self.priority].sum())

    def _unmet(self) -> NDArray[np.float64]:
        unmet: NDArray[np.float64] = (self.need - np.maximum(self.held, self.least))[self.priorities == self.priority]
        return unmet


def fair_share(left: float, others: NDArray[np.float64], replica: float) -> float:
    """The part of `left` of one who can use all of it, beside `others` who need so much; rounded up to a replica.

    All get the same, and who needs less leaves the rest to those who need more (max-min fairness, Bertsekas and
    Gallager 1992, section 6.5.2).
    """
    unmet = np.sort(others[others > 0.0])
    met = np.concatenate(([0.0], np.cumsum(unmet)))
    fair = (left - met) / np.arange(unmet.size + 1, 0, -1)  # when the first so many have all that they need
    short = np.flatnonzero(unmet > fair[:-1])
    rest = float(fair[short[0] if short.size else -1])
    if replica > 0:
        rest = math.ceil(rest / replica - EPSILON) * replica
    return max(0.0, min(left, rest))


def _removable(radius: BlastRadius, largest: int, removed: int) -> Quota | None:
    if radius.share >= 1.0:
        return None
    left = removable(radius, largest, removed)
    key = f"daemon.fleet.blast_radius.share is {radius.share:g} in {radius.window_s:g} s"
    return Quota(left, f"{key}: {removed} of the fleet's {largest} went already, {left} may go")
