"""The replicas' totals as they stand now, in one pass."""

from __future__ import annotations

from typing import NamedTuple

from simulators.engine.kernel.jit import compiled
from simulators.engine.kernel.steps import Floats, Ints, Record, Records, look


class ReplicaTotals(NamedTuple):
    """Sums over all replicas, ended ones included: their counters stay."""

    alive: float
    """Replicas that take requests or still have some."""
    running: float
    waiting: float
    kv_usage: float
    """Sum of the shares of their KV caches in use."""
    busy_ps: float
    """GPU time up to now."""
    finished: float
    prompt_tokens: float
    output_tokens: float
    preemptions: float
    outstanding: float


SUMMED_FIELDS = len(ReplicaTotals._fields)
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
"""Columns of the compiled sums, in the order of `ReplicaTotals`."""


@compiled
def totals(w: Record, replicas: Records, models: Records, growth: Ints, gaps: Ints, silent: int, out: Floats) -> None:
    """Sum over the replicas, but for number `silent` (-1: none), into `out`."""
    out[:] = 0.0
    now = w.clock
    for r in range(w.replicas):
        s = replicas[r]
        m = models[s.model]
        if s.rest > 0:
            look(s, m, growth[r], gaps, now - 1)
        if r == silent:
            continue
        out[ALIVE] += s.takes or s.outstanding > 0
        out[SUM_RUNNING] += s.running
        out[SUM_WAITING] += s.waiting
        out[KV_SHARES] += s.used / m.kv_blocks
        out[SUM_BUSY] += max(0, s.busy - max(0, s.gpu_end - now))
        out[SUM_FINISHED] += s.finished
        out[SUM_IN] += s.tokens_in
        out[SUM_OUT] += s.tokens_out
        out[SUM_PREEMPTIONS] += s.preemptions
        out[IN_HAND] += s.outstanding
