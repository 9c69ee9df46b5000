"""Which requests a replica runs: handed over, admitted, preempted, finished (rules 1 to 3 of ``docs/simulator.md``)."""

from __future__ import annotations

from simulators.engine.kernel.heaps import SLOT_BITS, push, remove
from simulators.engine.kernel.jit import inlined
from simulators.engine.kernel.layout import (
    LIST_FRESH,
    LIST_LEAVING,
    REJECTED,
    TIMED_OUT,
)
from simulators.engine.kernel.steps import Counts, Ints, Record, Records, blocks, note_gap, note_growth

SLOT_MASK = (1 << SLOT_BITS) - 1


@inlined
def decode_steps(c: Record) -> int:
    """Decode steps that a request needs after its prompt was last computed."""
    left = c.output - c.generated
    return left if c.stride == 1 else (left + c.stride - 1) // c.stride


@inlined
def held_at_end(c: Record) -> int:
    """Tokens in the cache when a request's last step is done."""
    return c.prompt + c.generated - 1 + c.stride * decode_steps(c)


@inlined
def note_empty(s: Record) -> None:
    """Note the time that the replica was occupied once a request is gone, and its end if it takes no more."""
    if s.outstanding == 0:
        s.occupied += s.now - s.occupied_since
        if not s.takes and s.emptied < 0:
            s.emptied = s.now


@inlined
def finish(s: Record, m: Record, when: Record, c: Record) -> None:
    """Record the end of a request whose last token has been handed out."""
    when.finish = s.front
    held = held_at_end(c)
    s.used -= blocks(held, m.block_bits)
    s.tokens_out -= held + 1 - c.prompt - c.output
    s.running -= 1
    s.outstanding -= 1
    s.finished += 1
    note_empty(s)


@inlined
def hand_out(
    s: Record, m: Record, growth: Ints, heap: Ints, lists: Counts, times: Records, counts: Records, gaps: Ints, t: int
) -> None:
    """Rule 1: tokens to their requests; and requests whose last step is launched out of the batch."""
    if s.seqs_due > 0:
        note_gap(gaps, t - s.now, s.decodes_due)
        s.front = max(s.front, t) + m.front_base + m.front_seq * s.seqs_due
        s.tokens_out += s.tokens_due
    s.now = t
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
    """Take a request that decoded `steps` steps, up to the last one launched, out of the batch."""
    s.decoding -= 1
    s.strides -= c.stride
    s.kv_read -= held
    note_growth(growth, m.block_bits, s.step + 1 - steps, held - c.stride * steps, c.stride, -1)


@inlined
def preempt(s: Record, m: Record, growth: Ints, heap: Ints, counts: Records) -> None:
    """Send the request admitted last back to the head of the queue, its computed tokens dropped."""
    if s.prefilling >= 0:
        i = s.prefilling
        s.prefilling = -1
        c = counts[i]
        held = c.prompt + c.generated
    else:
        at, i = 0, heap[0] & SLOT_MASK
        for k in range(1, s.in_heap):
            other = heap[k] & SLOT_MASK
            if counts[other].next > counts[i].next:
                at, i = k, other
        c = counts[i]
        steps = decode_steps(c) - ((heap[at] >> SLOT_BITS) - s.step)
        remove(heap, s.in_heap, at)
        s.in_heap -= 1
        held = c.prompt + c.generated - 1 + c.stride * steps
        leave_batch(s, m, growth, c, held, steps)
        c.generated += c.stride * steps
    s.used -= blocks(held, m.block_bits)
    s.running -= 1
    s.preemptions += 1
    s.wasted += held
    c.next = s.fifo_head
    s.fifo_head = i
    if c.next < 0:
        s.fifo_tail = i
    s.waiting += 1


@inlined
def complete(s: Record, m: Record, growth: Ints, heap: Ints, lists: Counts, when: Record, c: Record, i: int) -> None:
    """Let a prompt computed in the step being scheduled sample a token; it decodes from the next step on."""
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
        note_growth(growth, m.block_bits, s.step + 2, held, c.stride, 1)


@inlined
def take(w: Record, s: Record, m: Record, times: Records, counts: Records, i: int, t: int) -> bool:
    """Hand request `i` over. False if it can never be served here."""
    c = counts[i]
    c.tries += 1
    if blocks(c.prompt + c.output + c.stride, m.block_bits) > m.kv_blocks:
        times[i].finish = REJECTED
        w.refused += 1
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
def pull(w: Record, s: Record, m: Record, times: Records, counts: Records, t: int) -> None:
    """Rule 2: from the central queue to a replica that has room."""
    while w.queue_head >= 0 and s.takes and s.outstanding < w.limit:
        i = w.queue_head
        w.queue_head = counts[i].next
        w.queued -= 1
        if t - times[i].arrival > w.patience:
            times[i].finish = TIMED_OUT
            w.expired += 1
        else:
            take(w, s, m, times, counts, i, t)


@inlined
def take_chunk(s: Record, c: Record, x: int) -> int:
    """Let a prompt take what is left of the budget; gives its tokens in the cache after that. `step`: see `launch`."""
    q = min(s.budget, c.prompt + c.generated - x)
    s.budget -= q
    s.prefill += q
    s.pairs += q * (2 * x + q)
    return x + q


@inlined
def admit(
    w: Record, s: Record, m: Record, growth: Ints, heap: Ints, lists: Counts, times: Records, counts: Records, t: int
) -> None:
    """Rule 3's prefill: the prompt under way, then those that wait."""
    if s.prefilling >= 0:
        i = s.prefilling
        s.prefilled = take_chunk(s, counts[i], s.prefilled)
        if s.prefilled == counts[i].prompt + counts[i].generated:
            s.prefilling = -1
            complete(s, m, growth, heap, lists, times[i], counts[i], i)
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
            w.expired += 1
            s.outstanding -= 1
            note_empty(s)
            pull(w, s, m, times, counts, t)
            continue
        s.running += 1
        s.used += needed
        if when.admit < 0:
            when.admit = t
        x = take_chunk(s, c, int(c.cached))
        if x == c.prompt + c.generated:
            complete(s, m, growth, heap, lists, when, c, i)
        else:
            s.prefilling, s.prefilled = i, x
