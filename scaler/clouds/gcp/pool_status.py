"""Status of pools of Google Compute Engine machines, built from their instance groups."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from policies.model import PoolPart, PoolStatus, Shortfall
from scaler.clouds.gcp import session
from scaler.clouds.gcp.instance_groups import GroupInstance, InstanceGroup
from scaler.clouds.gcp.notices import GcpNoticeListener
from scaler.clouds.gcp.operations import OperationFailure
from scaler.clouds.gcp.project import GcpProject
from scaler.clouds.interruptions import InterruptionTracker, NoticeBoard
from scaler.clouds.parts import sum_parts
from scaler.ports import Clock, Context, OutOfCapacity, OutOfQuota, Permit

OVERDUE_S: Final = 180.0
"""Time after a notice's time until which its machine may still be there: templates allow two minutes. Seconds."""


@dataclass(frozen=True, slots=True)
class PoolDetails:
    """Details of a pool that an adapter knows beyond its groups.

    `missing` counts requested machines that no group has.
    """

    desired: int
    version: str = ""
    other_writer: str | None = None
    reserved: int | None = None
    shortfall: Shortfall | None = None
    missing: int = 0


class FirstReports:
    """The time of the first report of a failure that is reported again in each read."""

    def __init__(self) -> None:
        self._reason, self._at = "", 0.0

    def first_at(self, reason: str, at: float) -> float:
        """Return the time at which this `reason` was first reported without another in between."""
        if reason != self._reason:
            self._reason, self._at = reason, at
        return self._at


class StatusBuilder:
    """Builds the status of a pool whose replicas are groups' machines.

    `kind` names its accelerator or machine.
    """

    def __init__(self, board: NoticeBoard, market: str, kind: str, clock: Clock) -> None:
        self._board = board
        self._interruptions = InterruptionTracker(board, OVERDUE_S)
        self._market = market
        self._kind = kind
        self._clock = clock
        self._reports = FirstReports()

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
                self._board.unpin(machine.name)  # it returns under the same name
        return pending

    def _shortfall(self, groups: Sequence[InstanceGroup], details: PoolDetails) -> Shortfall | None:
        """Return the newest reason for missing machines, with type, zone and market."""
        dated = [(self._dated(g.shortfall), g) for g in groups]
        shortfalls = [replace(s, reason=self._with_placement(s.reason, g)) for s, g in dated if s is not None]
        return newest([*shortfalls, details.shortfall])

    def _dated(self, shortfall: Shortfall | None) -> Shortfall | None:
        """Return a shortfall with a time: that of the first read where the platform reports none."""
        if shortfall is None or shortfall.at > 0:
            return shortfall
        return replace(shortfall, at=self._reports.first_at(shortfall.reason, self._clock.now()))

    def _with_placement(self, reason: str, group: InstanceGroup) -> str:
        zones = sorted({m.zone for m in group.machines if m.failed})
        return placement(reason, self._kind, ", ".join(zones), self._market)


def placement(reason: str, kind: str, zone: str, market: str) -> str:
    """Return a reason followed by its type, zone and market.

    Example: `stock-out (h100, us-central1-a, spot)`.
    """
    place = ", ".join(part for part in (kind, zone, market) if part)
    return f"{reason} ({place})" if place else reason


@contextlib.contextmanager
def pool_details(kind: str, zone: str, market: str) -> Iterator[None]:
    """Add type, zone and market to capacity and quota errors. Raises port errors."""
    try:
        yield
    except (OutOfCapacity, OutOfQuota) as e:
        raise type(e)(placement(str(e), kind, zone, market)) from e


def _part(machine: GroupInstance, market: str, noticed: bool) -> PoolPart:
    pending = not machine.ready and not machine.failed and not _is_leaving(machine)
    return PoolPart(machine.zone, market, int(machine.ready), int(pending), int(noticed))


def standby_parts(
    ready: Sequence[GroupInstance], starting: Sequence[GroupInstance], market: str
) -> tuple[PoolPart, ...]:
    """Return the standby machines by zone, `starting` ones as pending."""
    standby = [PoolPart(m.zone, market, 1) for m in ready]
    return sum_parts([*standby, *(PoolPart(m.zone, market, 0, 1) for m in starting if not m.failed)])


def _is_leaving(machine: GroupInstance) -> bool:
    return machine.action in {"ABANDONING", "DELETING"} or machine.status in {"SUSPENDED", "SUSPENDING"}


def shortfall_of(
    failure: OperationFailure | None, reported: Shortfall | None, kind: str, zones: Sequence[str], market: str
) -> Shortfall | None:
    """Return the reason for missing machines.

    It is the failed operation's reason, or else the one that the platform reports.
    """
    shortfall = (failure.shortfall if failure is not None else None) or reported
    return (
        None
        if shortfall is None
        else replace(shortfall, reason=placement(shortfall.reason, kind, ", ".join(zones), market))
    )


def newest(shortfalls: Iterable[Shortfall | None]) -> Shortfall | None:
    """Return the newest shortfall; None without one."""
    return max((s for s in shortfalls if s is not None), key=lambda s: s.at, default=None)


async def check_permissions(
    context: Context, project: GcpProject, permissions: Sequence[str], listener: GcpNoticeListener
) -> Sequence[Permit]:
    """Return the permits of a pool for `check --live`. Raises port errors."""
    return [*await session.check_permissions(context, project, permissions), *await listener.permits()]
