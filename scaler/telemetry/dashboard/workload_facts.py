"""Facts of a workload that are not in its ticks: bounds, lead times, stalled loops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from policies.model import WorkloadName
from scaler.controller import Controller
from scaler.telemetry.health import Health


@dataclass(frozen=True, slots=True)
class Facts:
    """A workload's settings and lead times.

    Lead times (seconds) are None before the first one is measured.
    """

    min_replicas: int | None = None
    max_replicas: int | None = None
    interval_s: float | None = None
    paused: bool = False
    lead_p50_s: float | None = None
    lead_p90_s: float | None = None
    lead_times: int = 0


class WorkloadInfo(Protocol):
    """Provider of the workloads' facts."""

    def names(self) -> Iterable[WorkloadName]: ...

    def stalled(self) -> Mapping[WorkloadName, str]: ...

    def facts(self, name: WorkloadName, *, lead_times: bool) -> Facts:
        """Return a workload's facts.

        Quantiles of the lead times are slow, and included on request only.
        """


class LiveWorkloads:
    """The facts of the daemon's own workloads, from their controllers."""

    def __init__(self, controllers: Mapping[WorkloadName, Controller], health: Health) -> None:
        self._controllers = controllers
        self._health = health

    def names(self) -> Iterable[WorkloadName]:
        return self._controllers.keys()

    def stalled(self) -> Mapping[WorkloadName, str]:
        return self._health.stalled()

    def facts(self, name: WorkloadName, *, lead_times: bool) -> Facts:
        controller = self._controllers.get(name)
        if controller is None:
            return Facts()
        spec, measured = controller.workload.spec, controller.history.lead_times
        return Facts(
            spec.min_replicas,
            spec.max_replicas,
            spec.interval_s,
            spec.paused,
            measured.quantile_s(0.5) if lead_times else None,
            measured.quantile_s(0.9) if lead_times else None,
            len(measured),
        )
