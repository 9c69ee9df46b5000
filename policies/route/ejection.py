"""Ejection of backends that fail, and their slow start, as Envoy defines them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Health:
    """The health of a backend.

    - `ejected_s`: remaining time of an ejection; 0 without one.
    - `ejections`: the ejections that count; 0 for a backend without recent errors.
    - `healthy_s`: time since the end of the last ejection. Seconds.
    """

    ejected_s: float = 0.0
    ejections: float = 0.0
    healthy_s: float = 0.0

    @classmethod
    def from_memory(cls, backend: BackendName, memory: Mapping[str, float]) -> Health:
        """Return the health that a route's memory records; a healthy one where it records none."""
        return cls(*(memory.get(f"{backend}.{key}", 0.0) for key in cls.__slots__))

    def memory(self, backend: BackendName) -> dict[str, float]:
        """Return the values for a route's memory; none of a healthy backend."""
        return {f"{backend}.{key}": getattr(self, key) for key in self.__slots__} if self.ejections else {}

    def after(
        self, traffic: BackendTraffic | None, elapsed_s: float, route: Route, *, is_unhealthy: bool = False
    ) -> Health:
        """Return the health after a tick.

        `is_unhealthy`: the gateway reports a failed health check. The ejection then lasts until `eject_s` after it.

        Example: with 30 s of ejection, a backend with 40 of 100 errors gets no requests for 30 s. It is ejected for
        60 s if it fails again within 300 s of its return.
        """
        if is_unhealthy:
            return Health(max(route.eject_s, self.ejected_s - elapsed_s), max(1.0, self.ejections), 0.0)
        if self.ejected_s > elapsed_s:
            return Health(self.ejected_s - elapsed_s, self.ejections, 0.0)
        if self.ejected_s > 0.0:
            return Health(0.0, self.ejections, 0.0)
        if traffic is not None and self._fails(traffic, route):
            ejections = self.ejections + 1.0
            return Health(min(MAX_EJECTION_S, route.eject_s * ejections), ejections, 0.0)
        healthy_s = self.healthy_s + elapsed_s
        if self.ejections and healthy_s < max(FORGET_S, route.slow_start_s):
            return Health(0.0, self.ejections, healthy_s)
        return Health()

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
