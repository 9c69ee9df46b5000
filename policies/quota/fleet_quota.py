"""Grants of the limits that all workloads share: what one workload may hold and remove now.

A pure function of the claims of all workloads, so that the journaled grant is all that a replay needs. For each of GPUs
and USD per hour:

1. Every workload's minimum is reserved for it.
2. Needs are met in the order of priority. Among equals, those that hold something keep it as far as they need it, and
   what is free is split evenly: no workload stops serving for an equal one.
3. A workload grows only into what is free now, less what is reserved for minimums and higher priorities.
4. A workload that holds more than its part shrinks by its own scale-down window and steps.
5. A grant is for the pools whose size is known in this tick; the others may hold the rest of the workload's claim.
   Where a workload's claim is 20 GPUs, 5 of them known, and it may have 22, the known pools may grow from 5 to 7.

Example: of 20 GPUs, a holds 8 and needs 12, and b of the same priority holds 6 and needs 10, without minimums. The 6
free ones are split evenly, so that a may have 11 and b 9.
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

MAX_NAMES: Final = 3
"""Maximum number of workload names in a reason: enough to look them up."""


@dataclass(frozen=True, kw_only=True)
class FleetLimits:
    """Limits on all workloads together; their priorities decide which need is met first."""

    max_gpus: Annotated[
        int | None,
        FieldMetadata(
            "Maximum GPUs of all workloads together, which must cover their min_replicas; null: no limit. GPUs.", ge=0
        ),
    ] = None
    max_usd_per_hour: Annotated[
        float | None,
        FieldMetadata(
            "Maximum price of all replicas except those of reserved pools, and of what routes may spend on providers"
            " (overflow.max_usd_per_hour, which is reserved whether used or not); null: no limit. Every other pool"
            " then needs price_usd_per_hour. USD per hour.",
            ge=0,
        ),
    ] = None
    blast_radius: Annotated[
        BlastRadius, FieldMetadata("Maximum share of the fleet that may be removed within a window.")
    ] = field(default_factory=BlastRadius)

    @property
    def limits(self) -> bool:
        """Whether it sets any limit."""
        return self.max_gpus is not None or self.max_usd_per_hour is not None or self.blast_radius.share < 1.0


def grant(
    fleet: FleetLimits, workload: WorkloadName, claims: ResourceClaims, removed: int = 0, largest: int = 0
) -> Grant:
    """Return what a workload may hold and remove now.

    `removed` of `largest` replicas of all workloads were removed within the fleet's window.
    """
    own, others = claims[workload], claims.others(workload)
    unread = sorted(claims.unread - {workload})
    unread_text = ", ".join(unread[:MAX_NAMES])
    if len(unread) > MAX_NAMES:
        unread_text += f" and {len(unread) - MAX_NAMES} more"
    gpus = QuotaShare(own.priority, own.gpus, others[0], *others[1:4])
    usd_per_hour = QuotaShare(own.priority, own.usd_per_hour, others[0], *others[4:7])
    return Grant(
        None if fleet.max_gpus is None else gpus.quota("max_gpus", fleet.max_gpus, unread_text),
        None
        if fleet.max_usd_per_hour is None
        else usd_per_hour.quota("max_usd_per_hour", fleet.max_usd_per_hour, unread_text),
        _removable(fleet.blast_radius, largest, removed),
        removed,
    )


class QuotaShare(NamedTuple):
    """One workload's part of a limit: its own amounts, and columns of all others' amounts."""

    priority: int
    own: Amount
    priorities: NDArray[np.float64]
    held: NDArray[np.float64]
    minimum: NDArray[np.float64]
    need: NDArray[np.float64]

    def quota(self, key: str, limit: float, unread_text: str) -> Quota:
        """Return the amount that the workload may hold now, and the reason."""
        part, held = self.part(limit), self.own.held
        maximum = min(part, held + self.free(limit)) if part >= held else part
        maximum = min(maximum, max(held, maximum) - self.own.unread)
        total = f"the fleet uses {held + float(self.held.sum()):g}"
        reason = (
            f"daemon.fleet.{key} is {limit:g}, {total}, this workload (priority {self.priority}) may use {maximum:g}"
        )
        reason += f"; its unreadable pools may use {self.own.unread:g} more" if self.own.unread else ""
        return Quota(
            maximum, reason + (f"; never read, counted at their maximum: {unread_text}" if unread_text else "")
        )

    def part(self, limit: float) -> float:
        """Return the amount once all workloads have given way: never less than the minimum."""
        own, is_equal = self.own, self.priorities == self.priority
        left = max(0.0, limit - own.minimum - float(self.minimum.sum()) - self._needed_above(self.minimum))
        own_retained = max(0.0, own.held - own.minimum)
        retained = np.maximum(np.minimum(self.held, self.need) - self.minimum, 0.0)[is_equal]
        total = own_retained + float(retained.sum())
        if total > left:
            return own.minimum + left * (own_retained / total)
        return own.minimum + own_retained + fair_share(left - total, self._unmet(), own.per_replica)

    def free(self, limit: float) -> float:
        """Return the growth possible at once: minimums come first, then needs by priority."""
        own = self.own
        left = max(0.0, limit - own.held - float(self.held.sum()))
        below_minimum = np.maximum(self.minimum - self.held, 0.0)
        first = min(max(0.0, own.minimum - own.held), fair_share(left, below_minimum, own.per_replica))
        left -= first + float(below_minimum.sum()) + self._needed_above(np.maximum(self.held, self.minimum))
        return first + fair_share(max(0.0, left), self._unmet(), own.per_replica)

    def _needed_above(self, amount: NDArray[np.float64]) -> float:
        """Return what workloads of higher priority need beyond `amount`."""
        return float(np.maximum(self.need - amount, 0.0)[self.priorities > self.priority].sum())

    def _unmet(self) -> NDArray[np.float64]:
        """Return what workloads of the same priority need beyond what they hold and their minimums."""
        unmet: NDArray[np.float64] = (self.need - np.maximum(self.held, self.minimum))[self.priorities == self.priority]
        return unmet


def fair_share(left: float, others: NDArray[np.float64], per_replica: float) -> float:
    """Return the part of `left` for a workload that can use all of it, rounded up to a replica.

    `others` need these amounts. All get the same, and a workload that needs less leaves the difference to those that
    need more (max-min fairness, Bertsekas and Gallager 1992, section 6.5.2). Example: 12 are left, and others need 2
    and 9: the first gets 2, and the other two workloads get 5 each.
    """
    unmet = np.sort(others[others > 0.0])
    met = np.concatenate(([0.0], np.cumsum(unmet)))
    fair = (left - met) / np.arange(unmet.size + 1, 0, -1)  # at index k, where the k smallest needs are met
    short = np.flatnonzero(unmet > fair[:-1])
    share = float(fair[short[0] if short.size else -1])
    if per_replica > 0:
        share = math.ceil(share / per_replica - EPSILON) * per_replica
    return max(0.0, min(left, share))


def _removable(radius: BlastRadius, largest: int, removed: int) -> Quota | None:
    if radius.share >= 1.0:
        return None
    left = removable(radius, largest, removed)
    key = f"daemon.fleet.blast_radius.share is {radius.share:g} per {radius.window_s:g} s"
    return Quota(left, f"{key}: {removed} of the fleet's {largest} replicas were removed, {left} more are allowed")
