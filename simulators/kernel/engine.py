"""One replica's step: how long it takes, and when the event after it is (rules 3 and 4 of ``docs/simulator.md``)."""

from __future__ import annotations

import numpy as np

from simulators.kernel.batch import admit, preempt
from simulators.kernel.chance import S54, splitmix64
from simulators.kernel.compiled import inlined
from simulators.kernel.layout import (
    ATTN,
    BLOCK_BITS,
    BUDGET,
    BUSY,
    CMP_BASE,
    CMP_SEQ,
    CMP_TOKEN,
    DECODES,
    DECODES_DUE,
    DECODING,
    DRAFT,
    DUE,
    ENTER,
    FIFO_HEAD,
    FIRST,
    FRESH,
    FRESH_DUE,
    FRONT,
    FRONT_BASE,
    FRONT_SEQ,
    GPU_END,
    GRAPH_TOKENS,
    HOST_DECODE,
    HOST_EAGER,
    HOST_GRAPH,
    HOST_SEQ,
    IN_FLIGHT,
    INGEST,
    KEY,
    KV_BLOCKS,
    KV_DECODE,
    KV_MIXED,
    KV_READ,
    LEAVING,
    LIST_FRESH,
    LIST_FRESH_DUE,
    MAX_SEQS,
    MAX_STEP_TOKENS,
    MEM_BASE,
    MEM_TOKEN,
    NEVER,
    NOISE_ONE_BITS,
    NOW,
    PAIRS,
    PIPELINED,
    PREFILL,
    PREFILLING,
    REST,
    REST_BASE,
    REST_STEP,
    RUNNING,
    SCRATCH,
    SEQS,
    SEQS_DUE,
    STEP,
    STRIDES,
    TOKENS,
    TOKENS_DUE,
    USED,
)
from simulators.kernel.steps import Counts, Ints, cut_rest, span
from simulators.kernel.trees import SLOT_BITS


@inlined
def hand_on(s: Ints, m: Ints, lists: Counts, times: Ints, seqs: int, decodes: int, tokens: int, fresh: int) -> None:
    """Let the next event hand out a step with so many sequences, whose first tokens are promised for then."""
    s[SEQS_DUE], s[DECODES_DUE], s[TOKENS_DUE], s[FRESH_DUE] = seqs, decodes, tokens, fresh
    if fresh > 0:
        first = max(s[FRONT], s[DUE]) + m[FRONT_BASE] + m[FRONT_SEQ] * seqs
        for k in range(fresh):
            times[lists[LIST_FRESH_DUE, k], FIRST] = first


@inlined
def rest_or_drain(s: Ints, m: Ints, times: Ints, t: int) -> None:
    """Nothing to compute: wait for the step in flight, for a request to be seen, or for ever."""
    head = s[FIFO_HEAD]
    if s[IN_FLIGHT]:
        s[IN_FLIGHT] = 0
        s[DUE] = max(t, s[GPU_END])
    elif head >= 0 and times[head, ENTER] + m[INGEST] > t:
        s[DUE] = times[head, ENTER] + m[INGEST]
    else:
        s[DUE] = NEVER


@inlined
def gpu_time(m: Ints, step: Ints, held: int, tokens: int, seqs: int) -> int:
    """The step's time on the GPU."""
    padded = tokens
    if tokens <= m[GRAPH_TOKENS]:
        padded = (tokens + 7) & ~7 if tokens > 4 else tokens + (tokens == 3)
    memory = m[MEM_BASE] + m[MEM_TOKEN] * padded
    computing = m[CMP_BASE] + m[CMP_TOKEN] * padded + m[CMP_SEQ] * seqs
    kv = m[KV_DECODE] if step[PREFILL] == 0 else m[KV_MIXED]
    return max(memory, computing) + (m[ATTN] * step[PAIRS]) // 1000 + kv * held


@inlined
def host_time(s: Ints, m: Ints, table: Ints, step: Ints, tokens: int) -> int:
    """The host's time to launch the step."""
    if tokens <= m[GRAPH_TOKENS]:
        launch = m[HOST_DECODE] if step[PREFILL] == 0 else m[HOST_GRAPH]
    elif m[HOST_EAGER] > 0:
        noise = table[np.int64(splitmix64(s[KEY] + s[STEP] + 1) >> S54)]
        launch = (m[HOST_EAGER] * noise) >> NOISE_ONE_BITS
    else:
        launch = 0
    return launch + m[HOST_SEQ] * s[RUNNING]


@inlined
def note_rest(s: Ints, m: Ints, growth: Ints, heap: Ints, times: Ints, base: int, gpu: int) -> None:
    """Note the steps that follow with the same batch: until a request ends, the cache is full, or one is admitted."""
    strides, mask = s[STRIDES], (1 << m[BLOCK_BITS]) - 1
    rest = (heap[0] >> SLOT_BITS) - s[STEP]
    free = m[KV_BLOCKS] - s[USED]
    if ((rest >> m[BLOCK_BITS]) + 1) * strides > free:
        fit = (free // strides) << m[BLOCK_BITS]
        free %= strides
        while fit < rest and free >= growth[(s[STEP] + 1 + fit) & mask]:
            free -= growth[(s[STEP] + 1 + fit) & mask]
            fit += 1
        rest = min(rest, fit)
    s[REST], s[REST_BASE], s[REST_STEP] = rest, base, gpu
    s[DUE] = base + span(rest + 1 - m[PIPELINED], gpu, m[KV_DECODE] * strides)
    head = s[FIFO_HEAD]
    if head >= 0 and s[RUNNING] < m[MAX_SEQS]:
        cut_rest(s, m, max(s[NOW] + 1, times[head, ENTER] + m[INGEST]))


@inlined
def launch(
    w: Ints, s: Ints, m: Ints, table: Ints, growth: Ints, heap: Ints, lists: Counts, times: Ints, counts: Counts, t: int
) -> None:
    """Rules 3 and 4: what the next step computes, and when the event after this one is."""
    mask = (1 << m[BLOCK_BITS]) - 1
    needed, preempted = growth[(s[STEP] + 1) & mask], False
    while needed > m[KV_BLOCKS] - s[USED]:
        preempt(s, m, growth, heap, counts)
        needed, preempted = growth[(s[STEP] + 1) & mask], True
    batch, strides, held = s[DECODING], s[STRIDES], s[KV_READ]
    s[USED] += needed
    s[KV_READ] += strides
    seqs_before, decodes_before, tokens_before, fresh_before = s[SEQS], s[DECODES], s[TOKENS], s[FRESH]
    for k in range(fresh_before):
        lists[LIST_FRESH_DUE, k] = lists[LIST_FRESH, k]
    s[SEQS], s[DECODES], s[TOKENS], s[FRESH] = batch, batch, strides, 0
    step = s[SCRATCH:]
    step[BUDGET], step[PREFILL], step[PAIRS] = m[MAX_STEP_TOKENS] - batch * (1 + m[DRAFT]), 0, 0
    if not preempted and (s[FIFO_HEAD] >= 0 or s[PREFILLING] >= 0):
        admit(w, s, m, growth, heap, lists, times, counts, step, t)
    tokens = batch * (1 + m[DRAFT]) + step[PREFILL]
    if tokens == 0:
        rest_or_drain(s, m, times, t)
        hand_on(s, m, lists, times, seqs_before, decodes_before, tokens_before, fresh_before)
        return
    gpu = gpu_time(m, step, held, tokens, s[SEQS])
    host = host_time(s, m, table, step, tokens)
    base = s[GPU_END]
    s[GPU_END] = max(max(base, t) + gpu, t + host)
    s[BUSY] += gpu
    s[STEP] += 1
    if m[PIPELINED]:
        s[DUE] = max(t + host, base)
        steady = t + host <= base
        s[IN_FLIGHT] = 1
    else:
        s[DUE], base, steady = s[GPU_END], t, True
        seqs_before, decodes_before, tokens_before, fresh_before = s[SEQS], s[DECODES], s[TOKENS], s[FRESH]
        for k in range(fresh_before):
            lists[LIST_FRESH_DUE, k] = lists[LIST_FRESH, k]
        s[SEQS], s[DECODES], s[TOKENS], s[FRESH] = 0, 0, 0, 0
    front = m[FRONT_BASE] + m[FRONT_SEQ] * max(seqs_before, batch)
    steady = steady and host <= gpu and front <= gpu and s[FRONT] <= s[DUE] and s[LEAVING] == 0
    eager = tokens > m[GRAPH_TOKENS] and m[HOST_EAGER] > 0
    hand_on(s, m, lists, times, seqs_before, decodes_before, tokens_before, fresh_before)
    if steady and step[PREFILL] == 0 and not eager and not preempted:
        note_rest(s, m, growth, heap, times, base, gpu)
