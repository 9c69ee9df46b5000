"""Runs of equal steps, in closed form on integers.

A step of decoding takes ``G``, the next one of the same batch ``G + d`` (each request holds a token more), so n of them
end after ``n G + d n (n - 1) / 2``. An event launches one step; where nothing can change before a request ends, further
steps are only noted (`REST`). They are counted when the next event comes, when an arrival cuts them short, or when
somebody looks; on integers the result is the same as stepping.
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
def span(steps: int, first: int, growth: int) -> int:
    """How long so many steps take, the first `first` and each one `growth` longer than the one before."""
    return steps * first + growth * ((steps * (steps - 1)) >> 1)


@inlined
def steps_to(time: int, first: int, growth: int) -> int:
    """Return the least number of steps that take at least `time`."""
    if time <= 0:
        return 0
    half = first - 0.5 * growth
    steps = int(2.0 * time / (half + math.sqrt(half * half + 2.0 * growth * time)))
    while span(steps, first, growth) < time:
        steps += 1
    while steps > 0 and span(steps - 1, first, growth) >= time:
        steps -= 1
    return steps


@inlined
def blocks(tokens: int, block: int) -> int:
    """KV-cache blocks, of `block` tokens each (a power of two), that hold so many tokens."""
    return (tokens + (1 << block) - 1) >> block


@inlined
def note_gap(gaps: Ints, gap: int, sequences: int) -> None:
    """Count a gap of `gap` picoseconds before the tokens of so many sequences."""
    fraction, exponent = math.frexp(float(gap >> GAP_BITS))
    if exponent > 0:
        gaps[16 * exponent + int(fraction * 32.0) - 16] += sequences
    else:
        gaps[0] += sequences


@inlined
def note_gaps(gaps: Ints, first: int, growth: int, steps: int, sequences: int) -> None:
    """Count the gaps before the tokens of `steps` steps, each `growth` longer than the one before."""
    done, low = 0, first
    while done < steps:
        fraction, exponent = math.frexp(float(low >> GAP_BITS))
        sixteenth = int(fraction * 32.0) - 15
        upto = steps
        if growth > 0:
            edge = math.ceil(math.ldexp(16.0 + sixteenth, exponent - 5)) if exponent > 0 else 1
            upto = min(steps, max(done + 1, ((edge << GAP_BITS) - first + growth - 1) // growth))
        note_gap(gaps, low, sequences * (upto - done))
        done, low = upto, first + growth * upto


@inlined
def note_growth(growth: Ints, block: int, step: int, held: int, stride: int, sign: int) -> None:
    """Add (or take, by `sign`) a request's needs for new blocks, by step modulo the block size.

    It decodes from `step` on, and holds `held` tokens before it.
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
def grown(growth: Ints, block: int, step: int, steps: int, strides: int) -> int:
    """Return the new blocks that a number of steps need, the first of them `step`."""
    mask = (1 << block) - 1
    total = (steps >> block) * strides
    for k in range(steps & mask):
        total += growth[(step + k) & mask]
    return total


@inlined
def count_rest(s: Record, m: Record, growth: Ints, gaps: Ints, c: int) -> None:
    """Let the first `c` of the steps noted in REST have been launched, and what they hand out be handed out."""
    base, first, strides, batch = s.rest_base, s.rest_step, s.strides, s.decoding
    longer = m.kv_decode * strides
    if m.pipelined:
        note_gap(gaps, base - s.now, s.decodes_due)
        note_gaps(gaps, first, longer, c - 1, batch)
        s.now = base + span(c - 1, first, longer)
        s.tokens_out += s.tokens_due + (c - 1) * strides
        last = s.seqs_due if c == 1 else batch
        s.seqs_due = s.decodes_due = batch
        s.tokens_due = strides
    else:
        note_gaps(gaps, first, longer, c, batch)
        s.now = base + span(c, first, longer)
        s.tokens_out += c * strides
        last = batch
    if last > 0:
        s.front = s.now + m.front_base + m.front_seq * last
    s.used += grown(growth, m.block_bits, s.step + 1, c, strides)
    s.step += c
    s.kv_read += strides * c
    s.gpu_end = base + span(c + 1, first, longer)
    s.busy += span(c + 1, first, longer) - first
    s.rest -= c
    s.rest_base = base + span(c, first, longer)
    s.rest_step = first + longer * c
    s.fresh_due = 0


@inlined
def look(s: Record, m: Record, growth: Ints, gaps: Ints, t: int) -> None:
    """Count all that happened up to and at `t`, and leave the rest noted."""
    if s.rest == 0:
        return
    lag = m.pipelined
    done = steps_to(t + 1 - s.rest_base, s.rest_step, m.kv_decode * s.strides) - 1 + lag
    if done > 0:
        count_rest(s, m, growth, gaps, min(done, s.rest))


@inlined
def cut_rest(s: Record, m: Record, t: int) -> None:
    """Let the next event be the first one at or after `t`, if it comes before the one awaited."""
    if s.rest == 0 or t >= s.due:
        return
    first, longer, lag = s.rest_step, m.kv_decode * s.strides, m.pipelined
    events = max(1, steps_to(t - s.rest_base, first, longer) + lag)
    if events <= s.rest:
        s.rest = events - 1
        s.due = s.rest_base + span(events - lag, first, longer)
