"""How many replicas the future needs, bucket by bucket, and which pool they are bought in.

A plan has one free parameter, the utilization: the share of a replica's time at saturation that is counted on. The
k-th replica is needed where the work fills more than k - 1 of them; each is a problem of its own (a layer).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from policies.model import PoolName
from simulators.engine.models.service import PS_PER_S, ServiceModel
from simulators.experiments.oracle.lower_bound import least_price_usd_per_hour, work_s
from simulators.experiments.scenario import Case
from simulators.world.infrastructure.market import PoolOffer
from simulators.world.traffic.trace import Floats, RequestTrace

Ints = NDArray[np.int64]
BUCKET_S: Final = 10.0
"""Sizes may change this often: short beside every start-up, long beside a step."""
UNLIMITED: Final = 10**9
Sizes = dict[PoolName, Ints]
"""Replicas wanted of each pool in each bucket."""


@dataclass(frozen=True, slots=True)
class Supply:
    """A pool as the plan sees it: its work by bucket (replicas at saturation), and how many it can have."""

    name: PoolName
    reserved: bool
    load: Floats
    limit: Ints
    start_buckets: int


def supplies(case: Case, seed: int, trace: RequestTrace, end_s: float) -> list[Supply]:
    """Return the workload's pools, those already paid first, then by what the whole trace would cost in them."""
    found: list[tuple[float, Supply]] = []
    buckets = int(np.ceil(end_s / BUCKET_S))
    for known, name in case.pools.items():
        offer = case.scenario.pools[name]
        work = work_s(case.models[offer.model], trace)
        reserved = offer.market == "reserved"
        most = case.workload.spec.pools[known].max_replicas
        limit = np.minimum(_capacity(case, seed, name, offer, buckets), UNLIMITED if most is None else most)
        load = _load(case, case.models[offer.model], trace, work, buckets)
        price = -1.0 if reserved else least_price_usd_per_hour(offer) * float(work.sum())
        found.append((price, Supply(name, reserved, load, limit, _start_buckets(offer))))
    return [supply for _, supply in sorted(found, key=lambda pair: pair[0])]


def static(pools: list[Supply], replicas: int) -> Sizes:
    """Return the same number of replicas from beginning to end, as far as there is capacity: the first pools first."""
    left = np.full(len(pools[0].load), replicas, dtype=np.int64)
    sizes: Sizes = {}
    for pool in pools:
        sizes[pool.name] = np.minimum(pool.limit, left)
        left = left - sizes[pool.name]
    return sizes


def needed(pools: list[Supply], utilization: float, replicas: int) -> Sizes:
    """Return the replicas that carry each bucket's work at a utilization, and no more than so many in all.

    A pool's gap is bridged where idling through it costs no more than a new start would: both are paid at the pool's
    price, so that is a gap no longer than a start-up. Layers nest, so that each is decided by itself, in hindsight.
    """
    left = np.full(len(pools[0].load), replicas, dtype=np.int64)
    undone = np.ones(len(left))
    sizes: Sizes = {}
    for pool in pools:
        asked = np.ceil(undone * pool.load / utilization - 1e-9).astype(np.int64)
        size = np.minimum(left if pool.reserved else np.minimum(asked, left), pool.limit)
        if not pool.reserved:
            size = np.minimum(bridged(size, pool.start_buckets), left)
        sizes[pool.name] = size
        left = left - size
        carried = np.divide(size * utilization, pool.load, out=np.ones(len(left)), where=pool.load > 0)
        undone = np.maximum(undone - carried, 0.0)
    return sizes


def bridged(size: Ints, gap: int) -> Ints:
    """Sizes with every layer's gaps of at most `gap` buckets filled.

    Morphological closing (Serra 1982) by a window of `gap` + 1 buckets does so for all layers at once.
    """
    if gap < 1 or len(size) < 2:
        return size
    window = min(gap, len(size) - 1) + 1
    edge = np.zeros(window - 1, np.int64)  # nothing is bridged beyond the ends
    dilated = _running_max(np.concatenate((edge, size, edge)), window)
    return -_running_max(-dilated, window)


def _running_max(values: Ints, window: int) -> Ints:
    """Return the largest of each `window` values that follow one another."""
    largest: Ints = np.lib.stride_tricks.sliding_window_view(values, window).max(axis=1)
    return largest


def _start_buckets(offer: PoolOffer) -> int:
    """Whole buckets that a start-up takes at the median: a gap this long costs as much as a start."""
    phases = (offer.start_up.node, offer.start_up.image, offer.start_up.weights, offer.start_up.compile)
    return int((sum(p.median_s for p in phases) + offer.start_up.ready.median_s) // BUCKET_S)


def _capacity(case: Case, seed: int, name: PoolName, offer: PoolOffer, buckets: int) -> Ints:
    """Return the nodes that may be had in each bucket from its beginning to its end."""
    total = np.zeros(buckets, dtype=np.int64)
    for zone_name, zone in offer.zones.items():
        least = np.full(buckets, UNLIMITED, dtype=np.int64)
        begin, had = 0, UNLIMITED
        for at_ps, nodes in zone.supply(seed, f"{name}/{zone_name}", case.folder):
            at = at_ps / PS_PER_S / BUCKET_S
            least[begin : int(np.ceil(at))] = np.minimum(least[begin : int(np.ceil(at))], had)
            begin, had = int(at), UNLIMITED if nodes is None else nodes
            if begin >= buckets:
                break
        least[begin:] = np.minimum(least[begin:], had)
        total += least
    return np.minimum(total, UNLIMITED if offer.quota is None else offer.quota)


def _load(case: Case, model: ServiceModel, trace: RequestTrace, work: Floats, buckets: int) -> Floats:
    """The work of each bucket in replicas: a request's is spread over the time that it decodes, and over its slack."""
    slo, queue = case.scenario.slo, case.scenario.queue
    decode_s = (trace.output_tokens.astype(np.float64) - 1) * pace_s(model, slo.itl_s)
    slack_s = 0.0 if slo.ttft_s is None else slo.ttft_s
    spread_s: Floats = decode_s + slack_s
    if slo.ttft_s is None and slo.e2e_s is not None:
        spread_s = np.maximum(decode_s, slo.e2e_s - decode_s)
    span = np.maximum(1, np.ceil(spread_s / BUCKET_S)).astype(np.int64)
    start = ((trace.arrival_s + (queue.delay_s if queue else 0.0)) / BUCKET_S).astype(np.int64)
    size = buckets + 1
    begun = np.bincount(np.minimum(start, buckets), work / span, size)
    ended = np.bincount(np.minimum(start + span, buckets), work / span, size)
    rate: Floats = np.cumsum(begun - ended)[:buckets] / BUCKET_S
    return np.asarray(np.round(np.maximum(rate, 0.0), 9), np.float64)


def pace_s(model: ServiceModel, itl_s: float | None) -> float:
    """Time between two tokens of a well-filled engine: half its batch decodes, as far as the promise lets it."""
    batch = model.max_seqs / 2
    step_s = model.cmp_base_s + batch * (model.cmp_token_s * (1 + model.draft_tokens) + model.cmp_seq_s)
    step_s = max(step_s, model.mem_base_s) / model.accepted_per_step
    return step_s if itl_s is None else min(step_s, itl_s)
