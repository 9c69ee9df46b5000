"""The compiled event loop over many replicas, in order of time.

It handles arrivals, the router, the central queue and replica events.

Parameter names of all compiled functions are explained in `layout`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulators.engine.kernel.heaps import min_leaf, set_leaf
from simulators.engine.kernel.jit import compiled, inlined
from simulators.engine.kernel.layout import LEAST_LOADED, NEVER, RANDOM, REJECTED
from simulators.engine.kernel.rng import splitmix64
from simulators.engine.kernel.scheduler import hand_out, pull, take_request
from simulators.engine.kernel.step import launch
from simulators.engine.kernel.steps import Ints, Record, Records, apply_deferred, cut_deferred

Grid = NDArray[np.int64]


@inlined
def load_key(takes: int, outstanding: int, limit: int) -> int:
    """Return the router's sort key of a replica: its outstanding requests.

    It is `NEVER` if the replica takes none. With a limit of 8, a replica with 7 requests has the key 7 and one with 8
    has `NEVER`.
    """
    return outstanding if takes and outstanding < limit else NEVER


@inlined
def choose(w: Record, p: Record, load: Ints) -> int:
    """Return the replica of a pool for the next arrival; -1 if none takes requests."""
    if load[1] == NEVER:
        return -1
    if w.router == LEAST_LOADED:
        return min_leaf(load)
    leaves = load.shape[0] >> 1
    if w.router == RANDOM:
        eligible = 0
        for r in range(w.replicas):
            eligible += load[leaves + r] < NEVER
        k = np.int64(splitmix64(w.seed + w.arrived) % np.uint64(eligible))
        for r in range(w.replicas):
            k -= load[leaves + r] < NEVER
            if k < 0:
                return r
    for _ in range(w.replicas):
        p.last_chosen = p.last_chosen + 1 if p.last_chosen + 1 < w.replicas else 0
        if load[leaves + p.last_chosen] < NEVER:
            return p.last_chosen
    return -1


@inlined
def arrive(
    w: Record,
    p: Record,
    replicas: Records,
    models: Records,
    times: Records,
    counts: Records,
    due: Ints,
    load: Ints,
    i: int,
    t: int,
) -> None:
    """Hand request `i` to a replica of its pool `p` or to the pool's central queue.

    The request arrives or is redelivered at `t`. `load` is the pool's.
    """
    r = choose(w, p, load)
    if r < 0:
        if w.queued >= w.queue_limit:
            times[i].finish = REJECTED
            w.rejections += 1
            return
        counts[i].next = -1
        if p.queue_head < 0:
            p.queue_head = i
        else:
            counts[p.queue_tail].next = i
        p.queue_tail = i
        w.queued += 1
        return
    s = replicas[r]
    m = models[s.model]
    if not take_request(w, s, m, times, counts, i, t):
        return
    set_leaf(load, r, load_key(s.takes, s.outstanding, w.limit))
    if s.due == NEVER:
        s.due = max(t + m.ingest, s.last_event)
        set_leaf(due, r, s.due)
    elif s.deferred > 0 and s.fifo_head == i and s.running < m.max_seqs:
        cut_deferred(s, m, t + m.ingest)
        set_leaf(due, r, s.due)


@compiled
def advance(
    until: int,
    w: Record,
    replicas: Records,
    models: Records,
    pools: Records,
    tables: Grid,
    growth: Grid,
    heaps: Grid,
    lists: NDArray[np.int32],
    times: Records,
    counts: NDArray[np.int32],
    retries: Grid,
    due: Ints,
    loads: Grid,
    gaps: Ints,
) -> None:
    """Handle every event before `until`, in order of time.

    At equal times, replica events come first, then arrivals, then redeliveries.
    """
    slots = times.shape[0]
    while True:
        arrival = times[w.slot].arrival if w.arrived < w.offered else NEVER
        redelivery = retries[w.retried, 0] if w.retried < w.retries else NEVER
        t = due[1]
        if t <= min(arrival, redelivery):
            if t >= until:
                break
            r = min_leaf(due)
            s = replicas[r]
            m = models[s.model]
            p = pools[s.replica_pool]
            w.events += 1
            outstanding = s.outstanding
            if s.deferred > 0:
                apply_deferred(s, m, growth[r], gaps, s.deferred)
            hand_out(s, m, growth[r], heaps[r], lists[r], times, counts, gaps, t)
            if p.queue_head >= 0:
                pull(w, p, s, m, times, counts, t)
            launch(w, p, s, m, tables[s.model], growth[r], heaps[r], lists[r], times, counts, t)
            set_leaf(due, r, s.due)
            if s.outstanding != outstanding:
                set_leaf(loads[s.replica_pool], r, load_key(s.takes, s.outstanding, w.limit))
        elif arrival <= redelivery:
            if arrival >= until:
                break
            i = w.slot
            w.slot = i + 1 if i + 1 < slots else 0
            pool = counts[i].pool
            arrive(w, pools[pool], replicas, models, times, counts, due, loads[pool], i, arrival)
            w.arrived += 1
        else:
            if redelivery >= until:
                break
            i = retries[w.retried, 1]
            w.retried += 1
            pool = counts[i].pool
            arrive(w, pools[pool], replicas, models, times, counts, due, loads[pool], i, redelivery)
    w.clock = until
