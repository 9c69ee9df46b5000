"""Interruption notices and interruptions: one board for all pools, and one tracker a pool.

A listener (a queue of events, a metadata server, a watch of nodes) pins notices to the board. A pool's tracker reads
those of its machines, reports them as interruption pending, and unpins a machine that is gone. Every pinned notice
requests a tick of all workloads that read the board.
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

FORGET_S: Final = 1800.0
"""Lifetime of a notice: clouds interrupt within minutes of it, so one this old came to nothing. Seconds."""
REBALANCE_S: Final = 3600.0
"""Lifetime of a rebalance recommendation, longer because it says that the risk is high, not when. Seconds."""
MOST: Final = 20_000
"""Maximum number of notices, more than any fleet has machines; the oldest is dropped first."""

Kind = Literal["interruption", "rebalance"]
WasInterrupted: TypeAlias = Callable[[str, bool], bool]
"""Whether a replica that serves no more was interrupted, from its name and whether a notice announced it."""


@dataclass(frozen=True, slots=True)
class Notice:
    """An interruption notice. `machine` is the name its cloud uses: an instance's id, a VM's or a node's name.

    `seen_at` is when this process learned of it, `takes_at` when the machine goes, where the cloud says so, both in
    seconds since the Unix epoch; `by` is the notice's source.
    """

    machine: str
    kind: Kind
    seen_at: float
    takes_at: float | None = None
    by: str = ""

    def expired(self, now: float) -> bool:
        """Return whether the machine outlived the notice."""
        return not 0 <= now - self.seen_at < (REBALANCE_S if self.kind == "rebalance" else FORGET_S)


@dataclass(slots=True)
class NoticeBoard:
    """The notices that stand, by machine."""

    clock: Clock
    _pinned: dict[str, Notice] = field(default_factory=dict)
    _wakeups: WeakSet[Wakeup] = field(default_factory=WeakSet)

    def pin(self, notice: Notice) -> None:
        """Take a notice, unless it repeats one. An interruption replaces a rebalance recommendation."""
        known = self._pinned.get(notice.machine)
        if known is not None and (known.kind in {notice.kind, "interruption"}):
            return
        self._pinned[notice.machine] = notice
        while len(self._pinned) > MOST:
            del self._pinned[next(iter(self._pinned))]
        for wakeup in list(self._wakeups):
            wakeup.request()

    def unpin(self, machine: str) -> None:
        """Drop the notice of a machine that is gone, or whose cloud withdrew it."""
        self._pinned.pop(machine, None)

    def of(self, machines: Collection[str], late_s: float = math.inf) -> Mapping[str, Notice]:
        """Return the notices that stand for these machines.

        Those whose time passed `late_s` seconds ago do not.
        """
        now = self.clock.now()
        for machine in machines:
            if machine in self._pinned and self._pinned[machine].expired(now):
                del self._pinned[machine]
        pinned = {machine: self._pinned[machine] for machine in machines if machine in self._pinned}
        return {m: notice for m, notice in pinned.items() if notice.takes_at is None or now < notice.takes_at + late_s}

    def wake(self, wakeup: Wakeup) -> None:
        """Request `wakeup` at every new notice."""
        self._wakeups.add(wakeup)


class InterruptionTracker:
    """The serving replicas of one pool, and the number of them that were interrupted.

    `late_s`: a machine still there so long after its notice's time came back under the same name; the notice is void.
    """

    def __init__(self, board: NoticeBoard, late_s: float = math.inf) -> None:
        self._board = board
        self._late_s = late_s
        self.serving: Mapping[str, int] = {}
        """Units of each replica that served at the last observation, by name."""
        self.noticed: Collection[str] = frozenset()
        """Of those, the ones with an interruption notice."""
        self.interrupted = 0
        """Units interrupted since this process began."""

    def pending(self, machines: Collection[str]) -> Collection[str]:
        """Return those of `machines` with a notice, of an interruption or for rebalancing."""
        return self._board.of(machines, self._late_s).keys()

    def observe(self, serving: Mapping[str, int], was_interrupted: WasInterrupted | None = None) -> Collection[str]:
        """Take note of the machines that serve now, by the names that notices use.

        Return those with a notice.

        Example: i-1 and i-2 serve, and a notice names i-1. Next time only i-3 serves: i-1 was interrupted,
        i-2 was not. `was_interrupted` decides otherwise where its cloud knows more.
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
        """Count the replicas that were interrupted since the last call; remember those that serve.

        For replicas whose notices name what they run on: `noticed` are those with one.
        """
        for name in sorted(self.serving.keys() - serving.keys()):
            announced = name in self.noticed
            if announced if was_interrupted is None else was_interrupted(name, announced):
                self.interrupted += self.serving[name]
        self.serving, self.noticed = serving, noticed

    def _interruptions(self, machines: Collection[str]) -> set[str]:
        found = self._board.of(machines, self._late_s)
        return {machine for machine, notice in found.items() if notice.kind == "interruption"}


async def board(context: Context) -> NoticeBoard:
    """Return the board of this daemon.

    Every notice pinned there requests a tick of the caller's workload.
    """
    shared = await context.shared("notices", lambda: contextlib.nullcontext(NoticeBoard(context.clock)))
    shared.wake(context.wakeup)
    return shared
