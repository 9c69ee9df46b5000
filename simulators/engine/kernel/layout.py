"""Where each number stands in the kernel's arrays: by column for Python, by field for compiled code."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

NEVER: Final = 9_200_000_000_000_000_000
"""A time that does not come: 106.4 days, as late as 63 bits hold with room for the sums beyond it."""

# --- a request: times (int64, picoseconds; -1 where it did not happen)
ARRIVAL: Final = 0
ENTER: Final = 1  # handed to the replica that serves it
ADMIT: Final = 2
FIRST: Final = 3
FINISH: Final = 4  # or, below zero, what became of it
REQUEST_TIMES: Final = 5

# what became of a request, in FINISH
OPEN: Final = -1
REJECTED: Final = -2
TIMED_OUT: Final = -3
LOST: Final = -4
DEAD_LETTER: Final = -5

# --- a request: counts (int32)
PROMPT: Final = 0
OUTPUT: Final = 1
CACHED: Final = 2
STRIDE: Final = 3
GENERATED: Final = 4  # tokens sampled when its prompt was last completed, or when it was preempted
NEXT: Final = 5  # in a FIFO: the one behind it; while running: its number in the order of admission
REPLICA: Final = 6
TRIES: Final = 7
REQUEST_COUNTS: Final = 8

# --- a replica (int64)
NOW: Final = 0  # host time: when its last event was
DUE: Final = 1  # when its next one is
STEP: Final = 2  # steps launched
GPU_END: Final = 3
FRONT: Final = 4
DECODING: Final = 5
STRIDES: Final = 6  # sum of the decoding requests' strides
KV_READ: Final = 7  # tokens that the decoding requests hold in the cache
FIFO_HEAD: Final = 8
FIFO_TAIL: Final = 9
WAITING: Final = 10
RUNNING: Final = 11  # leaving ones included
USED: Final = 12  # KV blocks
PREFILLING: Final = 13  # the request part-way through its prompt, or -1
PREFILLED: Final = 14  # its tokens in the cache
IN_HEAP: Final = 15
LEAVING: Final = 16
FRESH_DUE: Final = 17  # requests whose first token is handed out by the next event
FRESH: Final = 18  # requests whose first token is sampled in the last step launched, beyond those
SEQS_DUE: Final = 19  # sequences sampled in the step that the next event hands out
SEQS: Final = 20  # sequences sampled in the last step launched
DECODES_DUE: Final = 21  # of those, decoding ones
DECODES: Final = 22
TOKENS_DUE: Final = 23  # output tokens in it
TOKENS: Final = 24
REST: Final = 25  # further steps of the same batch, not yet counted
REST_BASE: Final = 26
REST_STEP: Final = 27  # GPU time of the last step counted
IN_FLIGHT: Final = 28  # whether a step is launched and not handed out
ADMITTED: Final = 29  # admissions so far
OUTSTANDING: Final = 30
TAKES: Final = 31  # whether it takes requests
MODEL: Final = 32
KEY: Final = 33
BUSY: Final = 34  # GPU time of the steps launched
TOKENS_OUT: Final = 35
TOKENS_IN: Final = 36  # prompt tokens computed or found in the cache
FINISHED: Final = 37
PREEMPTIONS: Final = 38
EMPTIED: Final = 39  # when a replica that takes no more became empty
WASTED: Final = 40  # tokens in the cache that preemptions dropped
NUMBER: Final = 41
OCCUPIED: Final = 42  # time with requests outstanding, up to the last time it had none
OCCUPIED_SINCE: Final = 43
BUDGET: Final = 44  # of the step being scheduled: tokens left
PREFILL: Final = 45  # tokens of prompts in it
PAIRS: Final = 46  # half token pairs that they attend
REPLICA_FIELDS: Final = 47

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
"""A noise of 1 is 2 to this."""

# --- the world (int64)
CLOCK: Final = 0
ARRIVED: Final = 1  # requests handled so far, by absolute number
OFFERED: Final = 2  # requests in the ring so far
QUEUE_HEAD: Final = 3
QUEUE_TAIL: Final = 4
QUEUED: Final = 5
LIMIT: Final = 6
QUEUE_LIMIT: Final = 7
PATIENCE: Final = 8
ROUTER: Final = 9
TURN: Final = 10
SEED: Final = 11
REFUSED: Final = 12
EXPIRED: Final = 13
EVENTS: Final = 14
RETRIED: Final = 15  # redeliveries handled
RETRIES: Final = 16  # redeliveries known
REPLICAS: Final = 17
SLOT: Final = 18  # of the request to arrive next
DEAD_LETTERS: Final = 19
WORLD_FIELDS: Final = 20

LEAST_LOADED: Final = 0
ROUND_ROBIN: Final = 1
RANDOM: Final = 2

ITL_BUCKETS: Final = 1024
"""Gaps between tokens, by the bit length of the gap in units of 2**20 ps (1 microsecond) and its four highest bits."""


def _record(first: str, fields: int, kind: type[np.signedinteger[Any]]) -> np.dtype[np.void]:
    """Return a record with a field for each column from `first` on, in lower case."""
    names = list(globals())
    at = names.index(first)
    return np.dtype([(name.lower(), kind) for name in names[at : at + fields]])


TIMES_RECORD: Final = _record("ARRIVAL", REQUEST_TIMES, np.int64)
COUNTS_RECORD: Final = _record("PROMPT", REQUEST_COUNTS, np.int32)
REPLICA_RECORD: Final = _record("NOW", REPLICA_FIELDS, np.int64)
MODEL_RECORD: Final = _record("MAX_SEQS", MODEL_FIELDS, np.int64)
WORLD_RECORD: Final = _record("CLOCK", WORLD_FIELDS, np.int64)
"""The rows as compiled code sees them: it types a field in a quarter of the time that an index takes."""
