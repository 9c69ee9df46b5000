"""From the fleet wanted to sizes: make before break, what is pending first, and nothing above the bounds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from policies.allocate import quantum

if TYPE_CHECKING:
    from collections.abc import Sequence

    from policies.allocate.candidates import PoolCandidate
    from policies.allocate.optimize import AllocationTarget


def sizes(
    options: Sequence[PoolCandidate],
    now: Sequence[int],
    fleet: Sequence[int],
    aim: AllocationTarget,
    *,
    may_lower: bool,
) -> list[int]:
    """Return the size to ask of each pool, so that its supply becomes the fleet's, by way of what is wanted for now.

    A ready replica goes only when those that stay ready carry the whole fleet's work, spares included: until what
    replaces it serves, it does. A pending one goes when it is not wanted even for now. Asks that were written off
    stand as far as they would be of use if they came.
    """
    wanted = [r.desired + max(0, m - r.supply, n - r.supply) for r, m, n in zip(options, now, fleet, strict=True)]
    if may_lower:
        _withdraw(options, fleet, wanted, aim.work)
        _give_up(options, now, fleet, wanted, aim.work)
        _keep_pending(options, wanted, aim.work, math.inf)
    _lift(options, wanted, aim.cap)
    _fit(options, wanted, aim.cap, may_lower=may_lower)
    _fill(options, wanted, aim)
    if may_lower:
        _keep_pending(
            options, wanted, aim.work, aim.cap
        )  # a quantum that does not fit leaves room for what it replaces
    return wanted


def _withdraw(options: Sequence[PoolCandidate], fleet: Sequence[int], wanted: list[int], work: float) -> None:
    """Take back asks that were written off, beyond the pool's even share of the work in its market."""
    for i, (r, n) in enumerate(zip(options, fleet, strict=True)):
        alike = sum(o.pool.market == r.pool.market for o in options)
        useful = max(0, math.ceil(work / (r.work * alike) - 1e-9) - n)
        if not r.fixed and r.overdue:
            wanted[i] -= quantum.removal(wanted[i], r.overdue - useful, r.pool.quantum)


def _give_up(
    options: Sequence[PoolCandidate], now: Sequence[int], fleet: Sequence[int], wanted: list[int], work: float
) -> None:
    """Take back supply that is not wanted: pending ones at once, ready ones as far as the others already serve.

    A platform takes back first what waits for capacity, then what starts: written-off asks go with pending ones, and
    ready ones only when none is pending.
    """
    ready = sum(r.ready * r.work for r in options)
    kept = max(sum(n * r.work for r, n in zip(options, fleet, strict=True)), min(work, ready))
    spare = ready - kept
    for i in sorted(range(len(options)), key=lambda i: -options[i].price / options[i].work):
        r = options[i]
        pending = min(r.expected_pending, max(0, r.supply - max(now[i], fleet[i])))
        serving = 0
        if pending == r.expected_pending:
            serving = max(0, min(r.ready - fleet[i], math.floor(spare / r.work + 1e-9)))
        if r.fixed or not pending + serving:
            continue
        rest = r.desired - r.overdue - pending
        wanted[i] = min(r.desired, quantum.round_up(rest - serving, r.pool.quantum))
        spare -= max(0, rest - wanted[i]) * r.work


def _keep_pending(options: Sequence[PoolCandidate], wanted: list[int], work: float, cap: float) -> None:
    """Let asks stand as far as without them less would be asked for than the size, the cheapest first, within `cap`.

    They are no supply, but the size is the policies' to lower, by their windows and steps.
    """
    for i in sorted(range(len(options)), key=lambda i: options[i].price / options[i].work):
        lacking = work - sum(n * r.work for r, n in zip(options, wanted, strict=True))
        if not options[i].fixed and lacking > 1e-9:
            room = max(0, min(options[i].desired - wanted[i], cap - sum(wanted)))
            wanted[i] += int(min(room, math.ceil(lacking / options[i].work - 1e-9)))


def _lift(options: Sequence[PoolCandidate], wanted: list[int], cap: int) -> None:
    """Bring pools up to their own minimum, as far as the workload's maximum leaves room."""
    for i, r in enumerate(options):
        if not r.fixed:
            wanted[i] += quantum.growth(wanted[i], r.pool.min_replicas - wanted[i], cap - sum(wanted), r.pool.quantum)


def _fit(options: Sequence[PoolCandidate], wanted: list[int], cap: int, *, may_lower: bool) -> None:
    """Back within `cap`: first by taking back written-off asks, then by asking for less, the dearest first."""
    free = [i for i, r in enumerate(options) if not r.fixed]
    for i in free if may_lower else ():
        r = options[i]
        left = still_pending(r.overdue, r.desired, wanted[i])
        over = min(quantum.round_up(max(0, sum(wanted) - cap), r.pool.quantum), left, wanted[i] - r.pool.min_replicas)
        wanted[i] -= quantum.removal(wanted[i], over, r.pool.quantum)
    for i in sorted(free, key=lambda i: -options[i].price / options[i].work):
        if (over := sum(wanted) - cap) > 0 and wanted[i] > options[i].desired:
            wanted[i] = max(options[i].desired, quantum.round_down(wanted[i] - over, options[i].pool.quantum))


def _fill(options: Sequence[PoolCandidate], wanted: list[int], aim: AllocationTarget) -> None:
    """Ask for what is still missing where it fits, the cheapest first: a quantum too large for `cap` leaves a gap."""
    for i in sorted(range(len(options)), key=lambda i: options[i].price / options[i].work):
        r = options[i]
        missing = aim.work - sum(_supply(o, n) * o.work for o, n in zip(options, wanted, strict=True))
        if missing > 1e-9 and not (r.fixed or r.unavailable):
            room = min(r.size(r.most) - wanted[i], aim.cap - sum(wanted))
            wanted[i] += quantum.growth(wanted[i], math.ceil(missing / r.work - 1e-9), room, r.pool.quantum)


def _supply(r: PoolCandidate, wanted: int) -> int:
    """Return what a size supplies."""
    return wanted - r.interruption_pending - still_pending(r.overdue, r.desired, wanted)


def still_pending(overdue: int, asked: int, wanted: int) -> int:
    """Return the written-off asks that stand when a pool asked for so many is `wanted` to be so large.

    They go first.
    """
    return max(0, overdue - max(0, asked - wanted))
