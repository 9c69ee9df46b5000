"""Ejection of backends that fail, and their slow start, as Envoy defines them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from policies.model.names import BackendName
from policies.model.route import BackendTraffic
from policies.model.route_spec import Route

MIN_REQUESTS: Final = 5.0
"""Minimum requests in a tick from which a share of errors is a finding, as Envoy needs 5 consecutive errors."""
MAX_EJECTION_S: Final = 300.0
"""Maximum time of an ejection, as Envoy's `max_ejection_time`. Seconds."""
FORGET_S: Final = 300.0
"""Time without errors after which earlier ejections of a backend no longer count. Seconds."""
MIN_FACTOR: Final = 0.1
"""Share of its capacity that a backend begins with after an ejection, as Envoy's `min_weight_percent`."""
NEW_LATENCY_SHARE: Final = 0.5
"""Share of a tick's latency in its moving average: four times the usual latency shows in one tick."""


@dataclass(frozen=True, slots=True)
class BackendHealth:
    """The health of a backend.

    - `ejected_s`: remaining time of an ejection; 0 without one.
    - `ejections`: the ejections that count; 0 for a backend without recent failures.
    - `healthy_s`: time since the end of the last ejection. Seconds.
    - `late`: 1 if the last ejection was for late responses, else 0.
    - `latency_s`: the moving average of the measured quantile; 0 where it is not known.
    """

    ejected_s: float = 0.0
    ejections: float = 0.0
    healthy_s: float = 0.0
    late: float = 0.0
    latency_s: float = 0.0

    @classmethod
    def from_memory(cls, backend: BackendName, memory: Mapping[str, float]) -> BackendHealth:
        """Return the health that a route's memory records; a healthy one where it records none."""
        return cls(*(memory.get(f"{backend}.{key}", 0.0) for key in cls.__slots__))

    def memory(self, backend: BackendName) -> dict[str, float]:
        """Return the values for a route's memory. A value of 0 is left out."""
        return {f"{backend}.{key}": value for key in self.__slots__ if (value := getattr(self, key))}

    def after(
        self,
        traffic: BackendTraffic | None,
        elapsed_s: float,
        route: Route,
        *,
        is_unhealthy: bool = False,
        max_latency_s: float | None = None,
    ) -> BackendHealth:
        """Return the health after a tick.

        `is_unhealthy`: the gateway reports a failed health check. The ejection then lasts until `eject_s` after it.
        `max_latency_s`: the limit of the measured quantile; None for no limit.

        Example: with 30 s of ejection, a backend with 40 of 100 errors gets no requests for 30 s. It is ejected for
        60 s if it fails again within 300 s of its return.
        """
        if is_unhealthy:
            return BackendHealth(max(route.eject_s, self.ejected_s - elapsed_s), max(1.0, self.ejections))
        latency_s = self._average(traffic)
        if self.ejected_s > elapsed_s:
            return replace(self, ejected_s=self.ejected_s - elapsed_s, latency_s=latency_s)
        if traffic is not None and not self.ejected_s and self._fails(traffic, route):
            return self._ejected(route)
        if max_latency_s is not None and latency_s > max_latency_s:
            return replace(self._ejected(route), late=1.0, latency_s=latency_s)
        if self.ejected_s > 0.0:
            return BackendHealth(0.0, self.ejections, 0.0, self.late)
        healthy_s = self.healthy_s + elapsed_s
        if self.ejections and healthy_s < max(FORGET_S, route.slow_start_s):
            return BackendHealth(0.0, self.ejections, healthy_s, self.late, latency_s)
        return BackendHealth(latency_s=latency_s)

    def _ejected(self, route: Route) -> BackendHealth:
        ejections = self.ejections + 1.0
        return BackendHealth(min(MAX_EJECTION_S, route.eject_s * ejections), ejections)

    def _average(self, traffic: BackendTraffic | None) -> float:
        """Return the moving average of the latency; 0 where an ejected backend has no requests.

        Example: 0.6 s so far and 2.4 s now are 1.5 s.
        """
        if traffic is None or traffic.latency_s is None or traffic.requests < MIN_REQUESTS:
            return 0.0 if self.ejected_s else self.latency_s
        before_s = self.latency_s or traffic.latency_s
        return before_s + NEW_LATENCY_SHARE * (traffic.latency_s - before_s)

    def _fails(self, traffic: BackendTraffic, route: Route) -> bool:
        """Return whether too many requests failed. One is enough during a slow start."""
        enough = 1.0 if self.ejections and self.healthy_s < route.slow_start_s else MIN_REQUESTS
        return traffic.requests >= enough and traffic.errors > route.max_error_share * traffic.requests

    def factor(self, route: Route) -> float:
        """Return the share of its capacity that the backend may use: 0 while ejected, then slowly 1.

        Example: 30 s of a slow start of 60 s are 0.5.
        """
        if self.ejected_s > 0.0:
            return 0.0
        if not self.ejections or self.healthy_s >= route.slow_start_s:
            return 1.0
        return max(MIN_FACTOR, self.healthy_s / route.slow_start_s)
