"""What clouds say of machines that they will take: one board for all pools, whoever brings the notice.

A listener (a queue of events, a metadata server, a watch of nodes) pins notices; a pool asks for those of its machines,
counts them as doomed, and unpins a machine that is gone. Every pinned notice rings the bells of all who look here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal
from weakref import WeakSet

from scaler.ports import Clock, Context
from scaler.wakeup import Wakeup

FORGET_S: Final = 1800.0
"""A notice whose machine is still there after this was none: clouds take a machine within minutes of its notice."""
REBALANCE_S: Final = 3600.0
"""A rebalance recommendation says that the risk is high, not when: it is believed for longer."""
MOST: Final = 20_000
"""Notices kept; the oldest go first. A fleet is smaller than that."""

Kind = Literal["interruption", "rebalance"]


@dataclass(frozen=True, slots=True)
class Notice:
    """One machine will be taken. `machine` is named as its cloud does: an instance's id, a VM's or a node's name.

    `seen_at` is when we learnt of it, `takes_at` when it will be taken, where the cloud says so.
    """

    machine: str
    kind: Kind
    seen_at: float
    takes_at: float | None = None
    by: str = ""

    def over(self, now: float) -> bool:
        """Whether nothing came of it."""
        return not 0 <= now - self.seen_at < (REBALANCE_S if self.kind == "rebalance" else FORGET_S)


@dataclass(slots=True)
class Board:
    """The notices that stand, by machine."""

    clock: Clock
    _pinned: dict[str, Notice] = field(default_factory=dict)
    _bells: WeakSet[Wakeup] = field(default_factory=WeakSet)

    def pin(self, notice: Notice) -> None:
        """Take a notice; said again, it is no news. An interruption stands above a rebalance recommendation."""
        known = self._pinned.get(notice.machine)
        if known is not None and (known.kind in {notice.kind, "interruption"}):
            return
        self._pinned[notice.machine] = notice
        while len(self._pinned) > MOST:
            del self._pinned[next(iter(self._pinned))]
        for bell in list(self._bells):
            bell.request()

    def unpin(self, machine: str) -> None:
        """The machine is gone, or its cloud took the notice back."""
        self._pinned.pop(machine, None)

    def of(self, machines: Collection[str]) -> Mapping[str, Notice]:
        """The notices that stand for these machines."""
        now = self.clock.now()
        for machine in machines:
            if machine in self._pinned and self._pinned[machine].over(now):
                del self._pinned[machine]
        return {machine: self._pinned[machine] for machine in machines if machine in self._pinned}

    def tell(self, bell: Wakeup) -> None:
        """Ring `bell` at every notice."""
        self._bells.add(bell)


async def board(context: Context) -> Board:
    """The board of this daemon; the caller's workload is woken by every notice pinned there."""
    found = await context.shared("notices", lambda: contextlib.nullcontext(Board(context.clock)))
    found.tell(context.wakeup)
    return found
