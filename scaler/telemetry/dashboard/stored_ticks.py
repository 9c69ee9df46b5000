"""The recent ticks of one workload, in a bounded amount of memory."""

from __future__ import annotations

from policies.model import Tick
from scaler.telemetry.dashboard.columns import Columns
from scaler.telemetry.dashboard.decisions import Decisions
from scaler.telemetry.dashboard.interruptions import Interruptions


class StoredTicks:
    """Columns, decisions and interruptions of one workload."""

    __slots__ = ("columns", "decisions", "interruptions", "revision", "serial")

    def __init__(self, serial: int) -> None:
        self.columns = Columns()
        self.decisions = Decisions()
        self.interruptions = Interruptions()
        self.revision = self.serial = serial

    @property
    def last(self) -> Tick | None:
        """The last tick."""
        return self.decisions.last

    def add(self, tick: Tick, max_rows: int, max_runs: int) -> None:
        """Store a tick."""
        self.columns.append(tick, max_rows)
        self.decisions.add(tick, max_runs)
        self.interruptions.add(tick)
