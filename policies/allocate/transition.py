"""From the best supply to sizes to request: make before break, within the bounds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from policies.allocate import quantum

if TYPE_CHECKING:
    from collections.abc import Sequence

    from policies.allocate.candidates import PoolCandidate
    from policies.allocate.optimize import AllocationTarget


def sizes(
    candidates: Sequence[PoolCandidate],
    interim: Sequence[int],
    final: Sequence[int],
    target: AllocationTarget,
    *,
    may_scale_in: bool,
) -> list[int]:
    """Return the size to request from each pool, from its supply via `interim` to `final`.

    A ready replica goes only when the replicas that stay ready carry the work of the whole final supply, spares
    included: it serves until its substitute does. A pending replica goes when the interim supply does not need it
    either. Abandoned requests stay as far as they would be useful if they arrived.

    Example: 2 ready on-demand replicas are to be replaced by 2 spot ones. The first tick requests 2 and 2; once both
    spot replicas are ready, the next one requests 0 and 2.
    """
    targets = [
        c.desired + max(0, m - c.supply, n - c.supply) for c, m, n in zip(candidates, interim, final, strict=True)
    ]
    if may_scale_in:
        _withdraw_abandoned(candidates, final, targets, target.work)
        _remove_surplus(candidates, interim, final, targets, target.work)
        _retain_pending(candidates, targets, target.work, math.inf)
    _raise_to_minimum(candidates, targets, target.max_replicas)
    _limit_to_maximum(candidates, targets, target.max_replicas, may_scale_in=may_scale_in)
    _fill_gap(candidates, targets, target)
    if may_scale_in:  # a quantum that does not fit makes way for the pending replicas that it was to replace
        _retain_pending(candidates, targets, target.work, target.max_replicas)
    return targets


def _withdraw_abandoned(
    candidates: Sequence[PoolCandidate], final: Sequence[int], targets: list[int], work: float
) -> None:
    """Withdraw abandoned requests beyond the pool's even part of the work in its market.

    Example: 12 replicas of work and 3 spot pools make 4 per pool. A pool with a final supply of 1 and 5 abandoned
    requests withdraws 2.
    """
    for i, (c, n) in enumerate(zip(candidates, final, strict=True)):
        pools_of_market = sum(o.pool.market == c.pool.market for o in candidates)
        useful = max(0, math.ceil(work / (c.work * pools_of_market) - 1e-9) - n)
        if not c.fixed and c.abandoned:
            targets[i] -= quantum.removal(targets[i], c.abandoned - useful, c.pool.quantum)


def _remove_surplus(
    candidates: Sequence[PoolCandidate], interim: Sequence[int], final: Sequence[int], targets: list[int], work: float
) -> None:
    """Remove surplus pending replicas at once, and ready ones as far as the others serve.

    A platform removes first what waits for capacity, and then what starts. So abandoned requests go with pending ones,
    and ready ones only when none is pending.
    """
    ready = sum(c.ready * c.work for c in candidates)
    needed = max(sum(n * c.work for c, n in zip(candidates, final, strict=True)), min(work, ready))
    spare = ready - needed
    for i in sorted(range(len(candidates)), key=lambda i: -candidates[i].price / candidates[i].work):
        c = candidates[i]
        pending = min(c.expected_pending, max(0, c.supply - max(interim[i], final[i])))
        serving = 0
        if pending == c.expected_pending:
            serving = max(0, min(c.ready - final[i], math.floor(spare / c.work + 1e-9)))
        if c.fixed or not pending + serving:
            continue
        without_pending = c.desired - c.abandoned - pending
        targets[i] = min(c.desired, quantum.round_up(without_pending - serving, c.pool.quantum))
        spare -= max(0, without_pending - targets[i]) * c.work


def _retain_pending(candidates: Sequence[PoolCandidate], targets: list[int], work: float, max_replicas: float) -> None:
    """Retain pending requests, cheapest first, where the targets would fall below the size.

    They are no supply, but only the policies lower the size, by their windows and steps.
    """
    for i in sorted(range(len(candidates)), key=lambda i: candidates[i].price / candidates[i].work):
        missing = work - sum(n * c.work for c, n in zip(candidates, targets, strict=True))
        if not candidates[i].fixed and missing > 1e-9:
            limit = max(0, min(candidates[i].desired - targets[i], max_replicas - sum(targets)))
            targets[i] += int(min(limit, math.ceil(missing / candidates[i].work - 1e-9)))


def _raise_to_minimum(candidates: Sequence[PoolCandidate], targets: list[int], max_replicas: int) -> None:
    """Raise pools to their own minimum, as far as the workload's maximum allows."""
    for i, c in enumerate(candidates):
        if not c.fixed:
            missing = c.pool.min_replicas - targets[i]
            targets[i] += quantum.growth(targets[i], missing, max_replicas - sum(targets), c.pool.quantum)


def _limit_to_maximum(
    candidates: Sequence[PoolCandidate], targets: list[int], max_replicas: int, *, may_scale_in: bool
) -> None:
    """Return to `max_replicas`: withdraw abandoned requests, then cut the most expensive growth."""
    managed = [i for i, c in enumerate(candidates) if not c.fixed]
    for i in managed if may_scale_in else ():
        c = candidates[i]
        abandoned = remaining_abandoned(c.abandoned, c.desired, targets[i])
        excess = quantum.round_up(max(0, sum(targets) - max_replicas), c.pool.quantum)
        surplus = min(excess, abandoned, targets[i] - c.pool.min_replicas)
        targets[i] -= quantum.removal(targets[i], surplus, c.pool.quantum)
    for i in sorted(managed, key=lambda i: -candidates[i].price / candidates[i].work):
        c = candidates[i]
        if (excess := sum(targets) - max_replicas) > 0 and targets[i] > c.desired:
            targets[i] = max(c.desired, quantum.round_down(targets[i] - excess, c.pool.quantum))


def _fill_gap(candidates: Sequence[PoolCandidate], targets: list[int], target: AllocationTarget) -> None:
    """Request missing work, cheapest first: a quantum beyond the maximum leaves a gap."""
    for i in sorted(range(len(candidates)), key=lambda i: candidates[i].price / candidates[i].work):
        c = candidates[i]
        missing = target.work - sum(supply_of(o, n) * o.work for o, n in zip(candidates, targets, strict=True))
        if missing > 1e-9 and not (c.fixed or c.unavailable):
            max_growth = min(c.size(c.max_supply) - targets[i], target.max_replicas - sum(targets))
            targets[i] += quantum.growth(targets[i], math.ceil(missing / c.work - 1e-9), max_growth, c.pool.quantum)


def supply_of(candidate: PoolCandidate, size: int) -> int:
    """Return the supply of a pool that is resized to `size`."""
    abandoned = remaining_abandoned(candidate.abandoned, candidate.desired, size)
    return size - candidate.interruption_pending - abandoned


def remaining_abandoned(abandoned: int, desired: int, target: int) -> int:
    """Return the abandoned requests that remain after a resize: they go first.

    Example: 3 of 10 are abandoned. A target of 8 leaves 1 of them, and a target of 6 none.
    """
    return max(0, abandoned - max(0, desired - target))
