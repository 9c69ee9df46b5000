"""Requests on their way to a world's engines, from its own users and other workloads."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulators.engine.kernel.event_loop import Kernel
from simulators.engine.tables import Picoseconds, Tokens
from simulators.world.routing.provider import Floats


class Requests(NamedTuple):
    """Requests in order of arrival, one entry a request, as the kernel takes them."""

    arrived_ps: Picoseconds
    prompt_tokens: Tokens
    output_tokens: Tokens
    cached_tokens: Tokens
    tokens_per_step: Tokens

    def at(self, rows: NDArray[np.int64]) -> Requests:
        """Return some of the requests."""
        return Requests(
            self.arrived_ps[rows],
            self.prompt_tokens[rows],
            self.output_tokens[rows],
            self.cached_tokens[rows],
            self.tokens_per_step[rows],
        )


class ArrivingBatch(NamedTuple):
    """Requests with the kernel's number of the pool of each, and the number of their sender."""

    requests: Requests
    pools: NDArray[np.int32]
    sender: int


class EngineInbox:
    """Requests to the engines of one world, collected until all senders have split theirs.

    Senders are numbered: 0 is the world's own gateway, and each other one has the number of its first request here.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._batches: list[ArrivingBatch] = []
        self._senders: list[NDArray[np.int16]] = []
        self.received = 0
        """The requests of other workloads."""

    @property
    def is_serving(self) -> bool:
        """Whether a replica takes requests."""
        return bool(self._kernel.accepting().any())

    @property
    def senders(self) -> NDArray[np.int16]:
        """The number of each request's sender, in order of arrival."""
        return np.concatenate(self._senders) if self._senders else np.zeros(0, np.int16)

    def add(self, requests: Requests, pools: NDArray[np.int32]) -> None:
        """Add requests of the world's own users to the pools of these numbers."""
        self._batches.append(ArrivingBatch(requests, pools, 0))

    def receive(self, requests: Requests, choices: Floats, sender: int) -> None:
        """Add requests of another workload. Pools share them in proportion to their ready replicas.

        `choices` has a random number for each request. Without any ready replica, the first pool gets all.
        """
        replicas = self._kernel.accepting()
        edges = np.cumsum(replicas if replicas.any() else np.eye(1, len(replicas), dtype=np.int64)[0])
        pools = np.searchsorted(edges / edges[-1], choices, side="right").astype(np.int32)
        self._batches.append(ArrivingBatch(requests, pools, sender))
        self.received += len(choices)

    def deliver(self) -> None:
        """Offer the collected requests to the kernel, in order of arrival."""
        if not self._batches:
            return
        batches, self._batches = self._batches, []
        if len(batches) == 1:
            requests, pools = batches[0].requests, batches[0].pools
            senders = np.full(len(pools), batches[0].sender, np.int16)
        else:
            columns = zip(*(batch.requests for batch in batches), strict=True)
            together = Requests(*(np.concatenate(column) for column in columns))
            order = np.argsort(together.arrived_ps, kind="stable")
            requests = together.at(order)
            pools = np.concatenate([batch.pools for batch in batches])[order]
            senders = np.concatenate([np.full(len(b.pools), b.sender, np.int16) for b in batches])[order]
        self._kernel.offer(*requests, pools)
        self._senders.append(senders)


class DirectFeed:
    """The requests of a workload without a route: its engines get all of them."""

    def __init__(self, requests: Requests, inbox: EngineInbox) -> None:
        self._arriving = requests
        self._inbox = inbox
        self.handled = 0
        """The requests that have arrived."""
        self.sent = 0
        """The requests to other workloads: none."""

    def split(self, until_ps: int) -> None:
        """Send the requests that arrive before a time to the engines."""
        first, last = self.handled, int(np.searchsorted(self._arriving.arrived_ps, until_ps))
        if last > first:
            self.handled = last
            self._inbox.add(self._arriving.at(np.arange(first, last)), np.zeros(last - first, np.int32))
