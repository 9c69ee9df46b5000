"""Which requests a replica runs: handed over, admitted, preempted, finished (rules 1 to 3 of ``docs/simulator.md``)."""

from __future__ import annotations

from simulators.kernel.compiled import inlined
from simulators.kernel.layout import (
    ADMIT,
    ADMITTED,
    ARRIVAL,
    BLOCK_BITS,
    BUDGET,
    CACHED,
    DECODES_DUE,
    DECODING,
    EMPTIED,
    ENTER,
    EXPIRED,
    FIFO_HEAD,
    FIFO_TAIL,
    FINISH,
    FINISHED,
    FRESH,
    FRESH_DUE,
    FRONT,
    FRONT_BASE,
    FRONT_SEQ,
    GENERATED,
    IN_HEAP,
    INGEST,
    KV_BLOCKS,
    KV_READ,
    LEAVING,
    LIMIT,
    LIST_FRESH,
    LIST_LEAVING,
    MAX_SEQS,
    NEXT,
    NOW,
    NUMBER,
    OCCUPIED,
    OCCUPIED_SINCE,
    OUTPUT,
    OUTSTANDING,
    PAIRS,
    PATIENCE,
    PIPELINED,
    PREEMPTIONS,
    PREFILL,
    PREFILLED,
    PREFILLING,
    PROMPT,
    QUEUE_HEAD,
    QUEUED,
    REFUSED,
    REJECTED,
    REPLICA,
    RUNNING,
    SEQS,
    SEQS_DUE,
    STEP,
    STRIDE,
    STRIDES,
    TAKES,
    TIMED_OUT,
    TOKENS,
    TOKENS_DUE,
    TOKENS_IN,
    TOKENS_OUT,
    TRIES,
    USED,
    WAITING,
    WASTED,
)
from simulators.kernel.steps import Counts, Ints, blocks, note_gap, note_growth
from simulators.kernel.trees import SLOT_BITS, push, remove

SLOT_MASK = (1 << SLOT_BITS) - 1


@inlined
def decode_steps(c: Counts) -> int:
    """Decode steps that a request needs after its prompt was last computed."""
    left = c[OUTPUT] - c[GENERATED]
    return left if c[STRIDE] == 1 else (left + c[STRIDE] - 1) // c[STRIDE]


@inlined
def held_at_end(c: Counts) -> int:
    """Tokens in the cache when a request's last step is done."""
    return c[PROMPT] + c[GENERATED] - 1 + c[STRIDE] * decode_steps(c)


@inlined
def note_empty(s: Ints) -> None:
    """A request has gone: note the time the replica was occupied, and its end if it takes no more requests."""
    if s[OUTSTANDING] == 0:
        s[OCCUPIED] += s[NOW] - s[OCCUPIED_SINCE]
        if not s[TAKES] and s[EMPTIED] < 0:
            s[EMPTIED] = s[NOW]


@inlined
def finish(s: Ints, m: Ints, times: Ints, c: Counts) -> None:
    """A request's last token has been handed out."""
    times[FINISH] = s[FRONT]
    held = held_at_end(c)
    s[USED] -= blocks(held, m[BLOCK_BITS])
    s[TOKENS_OUT] -= held + 1 - c[PROMPT] - c[OUTPUT]
    s[RUNNING] -= 1
    s[OUTSTANDING] -= 1
    s[FINISHED] += 1
    note_empty(s)


@inlined
def hand_out(
    s: Ints, m: Ints, growth: Ints, heap: Ints, lists: Counts, times: Ints, counts: Counts, gaps: Ints, t: int
) -> None:
    """Rule 1: tokens to their requests; and requests whose last step is launched out of the batch."""
    if s[SEQS_DUE] > 0:
        note_gap(gaps, t - s[NOW], s[DECODES_DUE])
        s[FRONT] = max(s[FRONT], t) + m[FRONT_BASE] + m[FRONT_SEQ] * s[SEQS_DUE]
        s[TOKENS_OUT] += s[TOKENS_DUE]
    s[NOW] = t
    s[SEQS_DUE] = s[DECODES_DUE] = s[TOKENS_DUE] = s[FRESH_DUE] = 0
    for k in range(s[LEAVING]):
        i = lists[LIST_LEAVING, k]
        finish(s, m, times[i], counts[i])
    s[LEAVING] = 0
    while s[IN_HEAP] > 0 and heap[0] >> SLOT_BITS <= s[STEP]:
        i = heap[0] & SLOT_MASK
        remove(heap, s[IN_HEAP], 0)
        s[IN_HEAP] -= 1
        c = counts[i]
        if c[GENERATED] < c[OUTPUT]:
            leave_batch(s, m, growth, c, held_at_end(c), decode_steps(c))
        if m[PIPELINED]:
            lists[LIST_LEAVING, s[LEAVING]] = i
            s[LEAVING] += 1
        else:
            finish(s, m, times[i], c)


@inlined
def leave_batch(s: Ints, m: Ints, growth: Ints, c: Counts, held: int, steps: int) -> None:
    """Take a request that decoded `steps` steps, up to the last one launched, out of the batch."""
    s[DECODING] -= 1
    s[STRIDES] -= c[STRIDE]
    s[KV_READ] -= held
    note_growth(growth, m[BLOCK_BITS], s[STEP] + 1 - steps, held - c[STRIDE] * steps, c[STRIDE], -1)


@inlined
def preempt(s: Ints, m: Ints, growth: Ints, heap: Ints, counts: Counts) -> None:
    """Send the request admitted last back to the head of the queue, its computed tokens dropped."""
    if s[PREFILLING] >= 0:
        i = s[PREFILLING]
        s[PREFILLING] = -1
        c = counts[i]
        held = c[PROMPT] + c[GENERATED]
    else:
        at, i = 0, heap[0] & SLOT_MASK
        for k in range(1, s[IN_HEAP]):
            other = heap[k] & SLOT_MASK
            if counts[other, NEXT] > counts[i, NEXT]:
                at, i = k, other
        c = counts[i]
        steps = decode_steps(c) - ((heap[at] >> SLOT_BITS) - s[STEP])
        remove(heap, s[IN_HEAP], at)
        s[IN_HEAP] -= 1
        held = c[PROMPT] + c[GENERATED] - 1 + c[STRIDE] * steps
        leave_batch(s, m, growth, c, held, steps)
        c[GENERATED] += c[STRIDE] * steps
    s[USED] -= blocks(held, m[BLOCK_BITS])
    s[RUNNING] -= 1
    s[PREEMPTIONS] += 1
    s[WASTED] += held
    c[NEXT] = s[FIFO_HEAD]
    s[FIFO_HEAD] = i
    if c[NEXT] < 0:
        s[FIFO_TAIL] = i
    s[WAITING] += 1


@inlined
def complete(s: Ints, m: Ints, growth: Ints, heap: Ints, lists: Counts, when: Ints, c: Counts, i: int) -> None:
    """A prompt is computed in the step being scheduled: it samples a token, and decodes from the next step on."""
    held = c[PROMPT] + c[GENERATED]
    if c[GENERATED] == 0:
        s[TOKENS_IN] += c[PROMPT]
        lists[LIST_FRESH, s[FRESH]] = i
        s[FRESH] += 1
    c[GENERATED] += 1
    steps = decode_steps(c)
    push(heap, s[IN_HEAP], ((s[STEP] + 1 + steps) << SLOT_BITS) | i)
    s[IN_HEAP] += 1
    c[NEXT] = s[ADMITTED]
    s[ADMITTED] += 1
    s[SEQS] += 1
    s[TOKENS] += 1
    if steps > 0:
        s[DECODING] += 1
        s[STRIDES] += c[STRIDE]
        s[KV_READ] += held
        note_growth(growth, m[BLOCK_BITS], s[STEP] + 2, held, c[STRIDE], 1)


@inlined
def take(w: Ints, s: Ints, m: Ints, times: Ints, counts: Counts, i: int, t: int) -> bool:
    """Hand request `i` over. False if it can never be served here."""
    c = counts[i]
    c[TRIES] += 1
    if blocks(c[PROMPT] + c[OUTPUT] + c[STRIDE], m[BLOCK_BITS]) > m[KV_BLOCKS]:
        times[i, FINISH] = REJECTED
        w[REFUSED] += 1
        return False
    times[i, ENTER] = t
    c[REPLICA] = s[NUMBER]
    c[NEXT] = -1
    if s[FIFO_HEAD] < 0:
        s[FIFO_HEAD] = i
    else:
        counts[s[FIFO_TAIL], NEXT] = i
    s[FIFO_TAIL] = i
    s[WAITING] += 1
    if s[OUTSTANDING] == 0:
        s[OCCUPIED_SINCE] = t
    s[OUTSTANDING] += 1
    return True


@inlined
def pull(w: Ints, s: Ints, m: Ints, times: Ints, counts: Counts, t: int) -> None:
    """Rule 2: from the central queue to a replica that has room."""
    while w[QUEUE_HEAD] >= 0 and s[TAKES] and s[OUTSTANDING] < w[LIMIT]:
        i = w[QUEUE_HEAD]
        w[QUEUE_HEAD] = counts[i, NEXT]
        w[QUEUED] -= 1
        if t - times[i, ARRIVAL] > w[PATIENCE]:
            times[i, FINISH] = TIMED_OUT
            w[EXPIRED] += 1
        else:
            take(w, s, m, times, counts, i, t)


@inlined
def take_chunk(s: Ints, c: Counts, step: Ints, x: int) -> int:
    """Let a prompt take what is left of the budget; gives its tokens in the cache after that. `step`: see `launch`."""
    q = min(step[BUDGET], c[PROMPT] + c[GENERATED] - x)
    step[BUDGET] -= q
    step[PREFILL] += q
    step[PAIRS] += q * (2 * x + q)
    return x + q


@inlined
def admit(
    w: Ints, s: Ints, m: Ints, growth: Ints, heap: Ints, lists: Counts, times: Ints, counts: Counts, step: Ints, t: int
) -> None:
    """Rule 3's prefill: the prompt under way, then those that wait."""
    if s[PREFILLING] >= 0:
        i = s[PREFILLING]
        s[PREFILLED] = take_chunk(s, counts[i], step, s[PREFILLED])
        if s[PREFILLED] == counts[i, PROMPT] + counts[i, GENERATED]:
            s[PREFILLING] = -1
            complete(s, m, growth, heap, lists, times[i], counts[i], i)
    while step[BUDGET] > 0 and s[FIFO_HEAD] >= 0 and s[RUNNING] < m[MAX_SEQS]:
        i = s[FIFO_HEAD]
        c, when = counts[i], times[i]
        if when[ENTER] + m[INGEST] > t:
            break
        needed = blocks(c[PROMPT] + c[GENERATED], m[BLOCK_BITS])
        if needed > m[KV_BLOCKS] - s[USED]:
            break
        s[FIFO_HEAD] = c[NEXT]
        s[WAITING] -= 1
        if t - when[ARRIVAL] > w[PATIENCE] and when[ADMIT] < 0:
            when[FINISH] = TIMED_OUT
            w[EXPIRED] += 1
            s[OUTSTANDING] -= 1
            note_empty(s)
            pull(w, s, m, times, counts, t)
            continue
        s[RUNNING] += 1
        s[USED] += needed
        if when[ADMIT] < 0:
            when[ADMIT] = t
        x = take_chunk(s, c, step, int(c[CACHED]))
        if x == c[PROMPT] + c[GENERATED]:
            complete(s, m, growth, heap, lists, when, c, i)
        else:
            s[PREFILLING], s[PREFILLED] = i, x
