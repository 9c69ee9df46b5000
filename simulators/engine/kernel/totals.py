"""Sums over all replicas, computed in one compiled pass."""

from __future__ import annotations

from typing import NamedTuple

from simulators.engine.kernel.jit import compiled
from simulators.engine.kernel.steps import Floats, Ints, Record, Records, apply_until


class ReplicaTotals(NamedTuple):
    """Sums over all replicas. Counters include the replicas that have ended."""

    alive: float
    """Number of replicas that take requests or still have some."""
    running: float
    waiting: float
    kv_usage: float
    """Sum of the used shares of the KV caches: 1.2 for two replicas at 50 % and 70 %."""
    busy_ps: float
    """GPU time up to now. Picoseconds."""
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
    SUM_OUTSTANDING,
) = range(SUMMED_FIELDS)
"""Columns of the compiled sums, in the order of `ReplicaTotals`."""


@compiled
def totals(w: Record, replicas: Records, models: Records, growth: Ints, gaps: Ints, excluded: int, out: Floats) -> None:
    """Write the sums over the replicas to `out`.

    Replica number `excluded` is left out; -1 includes all replicas.
    """
    out[:] = 0.0
    now = w.clock
    for r in range(w.replicas):
        s = replicas[r]
        m = models[s.model]
        if s.deferred > 0:
            apply_until(s, m, growth[r], gaps, now - 1)
        if r == excluded:
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
        out[SUM_OUTSTANDING] += s.outstanding
