"""Conversion of a service model to integers.

With integers, the kernel computes the same result on every machine. Times are picoseconds. Prefill attention is in
femtoseconds per half pair of tokens, because one pair takes less than a picosecond. ``docs/explanation/simulator.md``
has the rules that use them.
"""

from __future__ import annotations

import itertools
import math
from functools import cache
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulators.engine.models.service import FS_PER_S, PS_PER_S, ServiceModel

NOISE_LEVELS: Final = 1024
NOISE_ONE: Final = 65536
"""A noise factor of 1: ``time * noise // NOISE_ONE`` keeps the mean to 1 in 65536."""


class Integers(NamedTuple):
    """Integers of a `ServiceModel`, field by field. The noise table comes last."""

    max_seqs: int
    max_tokens: int
    kv_blocks: int
    block: int
    pipelined: int
    mem_base: int
    mem_token: int
    cmp_base: int
    cmp_token: int
    cmp_seq: int
    kv_decode: int
    kv_mixed: int
    attn: int
    host_decode: int
    host_graph: int
    host_eager: int
    host_seq: int
    graph_tokens: int
    ingest: int
    front_base: int
    front_seq: int
    draft: int
    noise: NDArray[np.int64]


def integers(model: ServiceModel) -> Integers:
    """Return the model's integers, each rounded to the nearest.

    6.583e-3 s become 6,583,000,000 ps.
    """
    return Integers(
        max_seqs=model.max_seqs,
        max_tokens=model.max_step_tokens,
        kv_blocks=model.kv_blocks,
        block=model.block_tokens,
        pipelined=int(model.pipelined),
        mem_base=_ps(model.mem_base_s),
        mem_token=_ps(model.mem_token_s),
        cmp_base=_ps(model.cmp_base_s),
        cmp_token=_ps(model.cmp_token_s),
        cmp_seq=_ps(model.cmp_seq_s),
        kv_decode=_ps(model.kv_decode_s),
        kv_mixed=_ps(model.kv_mixed_s),
        attn=round(model.attn_pair_s * FS_PER_S / 2),
        host_decode=_ps(model.host_decode_s),
        host_graph=_ps(model.host_graph_s),
        host_eager=_ps(model.host_eager_s),
        host_seq=_ps(model.host_seq_s),
        graph_tokens=model.graph_tokens,
        ingest=_ps(model.ingest_s),
        front_base=_ps(model.front_base_s),
        front_seq=_ps(model.front_seq_s),
        draft=model.draft_tokens,
        noise=noise_table(model.host_eager_sigma),
    )


@cache
def noise_table(sigma: float) -> NDArray[np.int64]:
    """Return equally likely quantiles of a log-normal noise factor, times 65536.

    The distribution has mean 1 and log standard deviation `sigma`. The running sum is rounded instead of each quantile,
    so the mean is exactly 65536.
    """
    normal = NormalDist()
    quantiles = [math.exp(sigma * normal.inv_cdf((i + 0.5) / NOISE_LEVELS)) for i in range(NOISE_LEVELS)]
    sums = [0.0, *itertools.accumulate(quantiles)]
    rounded = [round(NOISE_LEVELS * NOISE_ONE * s / sums[-1]) for s in sums]
    table = np.array([b - a for a, b in itertools.pairwise(rounded)], dtype=np.int64)
    table.flags.writeable = False
    return table


def _ps(seconds: float) -> int:
    return round(seconds * PS_PER_S)
