"""The recent ticks of one workload, in a bounded amount of memory."""

from __future__ import annotations

from policies.model import Tick
from policies.model.spec import WorkloadSpec
from scaler.telemetry.dashboard.columns import Columns
from scaler.telemetry.dashboard.decisions import Decisions
from scaler.telemetry.dashboard.interruptions import Interruptions
from scaler.telemetry.dashboard.slo_record import SloRecord, limits_of


class StoredTicks:
    """Columns, decisions, late requests and interruptions of one workload."""

    __slots__ = ("columns", "decisions", "interruptions", "revision", "serial", "slo")

    def __init__(self, serial: int) -> None:
        self.columns = Columns()
        self.decisions = Decisions()
        self.interruptions = Interruptions()
        self.slo: SloRecord | None = None
        """Late requests under the present SLO; None without an SLO."""
        self.revision = self.serial = serial

    @property
    def last(self) -> Tick | None:
        """The last tick."""
        return self.decisions.last

    def add(self, tick: Tick, spec: WorkloadSpec | None, max_rows: int, max_runs: int) -> None:
        """Store a tick of the workload with this specification."""
        self.columns.append(tick, max_rows)
        self.decisions.add(tick, max_runs)
        self.interruptions.add(tick)
        slo = None if spec is None else spec.slo
        limits_s = None if slo is None else limits_of(slo)
        if self.slo is None or self.slo.limits_s != limits_s:
            self.slo = None if limits_s is None else SloRecord(limits_s)
        if self.slo is not None:
            self.slo.add(tick)
