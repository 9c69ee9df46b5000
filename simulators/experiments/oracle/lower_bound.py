"""Lower bounds: the minimum engine time of a request, and the minimum cost of a trace."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from simulators.engine.models.integers import integers
from simulators.engine.models.service import FS_PER_S, PS_PER_S, ServiceModel
from simulators.experiments.scenario import Case
from simulators.world.infrastructure.market import PoolOffer
from simulators.world.traffic.trace import Floats, RequestTrace

HOUR_S: Final = 3600.0


def work_s(model: ServiceModel, trace: RequestTrace) -> Floats:
    """Return the minimum GPU time of each request, whatever its batch.

    The sum is a lower bound. Seconds.

    A step takes ``max(mem, cmp) + attention + KV`` (docs/explanation/simulator.md). All but the constant part of `mem`
    or `cmp` is added request by request. At most `max_seqs` requests, `max_step_tokens` tokens and `kv_blocks` of KV
    cache share the constant part, so a request carries at least its share of each of the three. Each roofline with each
    share bounds the sum; the largest sum is returned. With `llama-3.1-8b-h100-vllm`, 1,000 prompt and 200 output tokens
    take at least 0.041 s.
    """
    m = integers(model)
    prompt, output = trace.prompt_tokens.astype(np.float64), trace.output_tokens.astype(np.float64)
    cached = np.zeros(len(trace)) if trace.cached_tokens is None else trace.cached_tokens.astype(np.float64)
    tokens_per_step = math.ceil(model.accepted_per_step)
    decodes = (output - 1) / tokens_per_step  # steps; the first token is sampled by the prompt's last one
    tokens = prompt - cached + decodes * (1 + m.draft)
    kv_reads = decodes * prompt + tokens_per_step * decodes * np.maximum(decodes - 1, 0.0) / 2
    shares = ((1 + decodes) / m.max_seqs, tokens / m.max_tokens, kv_reads / (m.kv_blocks * m.block))
    rooflines = ((m.mem_base, m.mem_token, 0), (m.cmp_base, m.cmp_token, m.cmp_seq))
    shared_free = (m.attn / (FS_PER_S // PS_PER_S)) * (prompt**2 - cached**2) + min(m.kv_decode, m.kv_mixed) * kv_reads
    bounds = [
        base * share + per_token * tokens + per_seq * (1 + decodes)
        for base, per_token, per_seq in rooflines
        for share in shares
    ]
    return np.asarray((max(bounds, key=lambda bound: float(bound.sum())) + shared_free) / PS_PER_S)


def bound_usd(case: Case, seed: int, trace: RequestTrace, end_s: float) -> float:
    """Return a lower bound of the cost of a run that meets the SLO. USD.

    The run meets it for the SLO's share of requests until `end_s`. The bound serves only the cheapest requests of that
    share, each in its cheapest pool, on replicas that are always full and start and stop instantly. Reserved nodes are
    paid to the end and carry what they can. All time that a cloud may not charge because of an early interruption
    counts as free.
    """
    s = case.scenario
    delay_s = s.queue.delay_s if s.queue is not None else 0.0
    counted = trace.between(max(0.0, s.warm_up_s - delay_s), end_s - delay_s)
    served = math.ceil(case.target.share * len(counted) - 1e-9)
    reserved = sum(_reserved_usd(offer, end_s) for offer in s.pools.values())
    work_by_pool = {name: work_s(case.models[offer.model], counted) for name, offer in s.pools.items()}
    paid = [_usd_per_s(offer) * work_by_pool[name] for name, offer in s.pools.items() if offer.market != "reserved"]
    if not paid:
        return reserved
    cost = np.min(paid, axis=0)
    bound = float(np.sort(cost)[:served].sum())
    for name, offer in s.pools.items():
        bound -= _saved_usd(cost, work_by_pool[name], _free_s(case, name, offer, seed, end_s))
    return reserved + max(0.0, bound)


def min_price_usd_per_hour(offer: PoolOffer) -> float:
    """Return a node's price in its cheapest zone. USD per hour."""
    return min(offer.price(zone) or 0.0 for zone in offer.zones)


def _usd_per_s(offer: PoolOffer) -> float:
    """Return a node's minimum price; 0 where any node may be free of charge. USD per second."""
    interrupted = any(zone.losses_per_node_hour for zone in offer.zones.values())
    if offer.market == "spot" and interrupted and offer.rule.free_if_interrupted_within_s:
        return 0.0
    return min_price_usd_per_hour(offer) / HOUR_S


def _reserved_usd(offer: PoolOffer, end_s: float) -> float:
    if offer.market != "reserved":
        return 0.0
    return sum((zone.capacity or 0) * (offer.price(name) or 0.0) for name, zone in offer.zones.items()) * end_s / HOUR_S


def _free_s(case: Case, name: str, offer: PoolOffer, seed: int, end_s: float) -> float:
    """Return a pool's replica-seconds without a charge by use.

    They are those of reserved nodes and of early-interrupted spot nodes.
    """
    if offer.market == "reserved":
        return sum(zone.capacity or 0 for zone in offer.zones.values()) * end_s
    if offer.market != "spot":
        return 0.0
    interrupted = 0
    for zone_name, zone in offer.zones.items():
        nodes_before = 0
        for time_ps, nodes in zone.supply(seed, f"{name}/{zone_name}", case.folder):
            if time_ps > end_s * PS_PER_S:
                break
            interrupted += max(0, nodes_before - (nodes_before if nodes is None else nodes))
            nodes_before = nodes_before if nodes is None else nodes
    return interrupted * min(offer.rule.free_if_interrupted_within_s, end_s)


def _saved_usd(cost: Floats, work: Floats, free_s: float) -> float:
    """Return the maximum that `free_s` of free time saves. USD.

    Requests are taken by cost per second, the last one in part (Dantzig 1957). Requests of 6, 1 and 2 USD with 2, 1 and
    4 s of work cost 3, 1 and 0.5 USD per second: 3 free seconds save 6 + 1 = 7 USD.
    """
    if free_s <= 0:
        return 0.0
    order = np.argsort(-(cost / work), kind="stable")
    filled = np.minimum(np.cumsum(work[order]), free_s)
    freed = np.diff(filled, prepend=0.0)
    return float((freed / work[order] * cost[order]).sum())
