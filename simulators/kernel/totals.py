"""The replicas' totals as they stand now, in one pass."""

from __future__ import annotations

from simulators.kernel.compiled import compiled
from simulators.kernel.layout import (
    BUSY,
    CLOCK,
    FINISHED,
    GPU_END,
    KV_BLOCKS,
    MODEL,
    OUTSTANDING,
    PREEMPTIONS,
    REPLICAS,
    REST,
    RUNNING,
    TAKES,
    TOKENS_IN,
    TOKENS_OUT,
    USED,
    WAITING,
)
from simulators.kernel.steps import Floats, Ints, look

SUMMED_FIELDS = 10
(
    ALIVE,
    SUM_RUNNING,
    SUM_WAITING,
    KV_SHARES,
    SUM_BUSY,
    SUM_FINISHED,
    SUM_IN,
    SUM_OUT,
    SUM_PREEMPTIONS,
    IN_HAND,
) = range(SUMMED_FIELDS)
"""Columns: replicas that take requests or still have some, and over all of them (gone ones too: their counters stay)
the sums of what they tell; KV_SHARES of the shares of their caches in use, SUM_BUSY in picoseconds up to now."""


@compiled
def totals(w: Ints, replicas: Ints, models: Ints, growth: Ints, gaps: Ints, silent: int, out: Floats) -> None:
    """Sum over the replicas, but for number `silent` (-1: none), into `out`."""
    out[:] = 0.0
    now = w[CLOCK]
    for r in range(w[REPLICAS]):
        s = replicas[r]
        m = models[s[MODEL]]
        if s[REST] > 0:
            look(s, m, growth[r], gaps, now - 1)
        if r == silent:
            continue
        out[ALIVE] += s[TAKES] or s[OUTSTANDING] > 0
        out[SUM_RUNNING] += s[RUNNING]
        out[SUM_WAITING] += s[WAITING]
        out[KV_SHARES] += s[USED] / m[KV_BLOCKS]
        out[SUM_BUSY] += max(0, s[BUSY] - max(0, s[GPU_END] - now))
        out[SUM_FINISHED] += s[FINISHED]
        out[SUM_IN] += s[TOKENS_IN]
        out[SUM_OUT] += s[TOKENS_OUT]
        out[SUM_PREEMPTIONS] += s[PREEMPTIONS]
        out[IN_HAND] += s[OUTSTANDING]
