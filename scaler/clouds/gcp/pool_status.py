"""Status of pools of Google Compute Engine machines, built from their instance groups."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from policies.model import Part, PoolStatus, Shortfall
from scaler.clouds.gcp import session
from scaler.clouds.gcp.instance_groups import GroupInstance, InstanceGroup
from scaler.clouds.gcp.notices import GcpNoticeListener
from scaler.clouds.gcp.operations import OperationFailure
from scaler.clouds.gcp.project import GcpProject
from scaler.clouds.interruptions import InterruptionTracker, NoticeBoard
from scaler.clouds.parts import sum_parts
from scaler.ports import Clock, Context, OutOfCapacity, OutOfQuota, Permit

LATE_S: Final = 180.0
"""How long after a notice's time its machine may still be there: templates may ask for two minutes. Seconds."""


@dataclass(frozen=True, slots=True)
class PoolDetails:
    """What an adapter adds to what its groups tell. `lost` counts what was asked for and has no machine at all."""

    desired: int
    version: str = ""
    other_writer: str | None = None
    reserved: int | None = None
    shortfall: Shortfall | None = None
    missing: int = 0


class StatusBuilder:
    """Builds the status of a pool whose replicas are the machines of groups. `kind` is what it buys, in words."""

    def __init__(self, board: NoticeBoard, market: str, kind: str, clock: Clock) -> None:
        self._board = board
        self._interruptions = InterruptionTracker(board, LATE_S)
        self._market = market
        self._kind = kind
        self._clock = clock
        self._first_read_at: dict[str, float] = {}

    def status(self, groups: Sequence[InstanceGroup], details: PoolDetails) -> PoolStatus:
        """Return the pool's status, and count its interruptions."""
        machines = [m for group in groups for m in group.machines]
        pending = self._observe(machines)
        ready = sum(m.ready for m in machines)
        failed = min(sum(m.failed for m in machines) + details.missing, max(0, details.desired - ready))
        return PoolStatus(
            desired=details.desired,
            ready=ready,
            other_writer=details.other_writer,
            version=details.version,
            interruption_pending=len(pending),
            interrupted=self._interruptions.interrupted,
            failed=failed,
            shortfall=self._shortfall(groups, details) if failed else None,
            reserved=details.reserved,
            parts=sum_parts(_part(m, self._market, m.name in pending) for m in machines),
        )

    def _observe(self, machines: Sequence[GroupInstance]) -> Collection[str]:
        """Count interruptions; return the ready machines with a notice."""
        by_name = {m.name: m for m in machines}

        def was_interrupted(name: str, noticed: bool) -> bool:
            machine = by_name.get(name)
            if machine is None:
                return noticed
            if machine.action == "RECREATING":
                return noticed or self._market == "spot"
            return machine.down or (noticed and machine.action != "DELETING")

        pending = self._interruptions.observe({m.name: 1 for m in machines if m.ready}, was_interrupted)
        for machine in machines:
            if not machine.ready:
                self._board.unpin(machine.name)  # it comes back under the same name
        return pending

    def _shortfall(self, groups: Sequence[InstanceGroup], details: PoolDetails) -> Shortfall | None:
        """Return the newest reason why machines do not come, with type, zone and market."""
        found = [(self._dated(g.shortfall), g) for g in groups]
        shorts = [replace(s, reason=self._with_placement(s.reason, g)) for s, g in found if s is not None]
        return max([*shorts, *([details.shortfall] if details.shortfall else [])], key=lambda s: s.at, default=None)

    def _dated(self, short: Shortfall | None) -> Shortfall | None:
        """Return a shortfall with a time: where the platform has none, that of our first read."""
        if short is None or short.at > 0:
            return short
        if short.reason not in self._first_read_at:
            self._first_read_at = {short.reason: self._clock.now()}
        return replace(short, at=self._first_read_at[short.reason])

    def _with_placement(self, reason: str, group: InstanceGroup) -> str:
        zones = sorted({m.zone for m in group.machines if m.failed})
        return placement(reason, self._kind, ", ".join(zones), self._market)


def placement(reason: str, kind: str, zone: str, market: str) -> str:
    """Return a reason with the type, zone and market that it is about."""
    about = ", ".join(word for word in (kind, zone, market) if word)
    return f"{reason} ({about})" if about else reason


@contextlib.contextmanager
def pool_details(kind: str, zone: str, market: str) -> Iterator[None]:
    """Name type, zone and market in refusals for want of capacity or quota. Raises port errors."""
    try:
        yield
    except (OutOfCapacity, OutOfQuota) as e:
        raise type(e)(placement(str(e), kind, zone, market)) from e


def _part(machine: GroupInstance, market: str, noticed: bool) -> Part:
    pending = not machine.ready and not machine.failed and not _leaves(machine)
    return Part(machine.zone, market, int(machine.ready), int(pending), int(noticed))


def standby_parts(ready: Sequence[GroupInstance], coming: Sequence[GroupInstance], market: str) -> tuple[Part, ...]:
    """Return standby machines by zone."""
    waiting = [Part(m.zone, market, 1) for m in ready]
    return sum_parts([*waiting, *(Part(m.zone, market, 0, 1) for m in coming if not m.failed)])


def _leaves(machine: GroupInstance) -> bool:
    return machine.action in {"ABANDONING", "DELETING"} or machine.status in {"SUSPENDED", "SUSPENDING"}


def shortfall_of(
    failure: OperationFailure | None, standing: Shortfall | None, kind: str, zones: Sequence[str], market: str
) -> Shortfall | None:
    """Return why requested machines do not come.

    By the failed operation, or by what the platform reports.
    """
    short = (failure.shortfall if failure is not None else None) or standing
    return None if short is None else replace(short, reason=placement(short.reason, kind, ", ".join(zones), market))


async def check_permissions(
    context: Context, project: GcpProject, permissions: Sequence[str], listener: GcpNoticeListener
) -> Sequence[Permit]:
    """Return what `check --live` reports of a pool. Raises port errors."""
    return [*await session.check_permissions(context, project, permissions), *await listener.permits()]
