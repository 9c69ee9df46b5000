"""The kernel's front: replicas that come and go, requests in, times out. Everything is kept in a few integer arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from policies.model.field_metadata import FieldMetadata
from simulators.engine.kernel import fleet, layout
from simulators.engine.kernel import totals as summing
from simulators.engine.kernel.heaps import set_leaf
from simulators.engine.kernel.jit import uncompiled
from simulators.engine.kernel.layout import NEVER
from simulators.engine.kernel.totals import ReplicaTotals
from simulators.engine.models.integers import integers
from simulators.engine.models.service import ServiceModel
from simulators.engine.tables import ReplicaTable, RequestTable

Ints = NDArray[np.int64]
SET_LEAF: Final = uncompiled(set_leaf)
LOAD_KEY: Final = uncompiled(fleet.load_key)
ROUTERS: Final = {
    "least_loaded": layout.LEAST_LOADED,
    "round_robin": layout.ROUND_ROBIN,
    "random": layout.RANDOM,
}
MAX_SLOTS: Final = 1 << 30
SIGN_BIT: Final = 1 << 63


@dataclass(frozen=True, kw_only=True)
class Router:
    """How requests find a replica, and what happens while none takes them."""

    kind: Annotated[
        Literal["least_loaded", "round_robin", "random"],
        FieldMetadata("Which of the replicas that take requests gets one."),
    ] = "least_loaded"
    limit: Annotated[
        int | None,
        FieldMetadata(
            "Requests a replica has at most; others wait in the central queue. null: no limit. Requests.", ge=1
        ),
    ] = None
    queue_limit: Annotated[
        int | None,
        FieldMetadata("Requests that may wait centrally; more are rejected. null: no limit. Requests.", ge=0),
    ] = None
    patience_s: Annotated[
        float | None, FieldMetadata("A request not begun after this long is given up. null: never. Seconds.", gt=0)
    ] = None


class Kernel:
    """Engines, a router and a central queue.

    `advance` lets everything before a time happen; replicas are then started, drained and killed *at* that time, before
    what else happens at it. Requests are numbered from 0 in the order they were added; `slots` of them are kept at
    once, and a finished one's slot is used again.
    """

    def __init__(self, models: Sequence[ServiceModel], router: Router, seed: int, slots: int) -> None:
        if not 0 < slots <= MAX_SLOTS:
            raise ValueError(f"slots must be 1 to {MAX_SLOTS}, not {slots}")
        found = [integers(m) for m in models]
        self.models: Ints = np.array([i._replace(block=i.block.bit_length() - 1)[:-1] for i in found], dtype=np.int64)
        self.tables: Ints = np.array([i.noise for i in found], dtype=np.int64)
        if len(set(self.models[:, layout.BLOCK_BITS].tolist())) > 1:
            raise ValueError("the models of one world must have the same block_tokens")
        self.world: Ints = np.zeros(layout.WORLD_FIELDS, dtype=np.int64)
        w = self.world
        w[layout.QUEUE_HEAD] = w[layout.QUEUE_TAIL] = w[layout.TURN] = -1
        w[layout.ROUTER] = ROUTERS[router.kind]
        w[layout.LIMIT] = NEVER if router.limit is None else router.limit
        w[layout.QUEUE_LIMIT] = NEVER if router.queue_limit is None else router.queue_limit
        w[layout.PATIENCE] = NEVER if router.patience_s is None else round(router.patience_s * 1e12)
        w[layout.SEED] = seed
        self.times: Ints = np.full((slots, layout.REQUEST_TIMES), -1, dtype=np.int64)
        self.counts: NDArray[np.int32] = np.zeros((slots, layout.REQUEST_COUNTS), dtype=np.int32)
        self._requests: tuple[Any, Any] = (
            _rows(self.times, layout.TIMES_RECORD),
            _rows(self.counts, layout.COUNTS_RECORD),
        )
        self.gaps: Ints = np.zeros(layout.ITL_BUCKETS, dtype=np.int64)
        self._retries: Ints = np.empty((0, 2), dtype=np.int64)
        self._sums: NDArray[np.float64] = np.empty(summing.SUMMED_FIELDS)
        self.replicas: Ints
        self.growth: Ints
        self.heaps: Ints
        self.lists: NDArray[np.int32]
        self._make_room(8, 0)

    # --- replicas

    @property
    def now_ps(self) -> int:
        return int(self.world[layout.CLOCK])

    def add(self, model: int, key: int) -> int:
        """Return a new replica, which takes no requests before it is started. Gives its number."""
        number = int(self.world[layout.REPLICAS])
        if number == len(self.replicas):
            self._make_room(2 * number, number)
        self.world[layout.REPLICAS] = number + 1
        s = self.replicas[number]
        s[layout.NUMBER], s[layout.MODEL], s[layout.KEY] = number, model, key
        return number

    def start(self, replica: int) -> None:
        """Let a replica take requests from now on."""
        s = self.replicas[replica]
        s[layout.TAKES] = 1
        if self.world[layout.QUEUED]:
            self._set_due(replica, self.now_ps)
        self._set_load(replica)

    def drain(self, replica: int) -> None:
        """Let a replica take no more requests, and finish those it has."""
        s = self.replicas[replica]
        s[layout.TAKES] = 0
        if s[layout.OUTSTANDING] == 0 and s[layout.EMPTIED] < 0:
            s[layout.EMPTIED] = self.now_ps
        self._set_load(replica)

    def kill(self, replica: int) -> Ints:
        """End a replica now. Gives the slots of the requests that it had, which are lost unless they are sent again."""
        s = self.replicas[replica]
        self.totals()
        lost = self._outstanding(replica)
        fresh = self.lists[replica, layout.LIST_FRESH_DUE, : s[layout.FRESH_DUE]]
        self.times[fresh, layout.FIRST] = -1
        self.times[lost, layout.FINISH] = layout.LOST
        s[layout.OCCUPIED] = self.occupied_ps(replica)
        s[layout.BUSY] = max(0, int(s[layout.BUSY]) - max(0, int(s[layout.GPU_END]) - self.now_ps))
        s[layout.GPU_END] = min(int(s[layout.GPU_END]), self.now_ps)
        for field in _CLEARED:
            s[field] = 0
        s[layout.FIFO_HEAD] = s[layout.PREFILLING] = -1
        s[layout.DUE] = NEVER
        if s[layout.EMPTIED] < 0:
            s[layout.EMPTIED] = self.now_ps
        self._set_due(replica, NEVER)
        self._set_load(replica)
        return lost

    def outstanding(self, replica: int) -> int:
        """Return the requests that the replica has: waiting, running, or about to be handed out."""
        return int(self.replicas[replica, layout.OUTSTANDING])

    def occupied_ps(self, replica: int) -> int:
        """How long the replica has had requests outstanding."""
        s = self.replicas[replica]
        return int(s[layout.OCCUPIED] + (self.now_ps - s[layout.OCCUPIED_SINCE] if s[layout.OUTSTANDING] else 0))

    def emptied_ps(self, replica: int) -> int:
        """When a replica that takes no more requests had finished its last one; -1 before."""
        return int(self.replicas[replica, layout.EMPTIED])

    # --- requests

    def offer(
        self,
        arrival_ps: Ints,
        prompt: NDArray[np.int32],
        output: NDArray[np.int32],
        cached: NDArray[np.int32] | None = None,
        stride: NDArray[np.int32] | None = None,
    ) -> None:
        """Add requests to come, in order of arrival and not before now."""
        n, slots = len(arrival_ps), len(self.times)
        first = int(self.world[layout.OFFERED])
        where = np.arange(first, first + n) % slots if first + n > slots else slice(first, first + n)
        if first + n > slots and (n > slots or not self._free(where).all()):
            raise ValueError(f"{n} requests more than the kernel's {slots} slots hold")
        times, counts = self.times, self.counts
        times[where, :] = -1
        times[where, layout.ARRIVAL] = arrival_ps
        counts[where, :] = 0
        counts[where, layout.PROMPT] = prompt
        counts[where, layout.OUTPUT] = output
        counts[where, layout.CACHED] = 0 if cached is None else cached
        counts[where, layout.STRIDE] = 1 if stride is None else stride
        counts[where, layout.REPLICA] = -1
        self.world[layout.OFFERED] += n

    def retry(self, slots: Ints, at_ps: int) -> None:
        """Let requests that were lost come again at a time not before now."""
        self.times[slots, layout.ENTER : layout.REQUEST_TIMES] = -1
        self.counts[slots, layout.GENERATED] = 0
        done = int(self.world[layout.RETRIED])
        more = np.column_stack((np.full(len(slots), at_ps), slots)).astype(np.int64)
        known = np.concatenate((self._retries[done:], more))
        self._retries = known[np.argsort(known[:, 0], kind="stable")]
        self.world[layout.RETRIED] = 0
        self.world[layout.RETRIES] = len(self._retries)

    def bury(self, slots: Ints) -> None:
        """Give up requests that were lost, for good: they are in the dead-letter queue."""
        self.times[slots, layout.FINISH] = layout.DEAD_LETTER
        self.world[layout.DEAD_LETTERS] += len(slots)

    def unfinished(self) -> int:
        """Return the number of requests to come, waiting or running."""
        w = self.world
        inside = int(self.replicas[: w[layout.REPLICAS], layout.OUTSTANDING].sum()) + self.queued
        return inside + int(w[layout.OFFERED]) - self.arrived + self.awaiting_redelivery

    def due_within(self, span_ps: int) -> int:
        """Return the number of requests that arrive within `span_ps` from now."""
        w, slots = self.world, len(self.times)
        coming = np.arange(int(w[layout.ARRIVED]), int(w[layout.OFFERED])) % slots
        arrival = self.times[coming, layout.ARRIVAL]
        return int(np.searchsorted(arrival, self.now_ps + span_ps, side="right"))

    def advance(self, until_ps: int) -> None:
        """Let everything before `until_ps` happen. Raises `ValueError` for a time that has passed."""
        if until_ps < self.now_ps:
            raise ValueError(f"time cannot run back from {self.now_ps} to {until_ps} ps")
        fleet.advance(
            until_ps,
            *self._state,
            self.tables,
            self.growth,
            self.heaps,
            self.lists,
            *self._requests,
            self._retries,
            self._due,
            self._load,
            self.gaps,
        )

    # --- what readers see

    @property
    def requests(self) -> RequestTable:
        """The requests of all slots, those included that are still to come."""
        return RequestTable(self.times, self.counts)

    @property
    def arrived_requests(self) -> RequestTable:
        """The requests that have arrived, in order of arrival, where no slot has been used twice."""
        return self.requests[: self.arrived]

    def read(self) -> ReplicaTable:
        """Return the replicas as they stand now."""
        self.totals()
        return ReplicaTable(self.replicas[: self.world[layout.REPLICAS]], self.models)

    def totals(self, silent: int = -1) -> ReplicaTotals:
        """Return the sums over the replicas now, without replica number `silent` (-1: with all)."""
        summing.totals(*self._state, self.growth, self.gaps, silent, self._sums)
        return ReplicaTotals(*self._sums.tolist())

    @property
    def arrived(self) -> int:
        """Requests that have arrived so far."""
        return int(self.world[layout.ARRIVED])

    @property
    def queued(self) -> int:
        """Requests that wait in the central queue."""
        return int(self.world[layout.QUEUED])

    @property
    def awaiting_redelivery(self) -> int:
        """Requests that were lost and come again."""
        return int(self.world[layout.RETRIES] - self.world[layout.RETRIED])

    @property
    def dead_letters(self) -> int:
        return int(self.world[layout.DEAD_LETTERS])

    @property
    def oldest_queued_ps(self) -> int | None:
        """Arrival of the first request in the central queue; None if it is empty."""
        head = int(self.world[layout.QUEUE_HEAD])
        return None if head < 0 else int(self.times[head, layout.ARRIVAL])

    @property
    def outstanding_limit(self) -> int:
        """Requests that a replica has at most."""
        return int(self.world[layout.LIMIT])

    @property
    def events(self) -> int:
        """Replica events so far."""
        return int(self.world[layout.EVENTS])

    # --- inside

    def _free(self, where: NDArray[np.int64] | slice) -> NDArray[np.bool_]:
        finish = self.times[where, layout.FINISH]
        free: NDArray[np.bool_] = (finish != layout.OPEN) | (self.times[where, layout.ARRIVAL] < 0)
        return free

    def _outstanding(self, replica: int) -> Ints:
        s, found = self.replicas[replica], list[int]()
        at = int(s[layout.FIFO_HEAD])
        while at >= 0:
            found.append(at)
            at = int(self.counts[at, layout.NEXT])
        found.extend(self.lists[replica, layout.LIST_LEAVING, : s[layout.LEAVING]].tolist())
        found.extend((self.heaps[replica, : s[layout.IN_HEAP]] & ((1 << 30) - 1)).tolist())
        if s[layout.PREFILLING] >= 0:
            found.append(int(s[layout.PREFILLING]))
        return np.array(sorted(found), dtype=np.int64)

    def _set_due(self, replica: int, at_ps: int) -> None:
        s = self.replicas[replica]
        s[layout.DUE] = at_ps if at_ps == NEVER else min(int(s[layout.DUE]), at_ps)
        SET_LEAF(self._due, replica, int(s[layout.DUE]))

    def _set_load(self, replica: int) -> None:
        s = self.replicas[replica]
        key = LOAD_KEY(int(s[layout.TAKES]), int(s[layout.OUTSTANDING]), int(self.world[layout.LIMIT]))
        SET_LEAF(self._load, replica, key)

    def _make_room(self, size: int, old: int) -> None:
        """Make room for so many replicas, a power of two; there are `old` of them."""
        seqs, phases = int(self.models[:, layout.MAX_SEQS].max()) + 1, 1 << int(self.models[0, layout.BLOCK_BITS])
        replicas: Ints = np.zeros((size, layout.REPLICA_FIELDS), dtype=np.int64)
        replicas[:, layout.DUE] = NEVER
        for field in (layout.FIFO_HEAD, layout.FIFO_TAIL, layout.PREFILLING, layout.EMPTIED):
            replicas[:, field] = -1
        growth: Ints = np.zeros((size, phases), dtype=np.int64)
        heaps: Ints = np.zeros((size, seqs), dtype=np.int64)
        lists: NDArray[np.int32] = np.zeros((size, layout.LISTS, seqs), dtype=np.int32)
        if old:
            replicas[:old], growth[:old], heaps[:old], lists[:old] = self.replicas, self.growth, self.heaps, self.lists
        self.replicas, self.growth, self.heaps, self.lists = replicas, growth, heaps, lists
        self._state: tuple[Any, Any, Any] = (
            _rows(self.world, layout.WORLD_RECORD)[0],
            _rows(self.replicas, layout.REPLICA_RECORD),
            _rows(self.models, layout.MODEL_RECORD),
        )
        self._due: Ints = np.full(2 * size, NEVER, dtype=np.int64)
        self._load: Ints = np.full(2 * size, NEVER, dtype=np.int64)
        for number in range(old):
            SET_LEAF(self._due, number, int(replicas[number, layout.DUE]))
            self._set_load(number)


def _rows(columns: NDArray[Any], record: np.dtype[np.void]) -> NDArray[np.void]:
    """Return the same memory as records, one a row."""
    rows: NDArray[np.void] = columns.view(record).reshape(-1)
    return rows


_CLEARED: Final = (
    layout.DECODING, layout.STRIDES, layout.KV_READ, layout.WAITING, layout.RUNNING, layout.USED, layout.IN_HEAP,
    layout.LEAVING, layout.FRESH, layout.FRESH_DUE, layout.SEQS, layout.SEQS_DUE, layout.DECODES, layout.DECODES_DUE,
    layout.TOKENS, layout.TOKENS_DUE, layout.REST, layout.IN_FLIGHT, layout.OUTSTANDING, layout.TAKES,
)  # fmt: skip
