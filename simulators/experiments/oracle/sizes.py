"""Plans of replicas by pool and time bucket, from the requests to come.

A plan has one parameter, the utilization: the share of a saturated replica's throughput that it counts on. The k-th
replica (a layer) is needed where the work fills more than k - 1 replicas; each layer is decided independently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from policies.model import PoolName
from simulators.engine.models.service import PS_PER_S, ServiceModel
from simulators.experiments.oracle.lower_bound import min_price_usd_per_hour, work_s
from simulators.experiments.scenario import Case
from simulators.world.infrastructure.market import PoolOffer
from simulators.world.traffic.trace import Floats, RequestTrace

Ints = NDArray[np.int64]
BUCKET_S: Final = 10.0
"""The time between two size changes: short compared with a start-up, long compared with a step. Seconds."""
UNLIMITED: Final = 10**9
Sizes = dict[PoolName, Ints]
"""The planned replicas of each pool in each bucket."""


@dataclass(frozen=True, slots=True)
class Supply:
    """A pool's load by bucket (in saturated replicas), and the replicas it can have by bucket.

    `start_buckets` is the median start-up in whole buckets.
    """

    name: PoolName
    reserved: bool
    load: Floats
    limit: Ints
    start_buckets: int


def supplies(case: Case, seed: int, trace: RequestTrace, end_s: float) -> list[Supply]:
    """Return the workload's pools, in the order in which they carry load.

    Reserved ones come first, then the others by the cost of the whole trace in them.
    """
    priced: list[tuple[float, Supply]] = []
    buckets = int(np.ceil(end_s / BUCKET_S))
    for workload_pool, name in case.pools.items():
        offer = case.scenario.pools[name]
        work = work_s(case.models[offer.model], trace)
        reserved = offer.market == "reserved"
        maximum = case.workload.spec.pools[workload_pool].max_replicas
        limit = np.minimum(_capacity(case, seed, name, offer, buckets), UNLIMITED if maximum is None else maximum)
        load = _load(case, case.models[offer.model], trace, work, buckets)
        price = -1.0 if reserved else min_price_usd_per_hour(offer) * float(work.sum())
        priced.append((price, Supply(name, reserved, load, limit, _start_buckets(offer))))
    return [supply for _, supply in sorted(priced, key=lambda pair: pair[0])]


def fixed_sizes(pools: list[Supply], replicas: int) -> Sizes:
    """Return a plan with the same number of replicas in every bucket, as far as capacity allows.

    The first pools fill first: 5 replicas with 2 reserved nodes give 2 reserved and 3 on-demand ones.
    """
    remaining = np.full(len(pools[0].load), replicas, dtype=np.int64)
    sizes: Sizes = {}
    for pool in pools:
        sizes[pool.name] = np.minimum(pool.limit, remaining)
        remaining = remaining - sizes[pool.name]
    return sizes


def sizes_at_utilization(pools: list[Supply], utilization: float, replicas: int) -> Sizes:
    """Return the plan that carries each bucket's load at a utilization.

    The plan has at most `replicas` in total. A load of 1, 1, 3 and 1 saturated replicas at a utilization of 0.5 needs
    2, 2, 6 and 2 replicas; with at most 4 the plan is 2, 2, 4, 2. A gap no longer than a start-up is filled: idling
    through it costs no more than a new start.
    """
    remaining = np.full(len(pools[0].load), replicas, dtype=np.int64)
    uncarried = np.ones(len(remaining))
    sizes: Sizes = {}
    for pool in pools:
        required = np.ceil(uncarried * pool.load / utilization - 1e-9).astype(np.int64)
        size = np.minimum(remaining if pool.reserved else np.minimum(required, remaining), pool.limit)
        if not pool.reserved:
            size = np.minimum(fill_gaps(size, pool.start_buckets), remaining)
        sizes[pool.name] = size
        remaining = remaining - size
        carried = np.divide(size * utilization, pool.load, out=np.ones(len(remaining)), where=pool.load > 0)
        uncarried = np.maximum(uncarried - carried, 0.0)
    return sizes


def fill_gaps(size: Ints, gap: int) -> Ints:
    """Return sizes in which the gaps of at most `gap` buckets in every layer are filled.

    2, 0, 0, 2 becomes 2, 2, 2, 2 with a gap of 2 and stays with a gap of 1. A morphological closing (Serra 1982) by a
    window of `gap` + 1 buckets fills all layers at once.
    """
    if gap < 1 or len(size) < 2:
        return size
    window = min(gap, len(size) - 1) + 1
    padding = np.zeros(window - 1, np.int64)  # no gap reaches beyond the ends
    dilated = _running_max(np.concatenate((padding, size, padding)), window)
    return -_running_max(-dilated, window)


def _running_max(values: Ints, window: int) -> Ints:
    """Return the maximum of every `window` consecutive values."""
    largest: Ints = np.lib.stride_tricks.sliding_window_view(values, window).max(axis=1)
    return largest


def _start_buckets(offer: PoolOffer) -> int:
    """Return the median start-up in whole buckets: a gap this long costs as much as a start."""
    phases = (offer.start_up.node, offer.start_up.image, offer.start_up.weights, offer.start_up.compile)
    return int((sum(p.median_s for p in phases) + offer.start_up.ready.median_s) // BUCKET_S)


def _capacity(case: Case, seed: int, name: PoolName, offer: PoolOffer, buckets: int) -> Ints:
    """Return the nodes that are available during the whole of each bucket.

    A capacity that rises from 2 to 5 in the middle of a bucket gives 2 for that bucket and 5 for the next.
    """
    total = np.zeros(buckets, dtype=np.int64)
    for zone_name, zone in offer.zones.items():
        available = np.full(buckets, UNLIMITED, dtype=np.int64)
        begin, nodes_now = 0, UNLIMITED
        for time_ps, nodes in zone.supply(seed, f"{name}/{zone_name}", case.folder):
            bucket = time_ps / PS_PER_S / BUCKET_S
            available[begin : int(np.ceil(bucket))] = np.minimum(available[begin : int(np.ceil(bucket))], nodes_now)
            begin, nodes_now = int(bucket), UNLIMITED if nodes is None else nodes
            if begin >= buckets:
                break
        available[begin:] = np.minimum(available[begin:], nodes_now)
        total += available
    return np.minimum(total, UNLIMITED if offer.quota is None else offer.quota)


def _load(case: Case, model: ServiceModel, trace: RequestTrace, work: Floats, buckets: int) -> Floats:
    """Return the load of each bucket in saturated replicas.

    A request's work is spread evenly over its decode time and its slack until the SLO's limit: 0.04 s of work that
    spans one bucket of 10 s adds 0.004 replicas.
    """
    slo, queue = case.target, case.scenario.queue
    decode_s = (trace.output_tokens.astype(np.float64) - 1) * pace_s(model, slo.itl_s)
    slack_s = 0.0 if slo.ttft_s is None else slo.ttft_s
    spread_s: Floats = decode_s + slack_s
    if slo.ttft_s is None and slo.e2e_s is not None:
        spread_s = np.maximum(decode_s, slo.e2e_s - decode_s)
    span = np.maximum(1, np.ceil(spread_s / BUCKET_S)).astype(np.int64)
    start = ((trace.arrival_s + (queue.delay_s if queue else 0.0)) / BUCKET_S).astype(np.int64)
    size = buckets + 1
    added = np.bincount(np.minimum(start, buckets), work / span, size)
    removed = np.bincount(np.minimum(start + span, buckets), work / span, size)
    rate: Floats = np.cumsum(added - removed)[:buckets] / BUCKET_S
    return np.asarray(np.round(np.maximum(rate, 0.0), 9), np.float64)


def pace_s(model: ServiceModel, itl_s: float | None) -> float:
    """Return the time between two tokens with half of the batch decoding. Seconds.

    It is at most the SLO's limit. `llama-3.1-8b-h100-vllm` decodes 64 sequences in 6.6 ms a step: the memory side is
    the slower one.
    """
    batch = model.max_seqs / 2
    step_s = model.cmp_base_s + batch * (model.cmp_token_s * (1 + model.draft_tokens) + model.cmp_seq_s)
    step_s = max(step_s, model.mem_base_s) / model.accepted_per_step
    return step_s if itl_s is None else min(step_s, itl_s)
