"""The scheduler of a replica: hand out, pull, admit, preempt, finish.

``docs/explanation/simulator.md`` has its rules 1 to 3.
"""

from __future__ import annotations

from simulators.engine.kernel.heaps import SLOT_BITS, SLOT_MASK, push, remove
from simulators.engine.kernel.jit import inlined
from simulators.engine.kernel.layout import LIST_FRESH, LIST_LEAVING, REJECTED, TIMED_OUT
from simulators.engine.kernel.steps import Counts, Ints, Record, Records, add_growth, blocks, count_gap


@inlined
def decode_steps(c: Record) -> int:
    """Return the decode steps that a request needs after its prompt was last computed.

    With 100 output tokens, 1 of them generated and a stride of 2: ceil(99 / 2) = 50.
    """
    left = c.output - c.generated
    return left if c.stride == 1 else (left + c.stride - 1) // c.stride


@inlined
def held_at_end(c: Record) -> int:
    """Return the tokens in the cache after a request's last step.

    The last token sampled is never in the cache: a prompt of 500 with 100 output tokens ends with 599.
    """
    return c.prompt + c.generated - 1 + c.stride * decode_steps(c)


@inlined
def close_occupied(s: Record) -> None:
    """End the replica's occupied period if its last request is gone.

    For a draining replica, also note when it became empty.
    """
    if s.outstanding == 0:
        s.occupied += s.last_event - s.occupied_since
        if not s.takes and s.emptied < 0:
            s.emptied = s.last_event


@inlined
def finish(s: Record, m: Record, when: Record, c: Record) -> None:
    """Record the end of a request whose last token has been handed out."""
    when.finish = s.front_free
    held = held_at_end(c)
    s.used -= blocks(held, m.block_bits)
    s.tokens_out -= held + 1 - c.prompt - c.output
    s.running -= 1
    s.outstanding -= 1
    s.finished += 1
    close_occupied(s)


@inlined
def hand_out(
    s: Record, m: Record, growth: Ints, heap: Ints, lists: Counts, times: Records, counts: Records, gaps: Ints, t: int
) -> None:
    """Hand out the tokens of the step that is due (rule 1).

    Requests with no step left leave the batch.
    """
    if s.seqs_due > 0:
        count_gap(gaps, t - s.last_event, s.decodes_due)
        s.front_free = max(s.front_free, t) + m.front_base + m.front_seq * s.seqs_due
        s.tokens_out += s.tokens_due
    s.last_event = t
    s.seqs_due = s.decodes_due = s.tokens_due = s.fresh_due = 0
    for k in range(s.leaving):
        i = lists[LIST_LEAVING, k]
        finish(s, m, times[i], counts[i])
    s.leaving = 0
    while s.in_heap > 0 and heap[0] >> SLOT_BITS <= s.step:
        i = heap[0] & SLOT_MASK
        remove(heap, s.in_heap, 0)
        s.in_heap -= 1
        c = counts[i]
        if c.generated < c.output:
            leave_batch(s, m, growth, c, held_at_end(c), decode_steps(c))
        if m.pipelined:
            lists[LIST_LEAVING, s.leaving] = i
            s.leaving += 1
        else:
            finish(s, m, times[i], c)


@inlined
def leave_batch(s: Record, m: Record, growth: Ints, c: Record, held: int, steps: int) -> None:
    """Take a request out of the decode batch.

    It decoded in the last `steps` steps and holds `held` tokens.
    """
    s.decoding -= 1
    s.strides -= c.stride
    s.kv_read -= held
    add_growth(growth, m.block_bits, s.step + 1 - steps, held - c.stride * steps, c.stride, -1)


@inlined
def preempt(s: Record, m: Record, growth: Ints, heap: Ints, counts: Records) -> None:
    """Drop the cached tokens of the request admitted last.

    The request goes back to the head of the replica's queue.
    """
    if s.prefilling >= 0:
        i = s.prefilling
        s.prefilling = -1
        c = counts[i]
        held = c.prompt + c.generated
    else:
        node, i = 0, heap[0] & SLOT_MASK
        for k in range(1, s.in_heap):
            candidate = heap[k] & SLOT_MASK
            if counts[candidate].next > counts[i].next:
                node, i = k, candidate
        c = counts[i]
        steps = decode_steps(c) - ((heap[node] >> SLOT_BITS) - s.step)
        remove(heap, s.in_heap, node)
        s.in_heap -= 1
        held = c.prompt + c.generated - 1 + c.stride * steps
        leave_batch(s, m, growth, c, held, steps)
        c.generated += c.stride * steps
    s.used -= blocks(held, m.block_bits)
    s.running -= 1
    s.preemptions += 1
    s.dropped += held
    c.next = s.fifo_head
    s.fifo_head = i
    if c.next < 0:
        s.fifo_tail = i
    s.waiting += 1


@inlined
def complete_prompt(s: Record, m: Record, growth: Ints, heap: Ints, lists: Counts, c: Record, i: int) -> None:
    """Sample a token of a prompt that the step being scheduled completes.

    The request decodes from the next step on.

    In step 7 a request with 4 output tokens and stride 1 samples the first one; 3 decode steps follow, so its heap key
    holds step 10.
    """
    held = c.prompt + c.generated
    if c.generated == 0:
        s.tokens_in += c.prompt
        lists[LIST_FRESH, s.fresh] = i
        s.fresh += 1
    c.generated += 1
    steps = decode_steps(c)
    push(heap, s.in_heap, ((s.step + 1 + steps) << SLOT_BITS) | i)
    s.in_heap += 1
    c.next = s.admitted
    s.admitted += 1
    s.seqs += 1
    s.tokens += 1
    if steps > 0:
        s.decoding += 1
        s.strides += c.stride
        s.kv_read += held
        add_growth(growth, m.block_bits, s.step + 2, held, c.stride, 1)


@inlined
def take_request(w: Record, s: Record, m: Record, times: Records, counts: Records, i: int, t: int) -> bool:
    """Put request `i` into the replica's queue and return True.

    Reject it and return False if it can never fit.
    """
    c = counts[i]
    c.deliveries += 1
    if blocks(c.prompt + c.output + c.stride, m.block_bits) > m.kv_blocks:
        times[i].finish = REJECTED
        w.rejections += 1
        return False
    times[i].enter = t
    c.replica = s.number
    c.next = -1
    if s.fifo_head < 0:
        s.fifo_head = i
    else:
        counts[s.fifo_tail].next = i
    s.fifo_tail = i
    s.waiting += 1
    if s.outstanding == 0:
        s.occupied_since = t
    s.outstanding += 1
    return True


@inlined
def pull(w: Record, p: Record, s: Record, m: Record, times: Records, counts: Records, t: int) -> None:
    """Move requests from its pool's central queue to a replica while it takes them (rule 2)."""
    while p.queue_head >= 0 and s.takes and s.outstanding < w.limit:
        i = p.queue_head
        p.queue_head = counts[i].next
        w.queued -= 1
        if t - times[i].arrival > w.patience:
            times[i].finish = TIMED_OUT
            w.timeouts += 1
        else:
            take_request(w, s, m, times, counts, i, t)


@inlined
def add_chunk(s: Record, c: Record, cached: int) -> int:
    """Add a prompt's next chunk to the step being scheduled.

    Return the prompt's tokens in the cache after it. Each token attends to those before it. A chunk of q tokens on x
    cached ones has q (2 x + q) half pairs: 100 new tokens on 400 cached ones have 100 * 900 = 90,000 half pairs, or
    45,000 pairs.
    """
    chunk = min(s.budget, c.prompt + c.generated - cached)
    s.budget -= chunk
    s.prefill += chunk
    s.pairs += chunk * (2 * cached + chunk)
    return cached + chunk


@inlined
def admit(
    w: Record,
    p: Record,
    s: Record,
    m: Record,
    growth: Ints,
    heap: Ints,
    lists: Counts,
    times: Records,
    counts: Records,
    t: int,
) -> None:
    """Schedule the prefill of a step (rule 3).

    The prompt in progress comes first, then waiting requests.
    """
    if s.prefilling >= 0:
        i = s.prefilling
        s.prefilled = add_chunk(s, counts[i], s.prefilled)
        if s.prefilled == counts[i].prompt + counts[i].generated:
            s.prefilling = -1
            complete_prompt(s, m, growth, heap, lists, counts[i], i)
    while s.budget > 0 and s.fifo_head >= 0 and s.running < m.max_seqs:
        i = s.fifo_head
        c, when = counts[i], times[i]
        if when.enter + m.ingest > t:
            break
        needed = blocks(c.prompt + c.generated, m.block_bits)
        if needed > m.kv_blocks - s.used:
            break
        s.fifo_head = c.next
        s.waiting -= 1
        if t - when.arrival > w.patience and when.admit < 0:
            when.finish = TIMED_OUT
            w.timeouts += 1
            s.outstanding -= 1
            close_occupied(s)
            pull(w, p, s, m, times, counts, t)
            continue
        s.running += 1
        s.used += needed
        if when.admit < 0:
            when.admit = t
        prefilled = add_chunk(s, c, int(c.cached))
        if prefilled == c.prompt + c.generated:
            complete_prompt(s, m, growth, heap, lists, c, i)
        else:
            s.prefilling, s.prefilled = i, prefilled
