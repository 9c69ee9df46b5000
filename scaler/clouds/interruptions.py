"""Interruption notices and interruptions: one board for all pools, one tracker per pool.

A listener (event queue, metadata server, node watch) pins notices to the board. A pool's tracker reads the notices of
its machines, reports them as interruption pending, and unpins a machine that is gone. Every pinned notice requests a
tick of all workloads that read the board.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias
from weakref import WeakSet

from scaler.ports import Clock, Context
from scaler.wakeup import Wakeup

INTERRUPTION_LIFETIME_S: Final = 1800.0
"""Lifetime of an interruption notice: clouds interrupt within minutes, so an older one is void. Seconds."""
REBALANCE_LIFETIME_S: Final = 3600.0
"""Lifetime of a rebalance recommendation: longer, because it announces a high risk without a time. Seconds."""
MAX_NOTICES: Final = 20_000
"""Maximum number of notices, above the machines of any fleet. The oldest is dropped first."""

Kind = Literal["interruption", "rebalance"]
WasInterrupted: TypeAlias = Callable[[str, bool], bool]
"""Decides whether a replica that no longer serves was interrupted, from its name and whether it had a notice."""


@dataclass(frozen=True, slots=True)
class InterruptionNotice:
    """An interruption notice.

    `machine` is the cloud's name for it: an instance id, a VM's or a node's name.

    `received_at` is when this process received it and `interrupts_at` when the machine goes, where the cloud announces
    that, both in seconds since the Unix epoch. `source` names the listener.
    """

    machine: str
    kind: Kind
    received_at: float
    interrupts_at: float | None = None
    source: str = ""

    def expired(self, now: float) -> bool:
        """Return whether the notice is older than the lifetime of its kind."""
        lifetime_s = REBALANCE_LIFETIME_S if self.kind == "rebalance" else INTERRUPTION_LIFETIME_S
        return not 0 <= now - self.received_at < lifetime_s


@dataclass(slots=True)
class NoticeBoard:
    """The valid notices, by machine."""

    clock: Clock
    _pinned: dict[str, InterruptionNotice] = field(default_factory=dict)
    _wakeups: WeakSet[Wakeup] = field(default_factory=WeakSet)

    def pin(self, notice: InterruptionNotice) -> None:
        """Add a notice, unless it repeats one. An interruption replaces a rebalance recommendation."""
        known = self._pinned.get(notice.machine)
        if known is not None and (known.kind in {notice.kind, "interruption"}):
            return
        self._pinned[notice.machine] = notice
        while len(self._pinned) > MAX_NOTICES:
            del self._pinned[next(iter(self._pinned))]
        for wakeup in list(self._wakeups):
            wakeup.request()

    def unpin(self, machine: str) -> None:
        """Drop the notice of a machine that is gone, or whose notice the cloud withdrew."""
        self._pinned.pop(machine, None)

    def notices_for(self, machines: Collection[str], overdue_s: float = math.inf) -> Mapping[str, InterruptionNotice]:
        """Return the valid notices for these machines.

        A notice whose `interrupts_at` passed more than `overdue_s` seconds ago is not valid.
        """
        if not self._pinned:
            return {}
        now = self.clock.now()
        for machine in machines:
            if machine in self._pinned and self._pinned[machine].expired(now):
                del self._pinned[machine]
        pinned = {machine: self._pinned[machine] for machine in machines if machine in self._pinned}
        return {
            machine: notice
            for machine, notice in pinned.items()
            if notice.interrupts_at is None or now < notice.interrupts_at + overdue_s
        }

    def wake(self, wakeup: Wakeup) -> None:
        """Request `wakeup` at every new notice."""
        self._wakeups.add(wakeup)


class InterruptionTracker:
    """The serving replicas of one pool, and the number that were interrupted.

    `overdue_s`: a machine still present this long after its notice's time came back under the same name, so the notice
    is void. Seconds.
    """

    def __init__(self, board: NoticeBoard, overdue_s: float = math.inf) -> None:
        self._board = board
        self._overdue_s = overdue_s
        self.serving: Mapping[str, int] = {}
        """Units of each replica that served at the last observation, by replica name."""
        self.noticed: Collection[str] = frozenset()
        """Names of those replicas that had an interruption notice."""
        self.interrupted = 0
        """Units interrupted since this process started."""

    def pending(self, machines: Collection[str]) -> Collection[str]:
        """Return the `machines` with a notice.

        The notice is an interruption or a rebalance recommendation.
        """
        return self._board.notices_for(machines, self._overdue_s).keys()

    def observe(self, serving: Mapping[str, int], was_interrupted: WasInterrupted | None = None) -> Collection[str]:
        """Record the units of the machines that serve now; return those with a notice.

        Machines have the names that notices use.

        Example: i-1 and i-2 serve, and a notice names i-1. At the next call only i-3 serves: i-1 was interrupted, i-2
        was not. `was_interrupted` replaces this rule where the cloud reports more.
        """
        gone = self.serving.keys() - serving.keys()
        self.noticed = {*self.noticed, *self._interruptions(gone)}
        self.track(serving, self._interruptions(serving.keys()), was_interrupted)
        for machine in gone:
            self._board.unpin(machine)
        return self.pending(serving.keys())

    def track(
        self, serving: Mapping[str, int], noticed: Collection[str], was_interrupted: WasInterrupted | None = None
    ) -> None:
        """Count the replicas that were interrupted since the last call; record those that serve.

        Called directly for replicas whose notices name the node they run on; `noticed` are the replicas with a notice.
        """
        for name in sorted(self.serving.keys() - serving.keys()):
            announced = name in self.noticed
            if announced if was_interrupted is None else was_interrupted(name, announced):
                self.interrupted += self.serving[name]
        self.serving, self.noticed = serving, noticed

    def _interruptions(self, machines: Collection[str]) -> set[str]:
        notices = self._board.notices_for(machines, self._overdue_s)
        return {machine for machine, notice in notices.items() if notice.kind == "interruption"}


async def board(context: Context) -> NoticeBoard:
    """Return the daemon's notice board.

    Every notice pinned there requests a tick of the caller's workload.
    """
    notices = await context.shared("notices", lambda: contextlib.nullcontext(NoticeBoard(context.clock)))
    notices.wake(context.wakeup)
    return notices
