"""Many replicas, compiled: arrivals in order of time, the router, the central queue, and the replicas' events."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulators.kernel.batch import hand_out, pull, take
from simulators.kernel.chance import splitmix64
from simulators.kernel.compiled import compiled, inlined
from simulators.kernel.engine import launch
from simulators.kernel.layout import (
    ARRIVAL,
    ARRIVED,
    CLOCK,
    DUE,
    EVENTS,
    FIFO_HEAD,
    FINISH,
    INGEST,
    LEAST_LOADED,
    LIMIT,
    MAX_SEQS,
    MODEL,
    NEVER,
    NEXT,
    NOW,
    OFFERED,
    OUTSTANDING,
    QUEUE_HEAD,
    QUEUE_LIMIT,
    QUEUE_TAIL,
    QUEUED,
    RANDOM,
    REFUSED,
    REJECTED,
    REPLICAS,
    REST,
    RETRIED,
    RETRIES,
    ROUTER,
    RUNNING,
    SEED,
    SLOT,
    TAKES,
    TURN,
)
from simulators.kernel.steps import Counts, Ints, count_rest, cut_rest
from simulators.kernel.trees import least_leaf, set_leaf

Grid = NDArray[np.int64]


@inlined
def load_key(w: Ints, s: Ints) -> int:
    """A replica's place in the router's order: its outstanding requests, or the very last if it takes none."""
    return s[OUTSTANDING] if s[TAKES] and s[OUTSTANDING] < w[LIMIT] else NEVER


@inlined
def choose(w: Ints, replicas: Grid, load: Ints) -> int:
    """The replica for the next arrival, or -1 if none takes it."""
    if load[1] == NEVER:
        return -1
    if w[ROUTER] == LEAST_LOADED:
        return least_leaf(load)
    leaves = load.shape[0] >> 1
    if w[ROUTER] == RANDOM:
        eligible = 0
        for r in range(w[REPLICAS]):
            eligible += load[leaves + r] < NEVER
        k = np.int64(splitmix64(w[SEED] + w[ARRIVED]) % np.uint64(eligible))
        for r in range(w[REPLICAS]):
            k -= load[leaves + r] < NEVER
            if k < 0:
                return r
    for _ in range(w[REPLICAS]):
        w[TURN] = w[TURN] + 1 if w[TURN] + 1 < w[REPLICAS] else 0
        if load[leaves + w[TURN]] < NEVER:
            return w[TURN]
    return -1


@inlined
def arrive(
    w: Ints, replicas: Grid, models: Grid, times: Grid, counts: Counts, due: Ints, load: Ints, i: int, t: int
) -> None:
    """One request comes, or comes again."""
    r = choose(w, replicas, load)
    if r < 0:
        if w[QUEUED] >= w[QUEUE_LIMIT]:
            times[i, FINISH] = REJECTED
            w[REFUSED] += 1
            return
        counts[i, NEXT] = -1
        if w[QUEUE_HEAD] < 0:
            w[QUEUE_HEAD] = i
        else:
            counts[w[QUEUE_TAIL], NEXT] = i
        w[QUEUE_TAIL] = i
        w[QUEUED] += 1
        return
    s = replicas[r]
    m = models[s[MODEL]]
    if not take(w, s, m, times, counts, i, t):
        return
    set_leaf(load, r, load_key(w, s))
    if s[DUE] == NEVER:
        s[DUE] = max(t + m[INGEST], s[NOW])
        set_leaf(due, r, s[DUE])
    elif s[REST] > 0 and s[FIFO_HEAD] == i and s[RUNNING] < m[MAX_SEQS]:
        cut_rest(s, m, t + m[INGEST])
        set_leaf(due, r, s[DUE])


@compiled
def advance(
    until: int,
    w: Ints,
    replicas: Grid,
    models: Grid,
    tables: Grid,
    growth: Grid,
    heaps: Grid,
    lists: NDArray[np.int32],
    times: Grid,
    counts: NDArray[np.int32],
    retries: Grid,
    due: Ints,
    load: Ints,
    gaps: Ints,
) -> None:
    """Let everything before `until` happen."""
    slots = times.shape[0]
    while True:
        arrival = times[w[SLOT], ARRIVAL] if w[ARRIVED] < w[OFFERED] else NEVER
        again = retries[w[RETRIED], 0] if w[RETRIED] < w[RETRIES] else NEVER
        t = due[1]
        if t <= min(arrival, again):
            if t >= until:
                break
            r = least_leaf(due)
            s = replicas[r]
            m = models[s[MODEL]]
            w[EVENTS] += 1
            outstanding = s[OUTSTANDING]
            if s[REST] > 0:
                count_rest(s, m, growth[r], gaps, s[REST])
            hand_out(s, m, growth[r], heaps[r], lists[r], times, counts, gaps, t)
            if w[QUEUE_HEAD] >= 0:
                pull(w, s, m, times, counts, t)
            launch(w, s, m, tables[s[MODEL]], growth[r], heaps[r], lists[r], times, counts, t)
            set_leaf(due, r, s[DUE])
            if s[OUTSTANDING] != outstanding:
                set_leaf(load, r, load_key(w, s))
        elif arrival <= again:
            if arrival >= until:
                break
            i = w[SLOT]
            w[SLOT] = i + 1 if i + 1 < slots else 0
            arrive(w, replicas, models, times, counts, due, load, i, arrival)
            w[ARRIVED] += 1
        else:
            if again >= until:
                break
            i = retries[w[RETRIED], 1]
            w[RETRIED] += 1
            arrive(w, replicas, models, times, counts, due, load, i, again)
    w[CLOCK] = until
