"""How much of an engine a request takes at the very least, and so what serving a trace costs at the very least."""

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
    """GPU time that each request takes however well it is batched: a lower bound of their sum, in seconds.

    A step takes ``max(mem, cmp) + attention + KV`` (docs/simulator.md). All but the constant part of `mem` or `cmp` is
    added up request by request. The constant part is shared by those in the step: by no more than `max_seqs` requests,
    `max_step_tokens` tokens and `kv_blocks` full of KV cache, so that a request's part of it is at least its share of
    any of the three. Each of the two rooflines with each of the three shares bounds the sum; the largest sum is given.
    """
    m = integers(model)
    prompt, output = trace.prompt_tokens.astype(np.float64), trace.output_tokens.astype(np.float64)
    cached = np.zeros(len(trace)) if trace.cached_tokens is None else trace.cached_tokens.astype(np.float64)
    most = math.ceil(model.accepted_per_step)
    decodes = (output - 1) / most  # steps; the first token is sampled by the prompt's last one
    tokens = prompt - cached + decodes * (1 + m.draft)
    held = decodes * prompt + most * decodes * np.maximum(decodes - 1, 0.0) / 2
    shares = ((1 + decodes) / m.max_seqs, tokens / m.max_tokens, held / (m.kv_blocks * m.block))
    sides = ((m.mem_base, m.mem_token, 0), (m.cmp_base, m.cmp_token, m.cmp_seq))
    rest = (m.attn / (FS_PER_S // PS_PER_S)) * (prompt**2 - cached**2) + min(m.kv_decode, m.kv_mixed) * held
    found = [base * share + token * tokens + seq * (1 + decodes) for base, token, seq in sides for share in shares]
    return np.asarray((max(found, key=lambda one: float(one.sum())) + rest) / PS_PER_S)


def bound_usd(case: Case, seed: int, trace: RequestTrace, end_s: float) -> float:
    """What the run costs at the very least if the promised share of its requests is kept its promise until `end_s`.

    Only the cheapest requests of that share are served, each where it is cheapest, on replicas that are always full,
    start in no time and stop at once. Reserved nodes are paid to the end, and carry what they can. Time that a cloud
    does not charge for because it took the node early is taken to be had in full, wherever a node can be taken.
    """
    s = case.scenario
    delay_s = s.queue.delay_s if s.queue is not None else 0.0
    counted = trace.between(max(0.0, s.warm_up_s - delay_s), end_s - delay_s)
    served = math.ceil(s.slo.share * len(counted) - 1e-9)
    reserved = sum(_reserved_usd(offer, end_s) for offer in s.pools.values())
    works = {name: work_s(case.models[offer.model], counted) for name, offer in s.pools.items()}
    bought = [_usd_per_s(offer) * works[name] for name, offer in s.pools.items() if offer.market != "reserved"]
    if not bought:
        return reserved
    cost = np.min(bought, axis=0)
    least = float(np.sort(cost)[:served].sum())
    for name, offer in s.pools.items():
        least -= _saved_usd(cost, works[name], _free_s(case, name, offer, seed, end_s))
    return reserved + max(0.0, least)


def least_price_usd_per_hour(offer: PoolOffer) -> float:
    """Return a node's price where it is cheapest."""
    return min(offer.price(zone) or 0.0 for zone in offer.zones)


def _usd_per_s(offer: PoolOffer) -> float:
    """Return the same by the second; 0 where any node may turn out to be free."""
    lost = any(zone.losses_per_node_hour for zone in offer.zones.values())
    if offer.market == "spot" and lost and offer.rule.free_if_interrupted_within_s:
        return 0.0
    return least_price_usd_per_hour(offer) / HOUR_S


def _reserved_usd(offer: PoolOffer, end_s: float) -> float:
    if offer.market != "reserved":
        return 0.0
    return sum((zone.capacity or 0) * (offer.price(name) or 0.0) for name, zone in offer.zones.items()) * end_s / HOUR_S


def _free_s(case: Case, name: str, offer: PoolOffer, seed: int, end_s: float) -> float:
    """Replica-seconds of a pool that nobody pays for as they are used: reserved ones, and spot ones taken early."""
    if offer.market == "reserved":
        return sum(zone.capacity or 0 for zone in offer.zones.values()) * end_s
    if offer.market != "spot":
        return 0.0
    fallen = 0
    for zone_name, zone in offer.zones.items():
        before = 0
        for at_ps, nodes in zone.supply(seed, f"{name}/{zone_name}", case.folder):
            if at_ps > end_s * PS_PER_S:
                break
            fallen += max(0, before - (before if nodes is None else nodes))
            before = before if nodes is None else nodes
    return fallen * min(offer.rule.free_if_interrupted_within_s, end_s)


def _saved_usd(cost: Floats, work: Floats, free_s: float) -> float:
    """The most that free time saves: the requests dearest by its second first, the last one in part (Dantzig 1957)."""
    if free_s <= 0:
        return 0.0
    order = np.argsort(-(cost / work), kind="stable")
    filled = np.minimum(np.cumsum(work[order]), free_s)
    taken = np.diff(filled, prepend=0.0)
    return float((taken / work[order] * cost[order]).sum())
