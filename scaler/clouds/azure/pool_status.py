"""A pool's status, put together from its machines, its last write's fate and what stands around it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from policies.model import PoolStatus, Shortfall
from scaler.clouds import response_validation
from scaler.clouds.azure.interruptions import AzureInterruptionTracker
from scaler.clouds.azure.virtual_machines import Vm, parts
from scaler.clouds.interruptions import Board
from scaler.ports import OutOfCapacity, OutOfQuota


def kind_of(size: object, spot: bool, zones: Iterable[object]) -> str:
    """What a pool buys, in words for errors: Azure's own do not always name type, zone and market."""
    places = ", ".join(str(z) for z in zones)
    return f"{size}, {'spot' if spot else 'on demand'}, {f'zone {places}' if places else 'no zone'}"


class PoolView:
    """One pool as seen over time: what was taken from it, and what was said to fail. `kind` is what it buys."""

    def __init__(self, board: Board) -> None:
        self.kind = ""
        self.losses = AzureInterruptionTracker(board)
        self.broken: Sequence[Vm] = ()
        """Machines that are there and do not come: they hold the pool's size, so they are the first to go."""
        self._shorts: dict[str, Shortfall] = {}

    def status(self, desired: int, vms: Sequence[Vm], late: Shortfall | None, **more: Any) -> PoolStatus:
        """`late` is the fate of the last write, where that failed: then nothing that is not there comes any more."""
        doomed = self.losses.look(vms)
        ready = sum(vm.state == "ready" for vm in vms)
        coming = sum(vm.state == "creating" for vm in vms)
        self.broken = [vm for vm in vms if vm.state in {"failed", "stopped"}]
        short = late or self._newest(vms)
        return PoolStatus(
            desired=desired,
            ready=ready,
            interruption_pending=len(doomed),
            interrupted=self.losses.interrupted,
            failed=max(0, desired - ready - coming) if late else min(len(self.broken), max(0, desired - ready)),
            shortfall=replace(short, reason=f"{short.reason} [{self.kind}]") if short and desired > ready else None,
            parts=parts(vms, doomed),
            **more,
        )

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Refusals for want of capacity or quota say of what."""
        try:
            yield
        except (OutOfCapacity, OutOfQuota) as e:
            raise type(e)(f"{e} [{self.kind}]") from e

    def _newest(self, vms: Sequence[Vm]) -> Shortfall | None:
        """What was last said of a machine that did not come. Said without a time, it is as of when first heard."""
        told = {vm.name: vm.short for vm in vms if vm.short is not None}
        self._shorts = {name: self._same(name, short) for name, short in told.items()}
        return max(self._shorts.values(), key=lambda s: s.at, default=None)

    def _same(self, name: str, short: Shortfall) -> Shortfall:
        known = self._shorts.get(name)
        return known if known is not None and known.reason == short.reason else short


def whole(what: str, value: object) -> int:
    """A count out of an answer: missing is not zero. Raises `Unavailable`."""
    return response_validation.whole(f"Azure {what}", value)
