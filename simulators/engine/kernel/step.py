"""One step of a replica: content, duration and the replica's next event.

``docs/explanation/simulator.md`` has its rules 3 and 4.
"""

from __future__ import annotations

import numpy as np

from simulators.engine.kernel.heaps import SLOT_BITS
from simulators.engine.kernel.jit import inlined
from simulators.engine.kernel.layout import LIST_FRESH, LIST_FRESH_DUE, NEVER, NOISE_ONE_BITS
from simulators.engine.kernel.rng import S54, splitmix64
from simulators.engine.kernel.scheduler import admit, preempt
from simulators.engine.kernel.steps import Counts, Ints, Record, Records, cut_deferred, total_time


@inlined
def schedule_hand_out(
    s: Record, m: Record, lists: Counts, times: Records, seqs: int, decodes: int, tokens: int, fresh: int
) -> None:
    """Let the next event hand out a step of `seqs` sequences.

    Also set the first-token times of its `fresh` requests.
    """
    s.seqs_due, s.decodes_due, s.tokens_due, s.fresh_due = seqs, decodes, tokens, fresh
    if fresh > 0:
        first = max(s.front_free, s.due) + m.front_base + m.front_seq * seqs
        for k in range(fresh):
            times[lists[LIST_FRESH_DUE, k]].first = first


@inlined
def wait_or_drain(s: Record, m: Record, times: Records, t: int) -> None:
    """Set the next event of a replica with nothing to compute.

    It is a drain, a request that becomes visible, or never.
    """
    head = s.fifo_head
    if s.in_flight:
        s.in_flight = 0
        s.due = max(t, s.gpu_end)
    elif head >= 0 and times[head].enter + m.ingest > t:
        s.due = times[head].enter + m.ingest
    else:
        s.due = NEVER


@inlined
def gpu_time(s: Record, m: Record, held: int, tokens: int, seqs: int) -> int:
    """Return the step's time on the GPU.

    It is the larger of memory and compute time, plus attention and KV reads. 64 decoding requests hold 64,000 tokens.
    With 6.583 ms + 8.59 us per token of memory time, and 44.9 ns per KV token, the step takes 6.583 + 0.550 + 2.874 =
    10.006 ms where compute takes less.

    Sizes up to ``graph_tokens`` run as CUDA graphs, which exist for 1, 2, 4 and multiples of 8: 3 tokens cost as 4, 9
    as 16.
    """
    padded = tokens
    if tokens <= m.graph_tokens:
        padded = (tokens + 7) & ~7 if tokens > 4 else tokens + (tokens == 3)
    memory = m.mem_base + m.mem_token * padded
    computing = m.cmp_base + m.cmp_token * padded + m.cmp_seq * seqs
    kv = m.kv_decode if s.prefill == 0 else m.kv_mixed
    return max(memory, computing) + (m.attn * s.pairs) // 1000 + kv * held


@inlined
def host_time(s: Record, m: Record, table: Ints, tokens: int) -> int:
    """Return the host's time to launch the step.

    A step too large for a CUDA graph has log-normal noise.
    """
    if tokens <= m.graph_tokens:
        launch = m.host_decode if s.prefill == 0 else m.host_graph
    elif m.host_eager > 0:
        noise = table[np.int64(splitmix64(s.key + s.step + 1) >> S54)]
        launch = (m.host_eager * noise) >> NOISE_ONE_BITS
    else:
        launch = 0
    return launch + m.host_seq * s.running


@inlined
def defer_steps(s: Record, m: Record, growth: Ints, heap: Ints, times: Records, base: int, gpu: int) -> None:
    """Defer the steps that follow with the same batch.

    They follow until a request ends, the cache is full, or a request is admitted. 3 requests of stride 1, with blocks
    of 16 tokens and 40 steps until the first one ends, need at most (40 // 16 + 1) * 3 = 9 blocks. With 9 free blocks
    all 40 steps fit. With 7, 32 steps use 6 blocks, and the steps after them are counted one by one until a second new
    block is needed.
    """
    strides, mask = s.strides, (1 << m.block_bits) - 1
    steps = (heap[0] >> SLOT_BITS) - s.step
    free = m.kv_blocks - s.used
    if ((steps >> m.block_bits) + 1) * strides > free:
        fit = (free // strides) << m.block_bits
        free %= strides
        while fit < steps and free >= growth[(s.step + 1 + fit) & mask]:
            free -= growth[(s.step + 1 + fit) & mask]
            fit += 1
        steps = min(steps, fit)
    s.deferred, s.deferred_base, s.deferred_gpu = steps, base, gpu
    s.due = base + total_time(steps + 1 - m.pipelined, gpu, m.kv_decode * strides)
    head = s.fifo_head
    if head >= 0 and s.running < m.max_seqs:
        cut_deferred(s, m, max(s.last_event + 1, times[head].enter + m.ingest))


@inlined
def launch(
    w: Record,
    p: Record,
    s: Record,
    m: Record,
    table: Ints,
    growth: Ints,
    heap: Ints,
    lists: Counts,
    times: Records,
    counts: Records,
    t: int,
) -> None:
    """Schedule and launch the next step, and set the replica's next event (rules 3 and 4).

    A pipelined engine schedules step 8 while the GPU computes step 7: the next event is when step 8 begins on the GPU.
    A synchronous one waits until step 8 ends. Steps are deferred only if every one of them would have the same timing.
    """
    mask = (1 << m.block_bits) - 1
    needed, preempted = growth[(s.step + 1) & mask], False
    while needed > m.kv_blocks - s.used:
        preempt(s, m, growth, heap, counts)
        needed, preempted = growth[(s.step + 1) & mask], True
    batch, strides, held = s.decoding, s.strides, s.kv_read
    s.used += needed
    s.kv_read += strides
    seqs_before, decodes_before, tokens_before, fresh_before = s.seqs, s.decodes, s.tokens, s.fresh
    for k in range(fresh_before):
        lists[LIST_FRESH_DUE, k] = lists[LIST_FRESH, k]
    s.seqs, s.decodes, s.tokens, s.fresh = batch, batch, strides, 0
    s.budget, s.prefill, s.pairs = m.max_step_tokens - batch * (1 + m.draft), 0, 0
    if not preempted and (s.fifo_head >= 0 or s.prefilling >= 0):
        admit(w, p, s, m, growth, heap, lists, times, counts, t)
    tokens = batch * (1 + m.draft) + s.prefill
    if tokens == 0:
        wait_or_drain(s, m, times, t)
        schedule_hand_out(s, m, lists, times, seqs_before, decodes_before, tokens_before, fresh_before)
        return
    gpu = gpu_time(s, m, held, tokens, s.seqs)
    host = host_time(s, m, table, tokens)
    base = s.gpu_end
    s.gpu_end = max(max(base, t) + gpu, t + host)
    s.busy += gpu
    s.step += 1
    if m.pipelined:
        s.due = max(t + host, base)
        steady = t + host <= base
        s.in_flight = 1
    else:
        s.due, base, steady = s.gpu_end, t, True
        seqs_before, decodes_before, tokens_before, fresh_before = s.seqs, s.decodes, s.tokens, s.fresh
        for k in range(fresh_before):
            lists[LIST_FRESH_DUE, k] = lists[LIST_FRESH, k]
        s.seqs, s.decodes, s.tokens, s.fresh = 0, 0, 0, 0
    front = m.front_base + m.front_seq * max(seqs_before, batch)
    steady = steady and host <= gpu and front <= gpu and s.front_free <= s.due and s.leaving == 0
    eager = tokens > m.graph_tokens and m.host_eager > 0
    schedule_hand_out(s, m, lists, times, seqs_before, decodes_before, tokens_before, fresh_before)
    if steady and s.prefill == 0 and not eager and not preempted:
        defer_steps(s, m, growth, heap, times, base, gpu)
