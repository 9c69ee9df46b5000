"""Routes: the reported state and the decided split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from policies.model.names import BackendName, WorkloadName

WEIGHT_TOTAL: Final = 10_000
"""Sum of a route's weights, unless its gateway accepts less: a weight of 1 is 0.01 % of the requests."""


@dataclass(frozen=True, slots=True)
class BackendTraffic:
    """Requests that the gateway sent to a backend since its previous read.

    `errors` counts failed connections and responses with status 429 or from 500 on. A retry is a request of its own.
    `latency_s` is a quantile of the response times: all but `Route.max_error_share` of them were shorter. They end when
    a response began or when it ended, as `Route.latency_term` says. It is None where it is not measured, or too few
    responses came.
    """

    requests: float
    errors: float = 0.0
    latency_s: float | None = None


@dataclass(frozen=True, slots=True)
class RouteStatus:
    """The state of a route as its gateway reports it.

    - `weights`: the weight of each backend in use; empty where the gateway splits nothing yet, or rejects requests.
    - `traffic`: the requests to each backend within the last `over_s` seconds; empty before the second read.
    - `unhealthy`: the backends whose health check, read by the gateway, fails.
    - `settle_s`: the time after a change of weights in which clients still follow the previous ones, such as a TTL.
    - `rejects`: whether the gateway rejects all requests; `rejected`: those rejected within `over_s`.
    - `other_writer`: another writer of the same route, if one was seen.
    - `version`: the gateway's token for this state, the precondition of a write; empty where there is none.
    """

    weights: Mapping[BackendName, int]
    traffic: Mapping[BackendName, BackendTraffic] = field(default_factory=dict)
    over_s: float = 0.0
    other_writer: str | None = None
    version: str = ""
    rejects: bool = False
    rejected: float = 0.0
    unhealthy: frozenset[BackendName] = frozenset()
    settle_s: float = 0.0

    @property
    def requests(self) -> float:
        """The requests within `over_s`, to all backends and rejected."""
        return self.rejected + sum(traffic.requests for traffic in self.traffic.values())

    @property
    def requests_per_s(self) -> float | None:
        """The rate of these requests; None where it is not measured."""
        return self.requests / self.over_s if self.traffic and self.over_s > 0 else None

    def share(self, backend: BackendName) -> float:
        """Return the share of the requests that a backend gets."""
        return share_of(self.weights, backend)


def share_of(weights: Mapping[BackendName, int], backend: BackendName) -> float:
    """Return the share of the requests that a backend gets by its weight."""
    total = sum(weights.values())
    return weights.get(backend, 0) / total if total else 0.0


@dataclass(frozen=True, slots=True)
class RouteDecision:
    """The split decided for one route, and why.

    - `weights`: the weight of every backend, with the sum `Route.weight_total`; empty to reject requests.
    - `retry_after_s`: the time after which a rejected client may try again; None where nothing is rejected.
    - `is_kept`: whether the weights stay as the gateway reported them, so that nothing is written.
    - `demand`: the demand of all requests in replica equivalents; None where it is not measured.
    - `usd_per_hour`: the cost of the requests to providers; None where it is unknown.
    - `memory`: values for the next tick. Durations and counts only, so that a clock jump changes nothing.
    - `handed`: the requests per second that another workload of the group is to carry until further notice.
    """

    weights: Mapping[BackendName, int]
    reason: str
    is_kept: bool = False
    demand: float | None = None
    usd_per_hour: float | None = None
    retry_after_s: float | None = None
    memory: Mapping[str, float] = field(default_factory=dict)
    handed: Mapping[WorkloadName, float] = field(default_factory=dict)
