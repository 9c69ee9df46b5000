"""A workload with its open adapters, as a controller runs it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from policies.model import PoolName, SignalName
from policies.model.names import RouteName
from scaler.adapter_faults import Faults
from scaler.admission import TickAdmission
from scaler.config.load import Workload
from scaler.group_board import GroupBoard
from scaler.leases.fence import Fence
from scaler.ports import Actuator, Publishing, RouteActuator, Source
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
    groups: GroupBoard | None = None
    """The state of the workloads that are in groups; None where a workload runs alone."""
    wakeup: Wakeup | None = None
    """The event by which adapters request a tick at once; None where no adapter does."""
    fence: Fence | None = None
    """The permission of writes by the lease of the workload's shard; None without high availability."""
    faults: Faults | None = None
    """The handler of adapters' unexpected exceptions; None lets them pass, as in a simulation."""
    admission: TickAdmission | None = None
    """The order in which due ticks start while the event loop is busy; None starts them at once."""

    routes: Mapping[RouteName, RouteActuator] = field(default_factory=dict)

    signals: Mapping[str, tuple[tuple[SignalName, str, float], ...]] = field(init=False)
    """The signals of each source: name, quantity, and the age from which it is stale. Seconds."""

    publishing: Mapping[PoolName, Publishing] = field(init=False)
    """The actuators whose size another autoscaler writes."""

    def __post_init__(self) -> None:
        signals = {
            name: tuple(
                (SignalName(sys.intern(f"{name}.{q}")), q, max_age_s) for q, max_age_s in source.quantities().items()
            )
            for name, source in self.workload.spec.sources.items()
        }
        object.__setattr__(self, "signals", signals)
        publishing = {name: a for name, a in self.actuators.items() if isinstance(a, Publishing)}
        object.__setattr__(self, "publishing", publishing)

    def register(self) -> None:
        """Register the workload and its specification with the fleet's ledger and its group."""
        if self.ledger is not None:
            self.ledger.register(self.workload.name, self.workload.spec)
        if self.groups is not None:
            self.groups.register(self.workload.name, self.workload.spec)
