"""Facts of workloads that are not in their ticks.

They are the specification, lead times, stalled loops, and the limits of the fleet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from policies.model import WorkloadName
from policies.model.spec import WorkloadSpec
from scaler.controller import Controller
from scaler.quota_ledger import QuotaLedger
from scaler.telemetry.dashboard.columns import number
from scaler.telemetry.health import Health


@dataclass(frozen=True, slots=True)
class Facts:
    """A workload's specification and lead times.

    `spec` is None once the workload is removed. Lead times (seconds) are None before the first one is measured.
    """

    spec: WorkloadSpec | None = None
    lead_p50_s: float | None = None
    lead_p90_s: float | None = None
    lead_times: int = 0

    @property
    def paused(self) -> bool:
        return self.spec is not None and self.spec.paused

    def as_dict(self) -> dict[str, Any]:
        """Return the facts that the workload's page shows."""
        settings = {key: getattr(self.spec, key, None) for key in ("min_replicas", "max_replicas", "interval_s")}
        return {
            **settings,
            "paused": self.paused,
            "lead_p50_s": number(self.lead_p50_s, 1),
            "lead_p90_s": number(self.lead_p90_s, 1),
            "lead_times": self.lead_times,
        }


class WorkloadInfo(Protocol):
    """Provider of the facts of the workloads and of the fleet."""

    @property
    def ledger(self) -> QuotaLedger: ...

    def names(self) -> Iterable[WorkloadName]: ...

    def stalled(self) -> Mapping[WorkloadName, str]: ...

    def facts(self, name: WorkloadName, *, lead_times: bool) -> Facts:
        """Return a workload's facts.

        Quantiles of the lead times are slow, and included on request only.
        """


class LiveWorkloads:
    """The facts of the daemon's own workloads, from controllers and ledger."""

    def __init__(self, controllers: Mapping[WorkloadName, Controller], health: Health, ledger: QuotaLedger) -> None:
        self._controllers = controllers
        self._health = health
        self.ledger = ledger

    def names(self) -> Iterable[WorkloadName]:
        return self._controllers.keys()

    def stalled(self) -> Mapping[WorkloadName, str]:
        return self._health.stalled()

    def facts(self, name: WorkloadName, *, lead_times: bool) -> Facts:
        controller = self._controllers.get(name)
        if controller is None:
            return Facts()
        measured = controller.history.lead_times
        return Facts(
            controller.workload.spec,
            measured.quantile_s(0.5) if lead_times else None,
            measured.quantile_s(0.9) if lead_times else None,
            len(measured),
        )
