"""Status of Azure pools, built from their machines and the result of the last write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from policies.model import Part, PoolStatus, Shortfall
from scaler.clouds.azure.virtual_machines import Vm
from scaler.clouds.interruptions import InterruptionTracker, NoticeBoard
from scaler.clouds.parts import sum_parts
from scaler.ports import OutOfCapacity, OutOfQuota


def kind_of(size: object, spot: bool, zones: Iterable[object]) -> str:
    """Return what a pool buys, in words for errors.

    Azure's own do not always name type, zone and market.
    """
    places = ", ".join(str(z) for z in zones)
    return f"{size}, {'spot' if spot else 'on demand'}, {f'zone {places}' if places else 'no zone'}"


class PoolView:
    """One pool over time: its interruptions, and its machines that failed. `kind` is what it buys, in words.

    A machine was interrupted where it went after a notice, and a spot machine also where it went unrequested.
    """

    def __init__(self, board: NoticeBoard) -> None:
        self.kind = ""
        self._interruptions = InterruptionTracker(board)
        self._spot: frozenset[str] = frozenset()
        self._removing = 0
        self.broken: Sequence[Vm] = ()
        """Machines that exist and do not come: they count in the pool's size, so they are removed first."""
        self._shortfalls: dict[str, Shortfall] = {}

    def remove(self, machines: int) -> None:
        """Expect this many serving machines to go.

        This process requested it, and Azure chooses which.
        """
        self._removing = max(0, machines)

    def status(self, desired: int, vms: Sequence[Vm], write_failure: Shortfall | None, **more: Any) -> PoolStatus:
        """Return the pool's status.

        `late`: why the last accepted write failed; then none of what is missing is pending any more.
        """
        pending = self._observe(vms)
        ready = sum(vm.state == "ready" for vm in vms)
        coming = sum(vm.state == "creating" for vm in vms)
        self.broken = [vm for vm in vms if vm.state in {"failed", "stopped"}]
        short = write_failure or self._newest(vms)
        return PoolStatus(
            desired=desired,
            ready=ready,
            interruption_pending=len(pending),
            interrupted=self._interruptions.interrupted,
            failed=max(0, desired - ready - coming)
            if write_failure
            else min(len(self.broken), max(0, desired - ready)),
            shortfall=replace(short, reason=f"{short.reason} [{self.kind}]") if short and desired > ready else None,
            parts=sum_parts(_part(vm, vm.name in pending) for vm in vms),
            **more,
        )

    def _observe(self, vms: Sequence[Vm]) -> set[str]:
        """Count interruptions; return the ready machines with a notice.

        One that restarts still serves.
        """
        now = {vm.name: vm for vm in vms}

        def was_interrupted(name: str, noticed: bool) -> bool:
            return noticed or self._went_unrequested(name in self._spot, now.get(name))

        before = self._interruptions.serving
        kept = [vm for vm in vms if vm.state == "ready" or (vm.state == "creating" and vm.name in before)]
        pending = self._interruptions.observe({vm.name: 1 for vm in kept}, was_interrupted)
        self._spot = frozenset(vm.name for vm in vms if vm.market == "spot")
        return {vm.name for vm in kept if vm.state == "ready" and vm.name in pending}

    def _went_unrequested(self, spot: bool, vm: Vm | None) -> bool:
        """Return whether a spot machine went that this process did not request to remove."""
        if vm is None or vm.state == "deleting":
            if self._removing > 0:
                self._removing -= 1
                return False
            return spot
        return spot and vm.state == "stopped"

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Name type, zone and market in refusals for want of capacity or quota."""
        try:
            yield
        except (OutOfCapacity, OutOfQuota) as e:
            raise type(e)(f"{e} [{self.kind}]") from e

    def _newest(self, vms: Sequence[Vm]) -> Shortfall | None:
        """Return why the latest machine did not come.

        A reason without a time dates from when it was first read.
        """
        reported = {vm.name: vm.shortfall for vm in vms if vm.shortfall is not None}
        self._shortfalls = {name: self._first_reported(name, short) for name, short in reported.items()}
        return max(self._shortfalls.values(), key=lambda s: s.at, default=None)

    def _first_reported(self, name: str, short: Shortfall) -> Shortfall:
        known = self._shortfalls.get(name)
        return known if known is not None and known.reason == short.reason else short


def _part(vm: Vm, pending: bool) -> Part:
    return Part(vm.zone, vm.market, int(vm.state == "ready"), int(vm.state == "creating"), int(pending))
