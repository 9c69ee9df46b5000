"""The kernel's Python interface: add and end replicas, offer requests, read times.

State is a few integer arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from policies.model.field_metadata import FieldMetadata
from simulators.engine.kernel import fleet, layout
from simulators.engine.kernel import totals as summing
from simulators.engine.kernel.heaps import SLOT_MASK, set_leaf
from simulators.engine.kernel.jit import uncompiled
from simulators.engine.kernel.layout import NEVER
from simulators.engine.kernel.totals import ReplicaTotals
from simulators.engine.models.integers import integers
from simulators.engine.models.service import ServiceModel
from simulators.engine.tables import Mask, ReplicaTable, RequestTable

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
    """Rules that assign requests to replicas.

    They also hold or drop requests while no replica takes them.
    """

    kind: Annotated[
        Literal["least_loaded", "round_robin", "random"],
        FieldMetadata("Rule that selects the replica of a request: least_loaded, round_robin or random."),
    ] = "least_loaded"
    limit: Annotated[
        int | None,
        FieldMetadata(
            "Maximum requests on a replica; others wait in the central queue. Default: null, no limit. Requests.", ge=1
        ),
    ] = None
    queue_limit: Annotated[
        int | None,
        FieldMetadata(
            "Maximum requests in the central queue; others are rejected. Default: null, no limit. Requests.", ge=0
        ),
    ] = None
    patience_s: Annotated[
        float | None,
        FieldMetadata("Timeout of a request that has not started. Default: null, no timeout. Seconds.", gt=0),
    ] = None


class Kernel:
    """Simulation of engines, a router and a central queue.

    Times are picoseconds from the world's start.

    `advance(t)` handles every event before `t`. `start`, `drain` and `kill` act *at* `t`, before the events at `t`.
    Replicas are in `pools`, numbered from 0. A request goes to a replica of its pool.

    Requests are numbered from 0 in the order in which they are offered. The kernel holds `slots` of them at once:
    request n is in row ``n % slots``, and a finished request frees its row. With 1000 slots, request 1003 is in row 3.
    """

    def __init__(self, models: Sequence[ServiceModel], router: Router, seed: int, slots: int, pools: int = 1) -> None:
        if not 0 < slots <= MAX_SLOTS:
            raise ValueError(f"slots must be 1 to {MAX_SLOTS}, not {slots}")
        rows = [integers(m) for m in models]
        self.models: Ints = np.array([i._replace(block=i.block.bit_length() - 1)[:-1] for i in rows], dtype=np.int64)
        self.tables: Ints = np.array([i.noise for i in rows], dtype=np.int64)
        if len(set(self.models[:, layout.BLOCK_BITS].tolist())) > 1:
            raise ValueError("the models of one world must have the same block_tokens")
        self.world: Ints = np.zeros(layout.WORLD_FIELDS, dtype=np.int64)
        w = self.world
        w[layout.ROUTER] = ROUTERS[router.kind]
        w[layout.LIMIT] = NEVER if router.limit is None else router.limit
        w[layout.QUEUE_LIMIT] = NEVER if router.queue_limit is None else router.queue_limit
        w[layout.PATIENCE] = NEVER if router.patience_s is None else round(router.patience_s * 1e12)
        w[layout.SEED] = seed
        self.pools: Ints = np.full((pools, layout.POOL_FIELDS), -1, dtype=np.int64)
        self.times: Ints = np.full((slots, layout.REQUEST_TIMES), -1, dtype=np.int64)
        self.counts: NDArray[np.int32] = np.zeros((slots, layout.REQUEST_COUNTS), dtype=np.int32)
        self._requests: tuple[Any, Any] = (
            _rows(self.times, layout.TIMES_RECORD),
            _rows(self.counts, layout.COUNTS_RECORD),
        )
        self._pools = _rows(self.pools, layout.POOL_RECORD)
        self.gaps: Ints = np.zeros(layout.ITL_BUCKETS, dtype=np.int64)
        self._retries: Ints = np.empty((0, 2), dtype=np.int64)
        self._sums: NDArray[np.float64] = np.empty(summing.SUMMED_FIELDS)
        self.replicas: Ints
        self.growth: Ints
        self.heaps: Ints
        self.lists: NDArray[np.int32]
        self._resize(8, 0)

    # --- replicas

    @property
    def now_ps(self) -> int:
        return int(self.world[layout.CLOCK])

    def add(self, model: int, key: int, pool: int = 0) -> int:
        """Add a replica to a pool and return its number.

        It takes no requests before `start`. `key` seeds its launch noise.
        """
        number = int(self.world[layout.REPLICAS])
        if number == len(self.replicas):
            self._resize(2 * number, number)
        self.world[layout.REPLICAS] = number + 1
        s = self.replicas[number]
        s[layout.NUMBER], s[layout.MODEL], s[layout.KEY], s[layout.REPLICA_POOL] = number, model, key, pool
        return number

    def start(self, replica: int) -> None:
        """Let a replica take requests from now on."""
        s = self.replicas[replica]
        s[layout.TAKES] = 1
        if self.pools[s[layout.REPLICA_POOL], layout.QUEUE_HEAD] >= 0:
            self._set_due(replica, self.now_ps)
        self._set_load(replica)

    def drain(self, replica: int) -> None:
        """Stop giving requests to a replica. It finishes those it has."""
        s = self.replicas[replica]
        s[layout.TAKES] = 0
        if s[layout.OUTSTANDING] == 0 and s[layout.EMPTIED] < 0:
            s[layout.EMPTIED] = self.now_ps
        self._set_load(replica)

    def kill(self, replica: int) -> Ints:
        """End a replica now and return the slots of its requests.

        They are lost unless `retry` sends them again.
        """
        s = self.replicas[replica]
        self.totals()
        lost = self._outstanding(replica)
        fresh = self.lists[replica, layout.LIST_FRESH_DUE, : s[layout.FRESH_DUE]]
        self.times[fresh, layout.FIRST] = -1
        self.times[lost, layout.FINISH] = layout.LOST
        s[layout.OCCUPIED] = self.occupied_ps(replica)
        s[layout.BUSY] = max(0, int(s[layout.BUSY]) - max(0, int(s[layout.GPU_END]) - self.now_ps))
        s[layout.GPU_END] = min(int(s[layout.GPU_END]), self.now_ps)
        for field in layout.CLEARED:
            s[field] = 0
        s[layout.FIFO_HEAD] = s[layout.PREFILLING] = -1
        s[layout.DUE] = NEVER
        if s[layout.EMPTIED] < 0:
            s[layout.EMPTIED] = self.now_ps
        self._set_due(replica, NEVER)
        self._set_load(replica)
        return lost

    def accepting(self) -> Ints:
        """Return the number of replicas of each pool that take requests."""
        s = self.replicas[: self.world[layout.REPLICAS]]
        pools = s[s[:, layout.TAKES] > 0, layout.REPLICA_POOL]
        return np.bincount(pools, minlength=len(self.pools)).astype(np.int64)

    def outstanding(self, replica: int) -> int:
        """Return the number of requests that the replica has: waiting, running or leaving."""
        return int(self.replicas[replica, layout.OUTSTANDING])

    def occupied_ps(self, replica: int) -> int:
        """Return the total time for which the replica has had requests outstanding."""
        s = self.replicas[replica]
        return int(s[layout.OCCUPIED] + (self.now_ps - s[layout.OCCUPIED_SINCE] if s[layout.OUTSTANDING] else 0))

    def emptied_ps(self, replica: int) -> int:
        """Return when a draining replica finished its last request; -1 while it has one."""
        return int(self.replicas[replica, layout.EMPTIED])

    # --- requests

    def offer(
        self,
        arrival_ps: Ints,
        prompt: NDArray[np.int32],
        output: NDArray[np.int32],
        cached: NDArray[np.int32] | None = None,
        stride: NDArray[np.int32] | None = None,
        pool: NDArray[np.int32] | None = None,
    ) -> None:
        """Add future requests, in order of arrival and none before now. One array entry per request.

        `prompt`, `output` and `cached` are tokens; `stride` is the tokens that a decode step yields (default 1); `pool`
        is the number of the pool that takes it (default 0). Raises `ValueError` where the slots do not hold them all.
        """
        n, slots = len(arrival_ps), len(self.times)
        first = int(self.world[layout.OFFERED])
        rows = np.arange(first, first + n) % slots if first + n > slots else slice(first, first + n)
        if first + n > slots and (n > slots or not self._is_free(rows).all()):
            raise ValueError(f"{n} requests do not fit into the kernel's {slots} slots")
        times, counts = self.times, self.counts
        times[rows, :] = -1
        times[rows, layout.ARRIVAL] = arrival_ps
        counts[rows, :] = 0
        counts[rows, layout.PROMPT] = prompt
        counts[rows, layout.OUTPUT] = output
        counts[rows, layout.CACHED] = 0 if cached is None else cached
        counts[rows, layout.STRIDE] = 1 if stride is None else stride
        counts[rows, layout.REPLICA] = -1
        counts[rows, layout.POOL] = 0 if pool is None else pool
        self.world[layout.OFFERED] += n

    def retry(self, slots: Ints, retry_ps: int) -> None:
        """Let lost requests arrive again at `retry_ps`, which is not before now."""
        self.times[slots, layout.ENTER : layout.REQUEST_TIMES] = -1
        self.counts[slots, layout.GENERATED] = 0
        handled = int(self.world[layout.RETRIED])
        added = np.column_stack((np.full(len(slots), retry_ps), slots)).astype(np.int64)
        pending = np.concatenate((self._retries[handled:], added))
        self._retries = pending[np.argsort(pending[:, 0], kind="stable")]
        self.world[layout.RETRIED] = 0
        self.world[layout.RETRIES] = len(self._retries)

    def move_to_dead_letters(self, slots: Ints) -> None:
        """Give up lost requests for good and count them in the dead-letter queue."""
        self.times[slots, layout.FINISH] = layout.DEAD_LETTER
        self.world[layout.DEAD_LETTERS] += len(slots)

    def unfinished(self) -> int:
        """Return the number of requests that are still to arrive, wait or run."""
        w = self.world
        inside = int(self.replicas[: w[layout.REPLICAS], layout.OUTSTANDING].sum()) + self.queued
        return inside + int(w[layout.OFFERED]) - self.arrived + self.awaiting_redelivery

    def arriving_within(self, duration_ps: int) -> int:
        """Return the number of requests that arrive within `duration_ps` from now."""
        w, slots = self.world, len(self.times)
        future = np.arange(int(w[layout.ARRIVED]), int(w[layout.OFFERED])) % slots
        arrival = self.times[future, layout.ARRIVAL]
        return int(np.searchsorted(arrival, self.now_ps + duration_ps, side="right"))

    def advance(self, until_ps: int) -> None:
        """Handle every event before `until_ps`. Raises `ValueError` for a time that has passed."""
        if until_ps < self.now_ps:
            raise ValueError(f"time cannot run back from {self.now_ps} to {until_ps} ps")
        fleet.advance(
            until_ps,
            *self._state,
            self._pools,
            self.tables,
            self.growth,
            self.heaps,
            self.lists,
            *self._requests,
            self._retries,
            self._due,
            self._loads,
            self.gaps,
        )

    # --- readings

    @property
    def requests(self) -> RequestTable:
        """The requests of all slots, future ones included."""
        return RequestTable(self.times, self.counts)

    @property
    def arrived_requests(self) -> RequestTable:
        """The requests that have arrived, in order of arrival.

        Valid while no slot has been used twice.
        """
        return self.requests[: self.arrived]

    def read(self) -> ReplicaTable:
        """Return the state of the replicas now."""
        self.totals()
        return ReplicaTable(self.replicas[: self.world[layout.REPLICAS]], self.models)

    def totals(self, excluded: int = -1) -> ReplicaTotals:
        """Return the sums over the replicas now, without replica number `excluded` (-1: all)."""
        summing.totals(*self._state, self.growth, self.gaps, excluded, self._sums)
        return ReplicaTotals(*self._sums.tolist())

    @property
    def arrived(self) -> int:
        """Requests that have arrived so far."""
        return int(self.world[layout.ARRIVED])

    @property
    def queued(self) -> int:
        """Requests that wait in the central queues."""
        return int(self.world[layout.QUEUED])

    @property
    def has_queue(self) -> Mask:
        """Whether requests wait in the central queue of each pool."""
        return np.asarray(self.pools[:, layout.QUEUE_HEAD] >= 0)

    @property
    def awaiting_redelivery(self) -> int:
        """Lost requests that will arrive again."""
        return int(self.world[layout.RETRIES] - self.world[layout.RETRIED])

    @property
    def dead_letters(self) -> int:
        return int(self.world[layout.DEAD_LETTERS])

    @property
    def oldest_queued_ps(self) -> int | None:
        """Arrival time of the first request in the central queues; None if they are empty."""
        heads = self.pools[:, layout.QUEUE_HEAD]
        return min(self.times[heads[heads >= 0], layout.ARRIVAL].tolist(), default=None)

    @property
    def outstanding_limit(self) -> int:
        """Maximum number of requests that a replica has at once."""
        return int(self.world[layout.LIMIT])

    @property
    def events(self) -> int:
        """Replica events handled so far."""
        return int(self.world[layout.EVENTS])

    # --- internals

    def _is_free(self, rows: NDArray[np.int64] | slice) -> NDArray[np.bool_]:
        finish = self.times[rows, layout.FINISH]
        free: NDArray[np.bool_] = (finish != layout.OPEN) | (self.times[rows, layout.ARRIVAL] < 0)
        return free

    def _outstanding(self, replica: int) -> Ints:
        s, slots = self.replicas[replica], list[int]()
        slot = int(s[layout.FIFO_HEAD])
        while slot >= 0:
            slots.append(slot)
            slot = int(self.counts[slot, layout.NEXT])
        slots.extend(self.lists[replica, layout.LIST_LEAVING, : s[layout.LEAVING]].tolist())
        slots.extend((self.heaps[replica, : s[layout.IN_HEAP]] & SLOT_MASK).tolist())
        if s[layout.PREFILLING] >= 0:
            slots.append(int(s[layout.PREFILLING]))
        return np.array(sorted(slots), dtype=np.int64)

    def _set_due(self, replica: int, due_ps: int) -> None:
        s = self.replicas[replica]
        s[layout.DUE] = due_ps if due_ps == NEVER else min(int(s[layout.DUE]), due_ps)
        SET_LEAF(self._due, replica, int(s[layout.DUE]))

    def _set_load(self, replica: int) -> None:
        s = self.replicas[replica]
        key = LOAD_KEY(int(s[layout.TAKES]), int(s[layout.OUTSTANDING]), int(self.world[layout.LIMIT]))
        SET_LEAF(self._loads[s[layout.REPLICA_POOL]], replica, key)

    def _resize(self, size: int, old: int) -> None:
        """Allocate the arrays for `size` replicas, a power of two, and copy the `old` existing ones."""
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
        self._loads: Ints = np.full((len(self.pools), 2 * size), NEVER, dtype=np.int64)
        for number in range(old):
            SET_LEAF(self._due, number, int(replicas[number, layout.DUE]))
            self._set_load(number)


def _rows(columns: NDArray[Any], record: np.dtype[np.void]) -> NDArray[np.void]:
    """Return a view of the same memory with one record per row."""
    rows: NDArray[np.void] = columns.view(record).reshape(-1)
    return rows
