"""Shares of other workloads of the group: spare capacity, and what they grow for.

Two kinds of requests go to another member. *Overflow* is what the own ready replicas cannot carry now: it uses replicas
that the member has ready and does not need, and comes back as own replicas become ready. *Handed* requests are those
that the own platforms cannot carry at all, or that the member carries for less money: the member gets replicas for
them, and the workload needs none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from policies.model import Fresh, Reading, WorkloadName
from policies.model.group import MemberStatus
from policies.model.names import BackendName
from policies.model.route_spec import Route
from policies.route.preference import Distance

MIN_PRICE_RATIO: Final = 1.5
"""Ratio of two prices of a request from which requests follow the lower one. The requests that a replica carries are
learned with errors of up to a quarter, and moving costs a start-up and a longer way."""
HOME_FILL: Final = 0.9
"""Share of the minimum size that is filled at home before requests follow a lower price. The rest is for noise."""
SHIFT_S: Final = 300.0
"""Time for which a price must be lower, or no longer lower, before requests follow it. Seconds."""


def settled_key(backend: BackendName) -> str:
    """Return the key for the time since the share of a member changed. Seconds."""
    return f"{backend}.settled_s"


def base_key(backend: BackendName) -> str:
    """Return the key for what a member got before its share changed. Requests per second."""
    return f"{backend}.base"


def shifted_key(backend: BackendName) -> str:
    """Return the key that is 1 while requests follow the lower price of a member."""
    return f"{backend}.shifted"


def shift_key(backend: BackendName) -> str:
    """Return the key for the time for which prices speak for a change. Seconds."""
    return f"{backend}.shift_s"


@dataclass(frozen=True, slots=True)
class MemberOffer:
    """Another member as a backend, with what this workload may send it.

    - `sent`: the requests per second that it gets from here now; `max_sent`: those that it may get.
    - `max_handed`: the requests per second from here that it can have replicas for; None while that is not known.
    - `is_cheaper`: whether all requests that may move follow its price.
    """

    backend: BackendName
    workload: WorkloadName
    sent: float
    max_sent: float
    max_handed: float | None
    is_cheaper: bool


def shares_of(offers: tuple[MemberOffer, ...], requests_per_s: float | None, wanted: float) -> dict[BackendName, float]:
    """Return the share of each member, for a `wanted` share of all requests.

    The preferred members are filled first. Example: of 10 requests per second, 40 % are wanted elsewhere, and the
    members may get 3 and 5: 30 % and 10 %.
    """
    result: dict[BackendName, float] = {}
    for offer in offers if requests_per_s else ():
        assert requests_per_s  # noqa: S101 - the loop is empty otherwise
        result[offer.backend] = max(0.0, min(wanted - sum(result.values()), offer.max_sent / requests_per_s))
    return result


def handed_requests(
    offers: tuple[MemberOffer, ...], shortage: float, movable: float, last: Mapping[WorkloadName, float]
) -> dict[WorkloadName, float]:
    """Return the requests per second that each member is to carry until further notice.

    `shortage` are those that the own platforms cannot carry, `movable` those that may leave for a lower price. A member
    of which too little is known keeps the `last` amount.

    Example: 4 requests per second are short, and the first member can have replicas for 3: it gets 3, the second one 1.
    """
    result: dict[WorkloadName, float] = {}
    for offer in offers:
        wanted = (movable if offer.is_cheaper else shortage) - sum(result.values())
        limit = last.get(offer.workload, 0.0) if offer.max_handed is None else offer.max_handed
        if (amount := min(wanted, limit)) > 0.0:
            result[offer.workload] = amount
    return result


@dataclass(frozen=True)
class Neighbours:
    """The other members that a route names, in one tick.

    `usd_per_request` is the price of a request on the next replica of the workload itself, None where it is unknown.
    `sent` are the requests per second to each member, and `factors` the share of its capacity that the health of each
    backend allows. `memory` is that of the route, `elapsed_s` the time since the last tick.
    """

    route: Route
    members: Mapping[WorkloadName, Reading[MemberStatus]]
    usd_per_request: float | None
    sent: Mapping[BackendName, float]
    factors: Mapping[BackendName, float]
    memory: Mapping[str, float]
    elapsed_s: float

    def offers(self, distances: Mapping[BackendName, Distance]) -> tuple[MemberOffer, ...]:
        """Return the offer of each member, the nearest and then the cheapest first."""
        prices = {b: math.inf if (s := self.status(b)) is None else _price(s) for b in self.route.workloads}
        order = sorted(self.route.workloads, key=lambda b: (distances[b], prices[b], b))
        return tuple(self._offer(backend) for backend in order)

    def status(self, backend: BackendName) -> MemberStatus | None:
        """Return the status of the member behind a backend; None while it is not fresh."""
        reading = self.members.get(self.route.workloads[backend])
        return reading.value if isinstance(reading, Fresh) else None

    def _offer(self, backend: BackendName) -> MemberOffer:
        name, sent, status = self.route.workloads[backend], self.sent[backend], self.status(backend)
        max_sent, max_handed = sent, None
        if status is not None and status.need is not None and status.requests_per_replica_per_s is not None:
            rate, share = status.requests_per_replica_per_s, 1.0 / self._senders(name)
            spare = (status.ready - status.need) * rate
            if self._settled_s(backend) < status.settle_s:
                max_sent = max(sent, self.memory.get(base_key(backend), sent) + spare * share)
            else:
                max_sent = sent + spare * share if spare >= 0.0 else max(0.0, sent + spare * self._part(name, sent))
            if status.max_supply is not None:
                max_handed = sent + max(0.0, status.max_supply - status.need) * rate * share
        factor = self.factors[backend]
        is_cheaper = bool(self.shift_memory(backend).get(shifted_key(backend)))
        return MemberOffer(backend, name, sent, factor * max_sent, max_handed if factor else 0.0, is_cheaper)

    def _settled_s(self, backend: BackendName) -> float:
        """Return the time since the share of a member changed. Seconds."""
        return self.memory.get(settled_key(backend), math.inf) + self.elapsed_s

    def settled_memory(self, backend: BackendName) -> dict[str, float]:
        """Return what the route remembers of a share until the need of its member shows it."""
        settled_s, status = self._settled_s(backend), self.status(backend)
        is_settled = math.isinf(settled_s) or (status is not None and settled_s >= status.settle_s)
        base = self.memory.get(base_key(backend), 0.0)
        return {} if is_settled else {settled_key(backend): settled_s, base_key(backend): base}

    def changed_memory(self, backend: BackendName, sent: float) -> dict[str, float]:
        """Return what is remembered of a member that gets `sent` requests per second from now on.

        The need of the member still shows what it got before the first of several changes. Example: with 6 spare
        replicas, a share that grows to 3 of them may grow to 6 in the next tick. One that falls does not grow again.
        """
        base = self.settled_memory(backend).get(base_key(backend), self.sent[backend])
        return {settled_key(backend): 0.0, base_key(backend): min(base, sent)}

    def _senders(self, member: WorkloadName) -> int:
        """Return the number of workloads that may send requests to a member, this one included."""
        return 1 + sum(member in status.sent for status in self._others())

    def _part(self, member: WorkloadName, sent: float) -> float:
        """Return the part of all requests to a member that come from here. Its own users come first."""
        total = sent + sum(status.sent.get(member) or 0.0 for status in self._others())
        return sent / total if total else 0.0

    def _others(self) -> list[MemberStatus]:
        return [r.value for r in self.members.values() if isinstance(r, Fresh)]

    def shift_memory(self, backend: BackendName) -> dict[str, float]:
        """Return what the route remembers of the price of a member.

        Requests follow a price that is lower by `MIN_PRICE_RATIO` for `SHIFT_S`. They return once it has not been lower
        for as long. An unknown price changes nothing.
        """
        shifted, waited = shifted_key(backend), shift_key(backend)
        before = bool(self.memory.get(shifted))
        status = self.status(backend)
        theirs = None if status is None else status.usd_per_request
        if self.route.prefer != "cost":
            return {}
        if theirs is None or self.usd_per_request is None:
            return {shifted: 1.0} if before else {}
        is_lower = self.usd_per_request > theirs * (1.0 if before else MIN_PRICE_RATIO)
        waited_s = 0.0 if is_lower == before else self.memory.get(waited, 0.0) + self.elapsed_s
        after = is_lower if waited_s >= SHIFT_S else before
        memory = {shifted: 1.0} if after else {}
        return memory if after != before or not waited_s else {**memory, waited: waited_s}


def _price(status: MemberStatus) -> float:
    return math.inf if status.usd_per_request is None else status.usd_per_request
