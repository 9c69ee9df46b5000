"""What pools of Google's machines have in common: a status told from groups, losses counted, other writers noticed."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from policies.model import Part, PoolStatus, Shortfall
from scaler.clouds.gcp.instance_groups import GroupInstance, InstanceGroup
from scaler.clouds.gcp.notices import GcpNoticeListener
from scaler.clouds.gcp.operations import OperationFailure
from scaler.clouds.gcp.project import GcpProject
from scaler.clouds.interruptions import Board
from scaler.ports import Clock, Context, OutOfCapacity, OutOfQuota, Permit

LATE_S: Final = 180.0
"""How long after its time a machine may still be there: templates may ask for two minutes' notice."""


class GcpForeignWriteDetector:
    """Notices sizes that we did not ask for, and says for a while who may have set them."""

    def __init__(self, clock: Clock, other_writer_yield_s: float) -> None:
        self._clock = clock
        self._yield_s = other_writer_yield_s
        self._asked: set[int] = set()
        self._seen: int | None = None
        self._foreign = ""
        self._until = float("-inf")

    def asking(self, size: int) -> None:
        """We are about to ask for `size`; whether it comes through may stay unknown."""
        self._asked.add(size)

    def asked(self, size: int) -> None:
        """The platform took `size`."""
        self._asked = {size}

    def note(self, size: int) -> str | None:
        """Who else sizes this, as far as it was seen."""
        now = self._clock.now()
        if size in self._asked:
            self._asked = {size}
        elif self._seen is not None and size != self._seen:
            self._foreign, self._until = f"somebody set {size}, which we did not ask for", now + self._yield_s
        self._seen = size
        return self._foreign if 0 < self._until - now <= self._yield_s else None


def interruption_pending(board: Board, serving: Collection[str], now: float) -> set[str]:
    """Of machines that serve, those that will be taken. A notice that came late is about a machine's past."""
    stand = board.of(serving).items()
    return {name for name, notice in stand if notice.takes_at is None or now < notice.takes_at + LATE_S}


class GcpInterruptionTracker:
    """Which machines the cloud will take, and how many it took so far."""

    def __init__(self, board: Board, market: str, clock: Clock) -> None:
        self._board = board
        self._clock = clock
        self._spot = market == "spot"
        self._serving: set[str] = set()
        self._doomed: set[str] = set()
        self.count = 0

    def look(self, machines: Sequence[GroupInstance]) -> set[str]:
        """Take note of a pool's machines; gives the ready ones that are doomed."""
        by_name = {m.name: m for m in machines}
        ready = {m.name for m in machines if m.ready}
        for name in self._serving - ready:
            if self._taken(name, by_name.get(name)):
                self.count += 1
        for name in (self._serving | by_name.keys()) - ready:
            self._board.unpin(name)  # it comes back under the same name
        self._serving = ready
        self._doomed = interruption_pending(self._board, ready, self._clock.now())
        return self._doomed

    def _taken(self, name: str, machine: GroupInstance | None) -> bool:
        if machine is None or machine.action == "RECREATING":
            return name in self._doomed or (machine is not None and self._spot)
        return machine.down or (name in self._doomed and machine.action != "DELETING")


@dataclass(frozen=True, slots=True)
class PoolDetails:
    """What an adapter adds to what its groups tell. `lost` counts what was asked for and has no machine at all."""

    desired: int
    version: str = ""
    other_writer: str | None = None
    reserved: int | None = None
    short: Shortfall | None = None
    lost: int = 0


class StatusBuilder:
    """Tells the status of a pool whose replicas are the machines of groups."""

    def __init__(self, board: Board, market: str, kind: str, clock: Clock) -> None:
        self._losses = GcpInterruptionTracker(board, market, clock)
        self._market = market
        self._kind = kind
        self._clock = clock
        self._first: dict[str, float] = {}

    def status(self, groups: Sequence[InstanceGroup], told: PoolDetails) -> PoolStatus:
        machines = [m for group in groups for m in group.machines]
        doomed = self._losses.look(machines)
        ready = sum(m.ready for m in machines)
        failed = min(sum(m.failed for m in machines) + told.lost, max(0, told.desired - ready))
        return PoolStatus(
            desired=told.desired,
            ready=ready,
            other_writer=told.other_writer,
            version=told.version,
            interruption_pending=len(doomed),
            interrupted=self._losses.count,
            failed=failed,
            shortfall=self._short(groups, told) if failed else None,
            reserved=told.reserved,
            parts=parts(machines, doomed, self._market),
        )

    def _short(self, groups: Sequence[InstanceGroup], told: PoolDetails) -> Shortfall | None:
        """The newest word of what does not come, with type, zone and market."""
        found = [(self._dated(g.short), g) for g in groups]
        shorts = [replace(s, reason=self._where(s.reason, g)) for s, g in found if s is not None]
        return max([*shorts, *([told.short] if told.short else [])], key=lambda s: s.at, default=None)

    def _dated(self, short: Shortfall | None) -> Shortfall | None:
        """A shortfall whose time nobody tells is as old as our knowledge of it."""
        if short is None or short.at > 0:
            return short
        if short.reason not in self._first:
            self._first = {short.reason: self._clock.now()}
        return replace(short, at=self._first[short.reason])

    def _where(self, reason: str, group: InstanceGroup) -> str:
        zones = sorted({m.zone for m in group.machines if m.failed})
        return placement(reason, self._kind, ", ".join(zones), self._market)


def placement(reason: str, kind: str, zone: str, market: str) -> str:
    """A reason with the type, zone and market that it is about."""
    about = ", ".join(word for word in (kind, zone, market) if word)
    return f"{reason} ({about})" if about else reason


@contextlib.contextmanager
def pool_details(kind: str, zone: str, market: str) -> Iterator[None]:
    """Tell of which type, zone and market a write is refused. Raises port errors."""
    try:
        yield
    except (OutOfCapacity, OutOfQuota) as e:
        raise type(e)(placement(str(e), kind, zone, market)) from e


def parts(machines: Sequence[GroupInstance], doomed: set[str], market: str) -> tuple[Part, ...]:
    """The machines by zone."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for m in machines:
        pending = not m.ready and not m.failed and not _leaves(m)
        counts[m.zone].update(ready=int(m.ready), doomed=int(m.name in doomed), pending=int(pending))
    return tuple(
        Part(zone, market, count["ready"], count["pending"], count["doomed"]) for zone, count in sorted(counts.items())
    )


def waiting_parts(ready: Sequence[GroupInstance], coming: Sequence[GroupInstance], market: str) -> tuple[Part, ...]:
    """Standby machines by zone."""
    there = Counter(m.zone for m in ready)
    on_the_way = Counter(m.zone for m in coming if not m.failed)
    return tuple(Part(zone, market, there[zone], on_the_way[zone]) for zone in sorted(there | on_the_way))


def _leaves(machine: GroupInstance) -> bool:
    return machine.action in {"ABANDONING", "DELETING"} or machine.status in {"SUSPENDED", "SUSPENDING"}


def shortfall_of(
    failure: OperationFailure | None, standing: Shortfall | None, kind: str, zones: Sequence[str], market: str
) -> Shortfall | None:
    """Why what was asked for does not come: by the operation that failed, or by what the platform goes on saying."""
    short = (failure.shortfall if failure is not None else None) or standing
    return None if short is None else replace(short, reason=placement(short.reason, kind, ", ".join(zones), market))


async def check_permissions(
    context: Context, project: GcpProject, permissions: Sequence[str], listener: GcpNoticeListener
) -> Sequence[Permit]:
    """What `check --live` asks of a pool. Raises port errors."""
    from scaler.clouds.gcp import session  # noqa: PLC0415 - no SDK until it is opened

    return [*await session.check_permissions(context, project, permissions), *await listener.permits()]
