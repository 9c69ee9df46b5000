"""Status of Azure pools, from their machines and the result of the last write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from policies.model import PoolPart, PoolStatus, Shortfall
from scaler.clouds.azure.virtual_machines import Vm
from scaler.clouds.interruptions import InterruptionTracker, NoticeBoard
from scaler.clouds.parts import sum_parts
from scaler.ports import OutOfCapacity, OutOfQuota


def kind_of(size: object, spot: bool, zones: Iterable[object]) -> str:
    """Return a pool's size, market and zones for errors.

    Azure's errors do not always name them.
    """
    zone_names = ", ".join(str(z) for z in zones)
    return f"{size}, {'spot' if spot else 'on demand'}, {f'zone {zone_names}' if zone_names else 'no zone'}"


class PoolView:
    """One pool over time: its interruptions and failed machines.

    `kind` names size, market and zones for errors.

    A machine was interrupted if it went after a notice; a spot machine also if it went unrequested.
    """

    def __init__(self, board: NoticeBoard) -> None:
        self.kind = ""
        self._interruptions = InterruptionTracker(board)
        self._spot: frozenset[str] = frozenset()
        self._removing = 0
        self.broken: Sequence[Vm] = ()
        """Machines that exist but do not serve: they count in the pool's size, so they are removed first."""
        self._shortfalls: dict[str, Shortfall] = {}

    def expect_removals(self, machines: int) -> None:
        """Expect this many serving machines to go.

        This process requested their removal, and Azure chooses them.
        """
        self._removing = max(0, machines)

    def status(self, desired: int, vms: Sequence[Vm], write_failure: Shortfall | None, **fields: Any) -> PoolStatus:
        """Return the pool's status. `write_failure` is why the last accepted write failed.

        Example: desired 5, two ready, one creating. After a failed write 5 - 2 - 1 = 2 machines failed; otherwise only
        machines in a failed state count.
        """
        pending = self._observe(vms)
        ready = sum(vm.state == "ready" for vm in vms)
        creating = sum(vm.state == "creating" for vm in vms)
        self.broken = [vm for vm in vms if vm.state in {"failed", "stopped"}]
        shortfall = write_failure or self._newest_shortfall(vms)
        return PoolStatus(
            desired=desired,
            ready=ready,
            interruption_pending=len(pending),
            interrupted=self._interruptions.interrupted,
            failed=max(0, desired - ready - creating)
            if write_failure
            else min(len(self.broken), max(0, desired - ready)),
            shortfall=replace(shortfall, reason=f"{shortfall.reason} [{self.kind}]")
            if shortfall and desired > ready
            else None,
            parts=sum_parts(_part(vm, vm.name in pending) for vm in vms),
            **fields,
        )

    def _observe(self, vms: Sequence[Vm]) -> set[str]:
        """Count interruptions; return the ready machines with a notice.

        A restarting machine still serves.
        """
        by_name = {vm.name: vm for vm in vms}

        def was_interrupted(name: str, noticed: bool) -> bool:
            return noticed or self._went_unrequested(name in self._spot, by_name.get(name))

        before = self._interruptions.serving
        serving = [vm for vm in vms if vm.state == "ready" or (vm.state == "creating" and vm.name in before)]
        pending = self._interruptions.observe({vm.name: 1 for vm in serving}, was_interrupted)
        self._spot = frozenset(vm.name for vm in vms if vm.market == "spot")
        return {vm.name for vm in serving if vm.state == "ready" and vm.name in pending}

    def _went_unrequested(self, spot: bool, vm: Vm | None) -> bool:
        """Return whether a spot machine went whose removal this process did not request."""
        if vm is None or vm.state == "deleting":
            if self._removing > 0:
                self._removing -= 1
                return False
            return spot
        return spot and vm.state == "stopped"

    @contextmanager
    def name_kind_in_errors(self) -> Iterator[None]:
        """Add `kind` to capacity and quota errors."""
        try:
            yield
        except (OutOfCapacity, OutOfQuota) as e:
            raise type(e)(f"{e} [{self.kind}]") from e

    def _newest_shortfall(self, vms: Sequence[Vm]) -> Shortfall | None:
        """Return the newest reason of a machine that did not start, dated with its first read."""
        reported = {vm.name: vm.shortfall for vm in vms if vm.shortfall is not None}
        self._shortfalls = {name: self._first_reported(name, shortfall) for name, shortfall in reported.items()}
        return max(self._shortfalls.values(), key=lambda s: s.at, default=None)

    def _first_reported(self, name: str, shortfall: Shortfall) -> Shortfall:
        known = self._shortfalls.get(name)
        return known if known is not None and known.reason == shortfall.reason else shortfall


def _part(vm: Vm, pending: bool) -> PoolPart:
    return PoolPart(vm.zone, vm.market, int(vm.state == "ready"), int(vm.state == "creating"), int(pending))
