"""Layout of the kernel's arrays: Python reads by column, compiled code by field.

Compiled functions share these parameter names:

- ``w`` the world's record; ``s`` a replica's record; ``m`` the record of its service model;
- ``p`` the record of a replica's or request's pool, in ``pools``;
- ``i`` the slot of a request, ``times[i]`` or ``when`` its times, ``counts[i]`` or ``c`` its counts;
- ``t`` the time of the event. All times are picoseconds;
- ``growth`` new KV blocks that the batch needs, by step modulo the block size (see `steps.add_growth`);
- ``heap`` the running requests of a replica, by their last step; ``lists`` its request lists (``LIST_*`` below);
- ``gaps`` the histogram of gaps between tokens (`ITL_BUCKETS`).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

NEVER: Final = 9_200_000_000_000_000_000
"""A time that never comes: 9.2e18 ps are 106.5 days. 2**63 is 9.22e18, so that sums beyond it do not overflow."""

# --- a request: times (int64, picoseconds; -1 until the event happens)
ARRIVAL: Final = 0
ENTER: Final = 1  # handed to the replica that serves it
ADMIT: Final = 2
FIRST: Final = 3
FINISH: Final = 4  # or one of the negative states below
REQUEST_TIMES: Final = 5

# state of a request without a finish time, in FINISH
OPEN: Final = -1
REJECTED: Final = -2
TIMED_OUT: Final = -3
LOST: Final = -4
DEAD_LETTER: Final = -5

# --- a request: counts (int32)
PROMPT: Final = 0
OUTPUT: Final = 1
CACHED: Final = 2
STRIDE: Final = 3  # tokens that a decode step yields: above 1 with speculative decoding
GENERATED: Final = 4  # output tokens sampled when its prompt was last completed, or when it was preempted
NEXT: Final = 5  # in a FIFO: the request behind it; while running: its number in the order of admission
REPLICA: Final = 6
DELIVERIES: Final = 7  # times that it was handed to a replica
POOL: Final = 8  # number of the pool that takes it
REQUEST_COUNTS: Final = 9

# --- a replica (int64)
LAST_EVENT: Final = 0  # host time of its last event
DUE: Final = 1  # host time of its next event
STEP: Final = 2  # number of steps launched
GPU_END: Final = 3  # when the GPU ends the last step launched
FRONT_FREE: Final = 4  # when its front end has sent all tokens handed out so far
DECODING: Final = 5  # requests in the decode batch
STRIDES: Final = 6  # sum of the decoding requests' strides
KV_READ: Final = 7  # tokens that the decoding requests hold in the cache
FIFO_HEAD: Final = 8
FIFO_TAIL: Final = 9
WAITING: Final = 10
RUNNING: Final = 11  # leaving ones included
USED: Final = 12  # KV blocks in use
PREFILLING: Final = 13  # the request part-way through its prompt, or -1
PREFILLED: Final = 14  # its tokens in the cache
IN_HEAP: Final = 15  # length of its heap
LEAVING: Final = 16  # requests whose last step is launched and not handed out
# "*_DUE" belong to the step that the next event hands out, their twins to the last step launched
FRESH_DUE: Final = 17  # requests whose first token the next event hands out
FRESH: Final = 18  # requests whose first token the last step launched samples
SEQS_DUE: Final = 19  # sequences sampled
SEQS: Final = 20
DECODES_DUE: Final = 21  # decoding sequences among them
DECODES: Final = 22
TOKENS_DUE: Final = 23  # output tokens
TOKENS: Final = 24
DEFERRED: Final = 25  # steps of the same batch that follow and are not applied yet (see `steps`)
DEFERRED_BASE: Final = 26  # when the GPU begins the last step applied
DEFERRED_GPU: Final = 27  # GPU time of the last step applied
IN_FLIGHT: Final = 28  # 1 if a step is launched and not handed out
ADMITTED: Final = 29  # admissions so far
OUTSTANDING: Final = 30  # requests waiting, running or leaving
TAKES: Final = 31  # 1 if it takes requests
MODEL: Final = 32  # number of its service model
KEY: Final = 33  # seed of its launch noise
BUSY: Final = 34  # GPU time of the steps launched
TOKENS_OUT: Final = 35
TOKENS_IN: Final = 36  # prompt tokens computed or found in the cache
FINISHED: Final = 37
PREEMPTIONS: Final = 38
EMPTIED: Final = 39  # when a replica that takes no more requests finished its last one, or -1
DROPPED: Final = 40  # cached tokens that preemptions dropped
NUMBER: Final = 41
OCCUPIED: Final = 42  # total time with requests outstanding, without the current period
OCCUPIED_SINCE: Final = 43  # start of the current period
BUDGET: Final = 44  # tokens left in the budget of the step being scheduled
PREFILL: Final = 45  # prompt tokens in that step
PAIRS: Final = 46  # half token pairs that they attend
REPLICA_POOL: Final = 47
REPLICA_FIELDS: Final = 48

CLEARED: Final = (
    DECODING,
    STRIDES,
    KV_READ,
    WAITING,
    RUNNING,
    USED,
    IN_HEAP,
    LEAVING,
    FRESH,
    FRESH_DUE,
    SEQS,
    SEQS_DUE,
    DECODES,
    DECODES_DUE,
    TOKENS,
    TOKENS_DUE,
    DEFERRED,
    IN_FLIGHT,
    OUTSTANDING,
    TAKES,
)
"""Fields of a replica that are set to 0 when it ends."""

# --- lists of a replica (int32): requests
LIST_LEAVING: Final = 0
LIST_FRESH_DUE: Final = 1
LIST_FRESH: Final = 2
LISTS: Final = 3

# --- a model (int64): the fields of `simulators.engine.models.integers.Integers`, in their order
(
    MAX_SEQS,
    MAX_STEP_TOKENS,
    KV_BLOCKS,
    BLOCK_BITS,
    PIPELINED,
    MEM_BASE,
    MEM_TOKEN,
    CMP_BASE,
    CMP_TOKEN,
    CMP_SEQ,
    KV_DECODE,
    KV_MIXED,
    ATTN,
    HOST_DECODE,
    HOST_GRAPH,
    HOST_EAGER,
    HOST_SEQ,
    GRAPH_TOKENS,
    INGEST,
    FRONT_BASE,
    FRONT_SEQ,
    DRAFT,
) = range(22)
MODEL_FIELDS: Final = 22
NOISE_ONE_BITS: Final = 16
"""A noise factor of 1 is 2**16."""

# --- the world (int64)
CLOCK: Final = 0
ARRIVED: Final = 1  # requests that have arrived so far
OFFERED: Final = 2  # requests offered so far
QUEUED: Final = 3  # requests in the central queues of all pools
LIMIT: Final = 4  # maximum outstanding requests of a replica
QUEUE_LIMIT: Final = 5  # maximum of QUEUED
PATIENCE: Final = 6
ROUTER: Final = 7  # LEAST_LOADED, ROUND_ROBIN or RANDOM
SEED: Final = 8
REJECTIONS: Final = 9
TIMEOUTS: Final = 10
EVENTS: Final = 11  # replica events handled
RETRIED: Final = 12  # redeliveries handled
RETRIES: Final = 13  # redeliveries known, handled ones included
REPLICAS: Final = 14
SLOT: Final = 15  # slot of the next request to arrive
DEAD_LETTERS: Final = 16
WORLD_FIELDS: Final = 17

# --- a pool (int64): the replicas among which the router chooses
QUEUE_HEAD: Final = 0  # first request in its central queue
QUEUE_TAIL: Final = 1
LAST_CHOSEN: Final = 2  # replica that round robin chose last
POOL_FIELDS: Final = 3

LEAST_LOADED: Final = 0
ROUND_ROBIN: Final = 1
RANDOM: Final = 2

ITL_BUCKETS: Final = 1024
"""Buckets of the histogram of gaps between tokens: 16 for each power of two of 2**20 ps (about 1 microsecond)."""


def _record(first: str, fields: int, kind: type[np.signedinteger[Any]]) -> np.dtype[np.void]:
    """Return a record type with a field for each of `fields` column constants.

    The constants are those from `first` on. The fields have their names in lower case.
    """
    names = list(globals())
    start = names.index(first)
    return np.dtype([(name.lower(), kind) for name in names[start : start + fields]])


TIMES_RECORD: Final = _record("ARRIVAL", REQUEST_TIMES, np.int64)
COUNTS_RECORD: Final = _record("PROMPT", REQUEST_COUNTS, np.int32)
REPLICA_RECORD: Final = _record("LAST_EVENT", REPLICA_FIELDS, np.int64)
MODEL_RECORD: Final = _record("MAX_SEQS", MODEL_FIELDS, np.int64)
WORLD_RECORD: Final = _record("CLOCK", WORLD_FIELDS, np.int64)
POOL_RECORD: Final = _record("QUEUE_HEAD", POOL_FIELDS, np.int64)
"""Record types of the rows. Numba types a field access in a quarter of the time that it needs for an index."""
