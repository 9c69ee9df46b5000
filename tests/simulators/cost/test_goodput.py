"""Goodput of a replica against queueing theory, and invariants of any model."""

from __future__ import annotations

import math

import numpy as np
import pytest

from policies.model.spec import Slo
from simulators.cost.goodput import batched, bound_rps, goodput, sample, saturated_rps, with_hit_share
from simulators.engine.models import catalogue
from simulators.engine.models.service import ServiceModel
from simulators.world.traffic.trace import RequestTrace

SERVICE_S = 0.1
ONE_BY_ONE = ServiceModel(
    name="one-by-one", mem_base_s=0.0, cmp_base_s=SERVICE_S, cmp_token_s=0.0, kv_decode_s=0.0, kv_mixed_s=0.0,
    attn_pair_s=0.0, kv_tokens=100_000, max_seqs=1,
)  # fmt: skip
"""A server of one request at a time: each request is a prompt of one step with one output token."""
H100 = catalogue.load("llama-3.1-8b-h100-vllm")
CHAT = Slo(ttft_s=1.0, itl_s=0.05, share=0.99)


def trace(prompt: int, output: int, count: int = 500) -> RequestTrace:
    tokens = np.full(count, prompt, np.int32), np.full(count, output, np.int32)
    return RequestTrace(np.arange(count, dtype=np.float64), *tokens)


def chat() -> RequestTrace:
    rng = np.random.default_rng(7)
    prompts, outputs = (np.maximum(rng.lognormal(np.log(m), 0.7, 4000), 2).astype(np.int32) for m in (700, 150))
    return RequestTrace(np.arange(4000.0), prompts, outputs)


def within_m_d_1(rate: float, limit_s: float) -> float:
    """Return the share of an M/D/1 queue's requests served within a limit (Erlang's formula for the waiting time)."""
    wait_s, rho = limit_s - SERVICE_S, rate * SERVICE_S
    terms = (
        (rate * (k * SERVICE_S - wait_s)) ** k / math.factorial(k) * math.exp(-rate * (k * SERVICE_S - wait_s))
        for k in range(int(wait_s / SERVICE_S) + 1)
    )
    return (1 - rho) * sum(terms)


@pytest.mark.parametrize("share", [0.8, 0.95])
def test_goodput_without_batching_matches_m_d_1_queueing_theory(share: float) -> None:
    result = goodput(ONE_BY_ONE, sample(trace(1, 1), 3), Slo(ttft_s=0.35, itl_s=None, share=share), 3)
    rates = np.linspace(0.1, 9.9, 981)
    theory = max(r for r in rates if within_m_d_1(float(r), 0.35) >= share)
    assert result.rps == pytest.approx(theory, rel=0.05)
    assert result.bound_rps == pytest.approx(1 / SERVICE_S)


def test_goodput_is_zero_when_a_single_request_violates_the_slo() -> None:
    assert goodput(ONE_BY_ONE, sample(trace(1, 1), 3), Slo(ttft_s=0.09, itl_s=None, share=0.9), 3).rps == 0.0


def test_saturated_rate_is_the_inverse_of_the_service_time() -> None:
    assert saturated_rps(ONE_BY_ONE, sample(trace(1, 1), 3)) == pytest.approx(1 / SERVICE_S, rel=0.01)


def test_a_tighter_slo_lowers_goodput() -> None:
    requests = sample(chat(), 1)
    tight, loose = (goodput(H100, requests, Slo(ttft_s=ttft_s, itl_s=itl_s, share=0.99), 1).rps
                    for ttft_s, itl_s in ((0.3, 0.02), (2.0, 0.1)))  # fmt: skip
    assert 0 < tight < loose <= bound_rps(H100, requests)


def test_larger_batches_and_prefix_cache_hits_raise_throughput() -> None:
    requests = sample(chat(), 1)
    by_batch = [saturated_rps(batched(H100, n), requests) for n in (1, 8, 64)]
    assert by_batch == sorted(by_batch)
    assert by_batch[1] > 4 * by_batch[0]
    by_hits = [goodput(H100, sample(with_hit_share(chat(), share), 1), CHAT, 1).rps for share in (0.0, 0.5)]
    assert by_hits[1] > 1.05 * by_hits[0]


def test_sample_keeps_the_request_statistics_and_is_reproducible_per_seed() -> None:
    first, repeated, other_seed = sample(chat(), 1), sample(chat(), 1), sample(chat(), 2)
    assert first.digest() == repeated.digest() != other_seed.digest()
    assert first.prompt_tokens.mean() == pytest.approx(chat().prompt_tokens.mean(), rel=0.03)
    assert np.diff(first.arrival_s).mean() == pytest.approx(1.0, rel=0.03)
