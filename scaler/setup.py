"""A workload with its open adapters, as a controller runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from policies.model import PoolName
from scaler.adapter_faults import Faults
from scaler.config.load import Workload
from scaler.ports import Actuator, Source
from scaler.quota_ledger import QuotaLedger
from scaler.wakeup import Wakeup


@dataclass(frozen=True, slots=True)
class Setup:
    """A workload with its open adapters.

    The controller replaces it as a whole, between two ticks.
    """

    workload: Workload
    sources: Mapping[str, Source]
    actuators: Mapping[PoolName, Actuator]
    ports_may_wait: bool = True
    """Whether calls of ports take time. Those of a simulated world do not, and get no task and no deadline."""
    ledger: QuotaLedger | None = None
    """The ledger that grants the fleet's limits; None without limits across workloads."""
    wakeup: Wakeup | None = None
    """The event by which adapters request a tick at once; None where no adapter does."""
    faults: Faults | None = None
    """The handler of adapters' unexpected exceptions; None lets them pass, as in a simulation."""

    def register(self) -> None:
        """Register the workload and its specification with the fleet's ledger."""
        if self.ledger is not None:
            self.ledger.register(self.workload.name, self.workload.spec)
