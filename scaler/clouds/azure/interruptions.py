"""Which machines of a pool the cloud will take, and how many it took so far."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from scaler.clouds.azure.virtual_machines import Vm
from scaler.clouds.interruptions import Board


class AzureInterruptionTracker:
    """One pool's. A machine was taken where it went after a notice, and a spot one where nobody asked it to go."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._served: dict[str, str] = {}
        self._noticed: set[str] = set()
        self._leaving = 0
        self.interrupted = 0

    def leaving(self, machines: int) -> None:
        """So many of those that serve were asked to go: Azure chooses which."""
        self._leaving = max(0, machines)

    def look(self, vms: Iterable[Vm]) -> Collection[str]:
        """Take note of what there is now; the names of those ready ones that will be taken."""
        now = {vm.name: vm for vm in vms}
        for name, market in list(self._served.items()):
            vm = now.get(name)
            if vm is not None and vm.state in {"ready", "creating"}:
                continue
            del self._served[name]
            if self._taken(name, market, vm):
                self.interrupted += 1
            self._noticed.discard(name)
            self._board.unpin(name)
        ready = {name: vm.market for name, vm in now.items() if vm.state == "ready"}
        self._served |= ready
        doomed = set(self._board.of(ready))
        self._noticed |= doomed
        return doomed

    def _taken(self, name: str, market: str, vm: Vm | None) -> bool:
        if name in self._noticed:
            return True
        if vm is None or vm.state == "deleting":
            if self._leaving > 0:
                self._leaving -= 1
                return False
            return market == "spot"
        return market == "spot" and vm.state == "stopped"
