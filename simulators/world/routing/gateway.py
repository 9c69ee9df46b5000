"""The simulated gateway, which splits arriving requests by the applied weights.

It acts before the engines. Requests that arrive until the next event of the world are split by the present weights, and
only those for pools reach the kernel. Those for another workload of the group arrive at the engines of its world. Among
the replicas of a pool, the scenario's router selects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.model.names import BackendName, PoolName, WorkloadName
from policies.model.route import BackendTraffic, RouteDecision, RouteStatus
from policies.model.route_spec import Route
from simulators.engine.kernel.event_loop import Kernel
from simulators.engine.tables import (
    Mask,
    RequestEnd,
    RequestTable,
    as_of,
    joined,
    outside_requests,
)
from simulators.world.rng import RngFor, within
from simulators.world.routing.inbox import EngineInbox, Requests
from simulators.world.routing.provider import Arrivals, Floats, ResponseTimes, SimulatedProvider, TokenApi

NO_POOL: Final = -1
"""Number of a backend that is not one of the kernel's pools."""
NO_MEMBERS: Final[Mapping[BackendName, WorkloadName]] = {}


class Backends(NamedTuple):
    """The backends of a route: pools of the world, token APIs, and other workloads of the group.

    `holds` is whether a request to a backend without a ready replica waits for one. Otherwise the gateway answers 503.
    """

    pools: Mapping[BackendName, PoolName]
    providers: Mapping[BackendName, SimulatedProvider]
    holds: bool = False
    members: Mapping[BackendName, WorkloadName] = NO_MEMBERS


class Receiver(NamedTuple):
    """Another workload as a backend.

    It has the requests to its engines, and the number of this gateway among their senders.
    """

    inbox: EngineInbox
    sender: int


class Gateway:
    """The gateway of one route.

    `pools` has the kernel's number of each pool. `round_trip_s` has the time to each region and back. Each request has
    its own random numbers, drawn before the run, so that another split does not change the latency of a request at a
    provider.
    """

    def __init__(  # noqa: PLR0913 - the parts of a world that the gateway connects
        self,
        kernel: Kernel,
        inbox: EngineInbox,
        requests: Requests,
        backends: Backends,
        pools: Mapping[PoolName, int],
        round_trip_s: Mapping[str, float],
        rng_for: RngFor,
    ) -> None:
        self._kernel = kernel
        self._inbox = inbox
        self._arriving = requests
        self._providers = {name: TokenApi(settings, round_trip_s) for name, settings in backends.providers.items()}
        self._pools = {name: pools[pool] for name, pool in backends.pools.items()}
        self._members: dict[BackendName, Receiver] = {}
        others = [NO_POOL] * len(backends.members)
        numbers = [*([NO_POOL] * len(self._providers)), *self._pools.values(), *others]
        self._numbers = np.array(numbers, dtype=np.int32)
        self._holds = backends.holds
        count, draw = len(requests.arrived_ps), within(rng_for, "gateway")
        self._choices, self._second_choices = draw("backend").random(count), draw("failover").random(count)
        normals, uniforms = draw("latency").standard_normal((count, 2)), draw("faults").random((count, 1))
        self._draws = np.hstack((normals, uniforms))
        self._member_choices = draw("member").random(count if backends.members else 0)
        self._next = 0
        self._weights: dict[BackendName, int] = {}
        self._rejects = False
        self._traffic: dict[BackendName, list[int]] = {}
        self._rejected = 0
        self._times = {name: ResponseTimes() for name in self._providers}
        self._read_at: float | None = None
        self._advanced_ps = 0
        self._ended: list[RequestTable] = []
        self._usd: list[Floats] = []
        self.writes = 0
        """Changes of the weights, including the first split."""
        self.sent = 0
        """The requests to other workloads."""

    def connect(self, members: Mapping[BackendName, Receiver]) -> None:
        """Set the worlds of the other workloads, in the order of the backends."""
        self._members = dict(members)

    # --- the port

    def status(self, now: float, route: Route) -> RouteStatus:
        """Return the applied weights, and the requests since the last call.

        The providers' latency is the one that the gateway of `route` measures.
        """
        share, is_whole = 1.0 - route.max_error_share, route.latency_term == "e2e_s"
        latencies_s = {
            name: times.quantile_s(share, self._advanced_ps, is_whole=is_whole) for name, times in self._times.items()
        }
        over_s = 0.0 if self._read_at is None else now - self._read_at
        traffic: dict[BackendName, BackendTraffic] = {}
        if over_s > 0.0:
            for name in (*self._pools, *self._members, *self._providers):
                requests, errors = self._traffic.get(name, (0, 0))
                traffic[name] = BackendTraffic(requests, errors, latencies_s.get(name))
        rejected, self._rejected = float(self._rejected), 0
        self._traffic, self._read_at = {}, now
        used = {name: weight for name, weight in self._weights.items() if weight > 0}
        return RouteStatus(used, traffic, over_s, rejects=self._rejects, rejected=rejected)

    def apply(self, split: RouteDecision) -> None:
        """Apply a split to the requests that arrive from now on."""
        self._weights, self._rejects = dict(split.weights), split.retry_after_s is not None
        self.writes += 1

    # --- requests

    def split(self, until_ps: int) -> None:
        """Split the requests that arrive before a time.

        Those for engines wait in the inbox of their world.
        """
        self._advanced_ps = until_ps
        first, last = self._next, int(np.searchsorted(self._arriving.arrived_ps, until_ps))
        if last == first:
            return
        self._next = last
        rows = np.arange(first, last)
        if self._rejects:
            self._rejected += len(rows)
            self._reject(rows)
            return
        ready = self._ready()
        backends = self._backends(self._choices[rows], self._weights or ready)
        for number, name in enumerate((*self._pools, *self._members), len(self._providers)):
            self._count(name, int((backends == number).sum()))
        pools_only = {name: weight for name, weight in self._weights.items() if weight and name in self._pools} or ready
        for number, (name, provider) in enumerate(self._providers.items()):
            sent = np.flatnonzero(backends == number)
            if len(sent):
                failed = sent[~self._served(name, provider, rows[sent])]
                backends[failed] = self._backends(self._second_choices[rows[failed]], pools_only)
        self._to_pools(rows, self._numbers[backends])
        for number, member in enumerate(self._members.values(), len(self._providers) + len(self._pools)):
            self._to_member(rows[backends == number], member)

    def _to_pools(self, rows: NDArray[np.int64], pools: NDArray[np.int32]) -> None:
        """Send requests to the pools of these numbers; those of `NO_POOL` go elsewhere."""
        sent = pools != NO_POOL
        if not self._holds:
            refused = sent & (self._kernel.accepting()[pools] == 0)
            self._reject(rows[refused])
            sent &= ~refused
        if sent.any():
            self._inbox.add(self._arriving.at(rows[sent]), pools[sent])

    def _to_member(self, rows: NDArray[np.int64], member: Receiver) -> None:
        """Send requests to the engines of another workload."""
        if not len(rows):
            return
        if not self._holds and not member.inbox.is_serving:
            self._reject(rows)
            return
        self.sent += len(rows)
        member.inbox.receive(self._arriving.at(rows), self._member_choices[rows], member.sender)

    @property
    def handled(self) -> int:
        """The requests that have arrived at the gateway."""
        return self._next

    def requests(self, now_ps: int) -> RequestTable:
        """Return the requests that no engine got: answered by providers, or rejected.

        A time after now is open.
        """
        return as_of(joined(self._ended), now_ps)

    @property
    def usd(self) -> Floats:
        """The price of each of these requests."""
        return np.concatenate(self._usd) if self._usd else np.zeros(0)

    def _ready(self) -> dict[BackendName, int]:
        """Return the weights by which pools share requests without a split: their ready replicas.

        Without any, the first pool gets all.
        """
        replicas = self._kernel.accepting()
        ready = {name: int(replicas[number]) for name, number in self._pools.items()}
        return ready if any(ready.values()) else {next(iter(self._pools)): 1}

    def _backends(self, choices: Floats, weights: Mapping[BackendName, int]) -> NDArray[np.int64]:
        """Return the number of each request's backend.

        Providers come first, then pools and other workloads.

        Example: a provider with 2,800 and a pool with 7,200 get the requests with a choice below 0.28 and the others.
        """
        edges = np.cumsum([weights.get(name, 0) for name in (*self._providers, *self._pools, *self._members)])
        return np.searchsorted(edges / edges[-1], choices, side="right").astype(np.int64)

    def _served(self, name: BackendName, provider: TokenApi, rows: NDArray[np.int64]) -> Mask:
        """Let a provider answer requests, and return whether it served each of them."""
        sent = self._arriving.at(rows)
        answers = provider.answer(Arrivals(sent.arrived_ps, sent.prompt_tokens, sent.output_tokens, self._draws[rows]))
        served = answers.is_served
        failed = ~served | (answers.finished_ps < 0)
        self._count(name, len(rows), int(failed.sum()))
        self._times[name].add(sent.arrived_ps[served], answers.first_token_ps[served], answers.finished_ps[served])
        self._end(rows[served], answers.first_token_ps[served], answers.finished_ps[served], answers.usd[served])
        return served

    def _count(self, backend: BackendName, requests: int, errors: int = 0) -> None:
        counted = self._traffic.setdefault(backend, [0, 0])
        counted[0] += requests
        counted[1] += errors

    def _reject(self, rows: NDArray[np.int64]) -> None:
        """Answer 503 to requests."""
        nothing = np.full(len(rows), -1)
        self._end(rows, nothing, np.full(len(rows), int(RequestEnd.REJECTED)), np.zeros(len(rows)))

    def _end(
        self,
        rows: NDArray[np.int64],
        first_token_ps: NDArray[np.int64],
        finished_ps: NDArray[np.int64],
        usd: Floats,
    ) -> None:
        """Record requests that no pool gets."""
        arrived_ps, prompt, output, cached, _ = self._arriving.at(rows)
        self._ended.append(outside_requests(arrived_ps, first_token_ps, finished_ps, prompt, output, cached))
        self._usd.append(usd)


def merged(tables: Sequence[RequestTable]) -> RequestTable:
    """Return the requests of all tables in order of arrival."""
    together = joined(tables)
    return together[np.argsort(together.arrived_ps, kind="stable")]
