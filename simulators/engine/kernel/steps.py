"""Deferred steps: many decode steps of one batch, applied at once by an integer formula.

A decode step takes ``G`` on the GPU. The next step of the same batch takes ``G + d``, because each request holds one
more token. So n steps take ``n G + d n (n - 1) / 2``. With G = 10 ms and d = 5.7472 us (128 sequences, 44.9 ns per KV
token), 100 steps take 1000 + 28.4 = 1028.4 ms.

An event launches one step. Where the batch cannot change before a request ends, the steps that follow are not
simulated one by one but deferred (`layout.DEFERRED`). They are applied when the next event comes, and in part when an
arrival changes the batch or a caller reads the state. Everything is an integer, so the result equals that of stepping.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from simulators.engine.kernel.jit import inlined

Record: TypeAlias = Any
"""A row with the fields of one of the records of `layout`; Records is an array of them."""
Records: TypeAlias = Any
Ints = NDArray[np.int64]
Counts = NDArray[np.int32]
Floats = NDArray[np.float64]
GAP_BITS = 20
"""Gaps between tokens are counted in units of 2**20 ps, about a microsecond."""


@inlined
def total_time(steps: int, first: int, growth: int) -> int:
    """Return the time of `steps` steps: the first takes `first`, each next one `growth` more.

    3 steps of 10, 12 and 14 (``first`` 10, ``growth`` 2) take 36.
    """
    return steps * first + growth * ((steps * (steps - 1)) >> 1)


@inlined
def steps_to_reach(time: int, first: int, growth: int) -> int:
    """Return the minimum number of steps that take at least `time`.

    With ``first`` 10 and ``growth`` 2, 22 needs 2 steps (10 + 12) and 23 needs 3. The root of the quadratic is computed
    in floating point; the two loops correct its rounding.
    """
    if time <= 0:
        return 0
    half = first - 0.5 * growth
    steps = int(2.0 * time / (half + math.sqrt(half * half + 2.0 * growth * time)))
    while total_time(steps, first, growth) < time:
        steps += 1
    while steps > 0 and total_time(steps - 1, first, growth) >= time:
        steps -= 1
    return steps


@inlined
def blocks(tokens: int, block: int) -> int:
    """Return the KV-cache blocks that hold `tokens`.

    17 tokens need 2 blocks of ``2**block`` = 16 tokens.
    """
    return (tokens + (1 << block) - 1) >> block


@inlined
def count_gap(gaps: Ints, gap: int, sequences: int) -> None:
    """Count a gap of `gap` picoseconds before the tokens of `sequences` sequences.

    A bucket is 1/16 of a power of two. 10 ms are 9536 units of 2**20 ps, which is 0.582 * 2**14: bucket
    16 * 14 + int(0.582 * 32) - 16 = 226, which holds gaps from 9.66 to 10.20 ms.
    """
    fraction, exponent = math.frexp(float(gap >> GAP_BITS))
    if exponent > 0:
        gaps[16 * exponent + int(fraction * 32.0) - 16] += sequences
    else:
        gaps[0] += sequences


@inlined
def count_gaps(gaps: Ints, first: int, growth: int, steps: int, sequences: int) -> None:
    """Count the gaps before the tokens of `steps` steps.

    The first gap is `first`, and each next one is `growth` more. One pass of the loop counts all gaps of one bucket,
    which ends at `edge` units.
    """
    done, gap = 0, first
    while done < steps:
        fraction, exponent = math.frexp(float(gap >> GAP_BITS))
        sixteenth = int(fraction * 32.0) - 15
        end = steps
        if growth > 0:
            edge = math.ceil(math.ldexp(16.0 + sixteenth, exponent - 5)) if exponent > 0 else 1
            end = min(steps, max(done + 1, ((edge << GAP_BITS) - first + growth - 1) // growth))
        count_gap(gaps, gap, sequences * (end - done))
        done, gap = end, first + growth * end


@inlined
def add_growth(growth: Ints, block: int, step: int, held: int, stride: int, sign: int) -> None:
    """Add or remove the new blocks that a request needs, by step modulo the block size.

    A `sign` of 1 adds them, -1 removes them. The request decodes `stride` tokens a step from `step` on, and holds
    `held` tokens before that. With blocks of 16 tokens, step 100 and 30 tokens held, the request writes token 33 in
    step 102 and needs a third block then, and a new one every 16 steps after that: ``growth[102 % 16]`` rises by 1.
    """
    mask = (1 << block) - 1
    if stride == 1:
        growth[(step - held) & mask] += sign
    else:
        before = blocks(held, block)
        for k in range(mask + 1):
            after = blocks(held + stride * (k + 1), block)
            growth[(step + k) & mask] += sign * (after - before)
            before = after


@inlined
def growth_of(growth: Ints, block: int, step: int, steps: int, strides: int) -> int:
    """Return the new blocks that `steps` steps from `step` on need.

    `strides` is the sum of the batch's strides. 40 steps of 3 requests with stride 1 and blocks of 16 tokens need
    2 * 3 blocks for the first 32 steps, and the entries of `growth` for the remaining 8.
    """
    mask = (1 << block) - 1
    total = (steps >> block) * strides
    for k in range(steps & mask):
        total += growth[(step + k) & mask]
    return total


@inlined
def apply_deferred(s: Record, m: Record, growth: Ints, gaps: Ints, steps: int) -> None:
    """Launch the first `steps` deferred steps and hand out the tokens of their events.

    A pipelined engine hands out one step later: with 5 steps, the event of the first hands out the step before them,
    and the 5th stays in flight.
    """
    base, first, strides, batch = s.deferred_base, s.deferred_gpu, s.strides, s.decoding
    longer = m.kv_decode * strides
    if m.pipelined:
        count_gap(gaps, base - s.last_event, s.decodes_due)
        count_gaps(gaps, first, longer, steps - 1, batch)
        s.last_event = base + total_time(steps - 1, first, longer)
        s.tokens_out += s.tokens_due + (steps - 1) * strides
        last_seqs = s.seqs_due if steps == 1 else batch
        s.seqs_due = s.decodes_due = batch
        s.tokens_due = strides
    else:
        count_gaps(gaps, first, longer, steps, batch)
        s.last_event = base + total_time(steps, first, longer)
        s.tokens_out += steps * strides
        last_seqs = batch
    if last_seqs > 0:
        s.front_free = s.last_event + m.front_base + m.front_seq * last_seqs
    s.used += growth_of(growth, m.block_bits, s.step + 1, steps, strides)
    s.step += steps
    s.kv_read += strides * steps
    s.gpu_end = base + total_time(steps + 1, first, longer)
    s.busy += total_time(steps + 1, first, longer) - first
    s.deferred -= steps
    s.deferred_base = base + total_time(steps, first, longer)
    s.deferred_gpu = first + longer * steps
    s.fresh_due = 0


@inlined
def apply_until(s: Record, m: Record, growth: Ints, gaps: Ints, t: int) -> None:
    """Apply the deferred steps whose events are at or before `t`. The others stay deferred."""
    if s.deferred == 0:
        return
    lag = m.pipelined
    steps = steps_to_reach(t + 1 - s.deferred_base, s.deferred_gpu, m.kv_decode * s.strides) - 1 + lag
    if steps > 0:
        apply_deferred(s, m, growth, gaps, min(steps, s.deferred))


@inlined
def cut_deferred(s: Record, m: Record, t: int) -> None:
    """Move the next event forward to the first deferred step's event at or after `t`.

    With steps that end at 10, 22, 36 and 52, an arrival at 20 ends the deferral at the event of 22.
    """
    if s.deferred == 0 or t >= s.due:
        return
    first, longer, lag = s.deferred_gpu, m.kv_decode * s.strides, m.pipelined
    events = max(1, steps_to_reach(t - s.deferred_base, first, longer) + lag)
    if events <= s.deferred:
        s.deferred = events - 1
        s.due = s.deferred_base + total_time(events - lag, first, longer)
