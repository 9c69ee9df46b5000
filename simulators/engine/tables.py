"""Tables with named columns over the kernel's requests and replicas.

Only the engine knows its array layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from simulators.engine.kernel import layout

Picoseconds = NDArray[np.int64]
Tokens = NDArray[np.int32]
Mask = NDArray[np.bool_]


class RequestMoment(IntEnum):
    """Times of a request, in order."""

    ARRIVED = layout.ARRIVAL
    ENTERED = layout.ENTER
    """Handed to the replica that serves it."""
    ADMITTED = layout.ADMIT
    FIRST_TOKEN = layout.FIRST
    FINISHED = layout.FINISH

    __hash__ = int.__hash__  # Enum's own hash is a call to a Python function


class RequestEnd(IntEnum):
    """State of a request without a finish time."""

    OPEN = layout.OPEN
    REJECTED = layout.REJECTED
    TIMED_OUT = layout.TIMED_OUT
    LOST = layout.LOST
    DEAD_LETTER = layout.DEAD_LETTER


@dataclass(frozen=True, slots=True, eq=False)
class RequestTable:
    """Requests, one row each, in order of slots.

    The table is a view of the kernel's memory that changes as the kernel advances. Times are picoseconds from the
    world's start, and negative before they happen.
    """

    times: NDArray[np.int64]
    counts: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.times)

    def __getitem__(self, rows: slice | NDArray[np.int64] | Mask) -> RequestTable:
        return RequestTable(self.times[rows], self.counts[rows])

    def at_ps(self, moment: RequestMoment) -> Picoseconds:
        """Return one time of every request. A negative `FINISHED` is a `RequestEnd`."""
        return self.times[:, moment]

    @property
    def arrived_ps(self) -> Picoseconds:
        return self.times[:, layout.ARRIVAL]

    @property
    def entered_ps(self) -> Picoseconds:
        return self.times[:, layout.ENTER]

    @property
    def first_token_ps(self) -> Picoseconds:
        return self.times[:, layout.FIRST]

    @property
    def finished_ps(self) -> Picoseconds:
        return self.times[:, layout.FINISH]

    @property
    def has_arrived(self) -> Mask:
        """False for a slot that holds no request yet."""
        return np.asarray(self.arrived_ps >= 0)

    @property
    def is_finished(self) -> Mask:
        return np.asarray(self.finished_ps >= 0)

    @property
    def has_failed(self) -> Mask:
        """True for a request that ended without a finish time."""
        return np.asarray(self.finished_ps < layout.OPEN)

    def ended_as(self, end: RequestEnd) -> Mask:
        return np.asarray(self.finished_ps == int(end))

    @property
    def prompt_tokens(self) -> Tokens:
        return self.counts[:, layout.PROMPT]

    @property
    def output_tokens(self) -> Tokens:
        return self.counts[:, layout.OUTPUT]

    @property
    def cached_tokens(self) -> Tokens:
        return self.counts[:, layout.CACHED]

    @property
    def tokens_per_step(self) -> Tokens:
        """Tokens that a decode step yields; above 1 with speculative decoding."""
        return self.counts[:, layout.STRIDE]

    @property
    def replica(self) -> NDArray[np.int32]:
        """Number of the replica that served the request last; -1 if none did."""
        return self.counts[:, layout.REPLICA]

    @property
    def deliveries(self) -> NDArray[np.int32]:
        """Times that the request was handed to a replica."""
        return self.counts[:, layout.DELIVERIES]


def outside_requests(  # noqa: PLR0913 - one array a column
    arrived_ps: Picoseconds,
    first_token_ps: Picoseconds,
    finished_ps: Picoseconds,
    prompt_tokens: Tokens,
    output_tokens: Tokens,
    cached_tokens: Tokens,
) -> RequestTable:
    """Return the table of requests that no replica got.

    A token API admits a request as it arrives; one without a first token was rejected.
    """
    times = np.full((len(arrived_ps), layout.REQUEST_TIMES), -1, np.int64)
    times[:, layout.ARRIVAL] = arrived_ps
    times[:, layout.ENTER] = times[:, layout.ADMIT] = np.where(first_token_ps >= 0, arrived_ps, -1)
    times[:, layout.FIRST], times[:, layout.FINISH] = first_token_ps, finished_ps
    counts = np.zeros((len(arrived_ps), layout.REQUEST_COUNTS), np.int32)
    counts[:, layout.PROMPT], counts[:, layout.OUTPUT] = prompt_tokens, output_tokens
    counts[:, layout.CACHED], counts[:, layout.STRIDE], counts[:, layout.REPLICA] = cached_tokens, 1, -1
    return RequestTable(times, counts)


def joined(tables: Sequence[RequestTable]) -> RequestTable:
    """Return the requests of all tables, one table after the other."""
    if not tables:
        return RequestTable(
            np.zeros((0, layout.REQUEST_TIMES), np.int64), np.zeros((0, layout.REQUEST_COUNTS), np.int32)
        )
    return RequestTable(np.concatenate([t.times for t in tables]), np.concatenate([t.counts for t in tables]))


def delayed(table: RequestTable, delay_ps: Picoseconds) -> RequestTable:
    """Return the requests with first and last tokens that come later.

    `delay_ps` has a time for each request.
    """
    times = table.times.copy()
    for moment in (layout.FIRST, layout.FINISH):
        times[:, moment] += np.where(times[:, moment] >= 0, delay_ps, 0)
    return RequestTable(times, table.counts)


def as_of(table: RequestTable, now_ps: int) -> RequestTable:
    """Return the requests with the times after now as open."""
    return RequestTable(np.where(table.times > now_ps, layout.OPEN, table.times), table.counts)


@dataclass(frozen=True, slots=True, eq=False)
class ReplicaTable:
    """Replicas, one row each by number, including ended ones: a view of the kernel's memory."""

    rows: NDArray[np.int64]
    models: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def takes_requests(self) -> Mask:
        return np.asarray(self.rows[:, layout.TAKES] > 0)

    @property
    def pool(self) -> NDArray[np.int64]:
        """Number of each replica's pool."""
        return self.rows[:, layout.REPLICA_POOL]

    @property
    def outstanding(self) -> NDArray[np.int64]:
        """Requests waiting or running."""
        return self.rows[:, layout.OUTSTANDING]

    @property
    def waiting(self) -> NDArray[np.int64]:
        return self.rows[:, layout.WAITING]

    @property
    def running(self) -> NDArray[np.int64]:
        return self.rows[:, layout.RUNNING]

    @property
    def finished(self) -> NDArray[np.int64]:
        return self.rows[:, layout.FINISHED]

    @property
    def prompt_tokens(self) -> NDArray[np.int64]:
        """Prompt tokens computed or found in the cache."""
        return self.rows[:, layout.TOKENS_IN]

    @property
    def output_tokens(self) -> NDArray[np.int64]:
        return self.rows[:, layout.TOKENS_OUT]

    @property
    def preemptions(self) -> NDArray[np.int64]:
        return self.rows[:, layout.PREEMPTIONS]

    @property
    def recomputed_tokens(self) -> NDArray[np.int64]:
        """Cached tokens that preemptions dropped."""
        return self.rows[:, layout.DROPPED]

    @property
    def kv_blocks_used(self) -> NDArray[np.int64]:
        return self.rows[:, layout.USED]

    @property
    def kv_blocks(self) -> NDArray[np.int64]:
        """Size of each replica's KV cache."""
        return np.asarray(self.models[self.rows[:, layout.MODEL], layout.KV_BLOCKS])

    @property
    def busy_ps(self) -> Picoseconds:
        """GPU time of the steps launched."""
        return self.rows[:, layout.BUSY]

    @property
    def next_event_ps(self) -> Picoseconds:
        return self.rows[:, layout.DUE]

    @property
    def has_no_event(self) -> Mask:
        return np.asarray(self.next_event_ps == layout.NEVER)
