"""What the dashboard shows and no tick tells: bounds, lead times, loops that stall."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from policies.model import WorkloadName
from scaler.controller import Controller
from scaler.telemetry.health import Health


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a workload beside its ticks. Lead times are None before the first."""

    min_replicas: int | None = None
    max_replicas: int | None = None
    interval_s: float | None = None
    paused: bool = False
    lead_p50_s: float | None = None
    lead_p90_s: float | None = None
    lead_times: int = 0


class About(Protocol):
    """Who answers for the workloads."""

    def names(self) -> Iterable[WorkloadName]: ...

    def stalled(self) -> Mapping[WorkloadName, str]: ...

    def facts(self, name: WorkloadName, *, lead_times: bool) -> Facts:
        """Quantiles of the lead times take a moment, and are left out unless asked for."""


class Running:
    """Answers from the daemon's own controllers."""

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
        spec, seen = controller.workload.spec, controller.history.lead_times
        return Facts(
            spec.min_replicas,
            spec.max_replicas,
            spec.interval_s,
            spec.paused,
            seen.quantile_s(0.5) if lead_times else None,
            seen.quantile_s(0.9) if lead_times else None,
            len(seen),
        )
