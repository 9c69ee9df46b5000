"""Cases with an exact closed form: a single request, a full batch, and comparisons between two worlds."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from simulators.engine.kernel import layout
from simulators.engine.kernel.event_loop import Kernel, Router
from simulators.engine.models.service import PS_PER_S, ServiceModel
from tests.simulators.engine.kernel.chats import ROOFLINE, chat
from tests.simulators.engine.kernel.queues import (
    MEAN_STEPS,
    STEP_PS,
    Ints,
    column,
    engine,
    new_rng,
    poisson,
    sizes,
    world,
)
from tests.simulators.engine.kernel.worlds import VLLM

ROOT = Path(__file__).resolve().parents[4]


def step_s(m: ServiceModel, tokens: int, sampled: int, held: int = 0, chunk: int = 0, before: int = 0) -> float:
    """Return a step's time: decoding reads `held` tokens, and a prompt's `chunk` follows `before` cached tokens."""
    memory = m.mem_base_s + m.mem_token_s * tokens
    computing = m.cmp_base_s + m.cmp_token_s * tokens + m.cmp_seq_s * sampled
    kv = m.kv_mixed_s if chunk else m.kv_decode_s
    return max(memory, computing) + m.attn_pair_s * chunk * (before + chunk / 2) + kv * held


@pytest.mark.parametrize(
    ("prompt", "output"), [(1, 1), (1, 500), (2048, 1), (2049, 2), (5000, 77), (12_288, 1000)], ids=str
)
def test_a_single_request_takes_the_sum_of_its_step_times(prompt: int, output: int) -> None:
    m, k = ROOFLINE, Kernel([ROOFLINE], Router(), 0, 1)
    k.start(k.add(0, 0))
    k.offer(np.array([7 * PS_PER_S]), np.array([prompt], np.int32), np.array([output], np.int32))
    k.advance(layout.NEVER)
    whole, last = divmod(prompt - 1, m.max_step_tokens)
    ttft_s = m.ingest_s
    for chunk in range(whole):
        ttft_s += step_s(m, m.max_step_tokens, 0, 0, m.max_step_tokens, chunk * m.max_step_tokens)
    ttft_s += step_s(m, last + 1, 1, 0, last + 1, whole * m.max_step_tokens)
    n = output - 1
    decoding_s = n * step_s(m, 1, 1) + m.kv_decode_s * (n * prompt + n * (n - 1) / 2)
    assert (k.times[0, layout.FIRST] / PS_PER_S - 7) == pytest.approx(ttft_s, rel=1e-12, abs=1e-12)
    assert (k.times[0, layout.FINISH] - k.times[0, layout.FIRST]) / PS_PER_S == pytest.approx(
        decoding_s, rel=1e-12, abs=1e-12
    )


@pytest.mark.parametrize("seqs", [1, 8, 128])
def test_a_full_batch_produces_its_size_in_tokens_per_step(seqs: int) -> None:
    m = replace(ROOFLINE, max_seqs=seqs, kv_decode_s=0.0, kv_mixed_s=0.0, attn_pair_s=0.0)
    n = 40 * seqs
    k = world(m, np.zeros(n, np.int64), sizes(new_rng(1), "geometric", n))
    tokens = []
    for second in (20, 80):
        k.advance(second * PS_PER_S)
        assert k.read().rows[0, layout.RUNNING] == seqs
        tokens.append(int(k.read().rows[0, layout.TOKENS_OUT]))
    assert (tokens[1] - tokens[0]) / 60 == pytest.approx(seqs / step_s(m, seqs, seqs), rel=0.01)


def service_starts(seed: int, servers: int, *, step_share: float = 1.0, start_step: int = 0) -> Ints:
    """Return when each of the same customers is first served. All servers but one start at `start_step`."""
    rng, n = new_rng(seed), 100_000
    arrival, size = poisson(rng, n, 8 / MEAN_STEPS), sizes(rng, "two_point", n)
    k = world(engine(cmp_base_s=step_share * STEP_PS / PS_PER_S), arrival, size, limit=1)
    k.advance(start_step * STEP_PS)
    for _ in range(servers - 1):
        k.start(k.add(0, 0))
    k.advance(layout.NEVER)
    return column(k, layout.ADMIT)


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        ({"servers": 9}, {"servers": 10}),
        ({"servers": 9}, {"servers": 9, "step_share": 0.95}),
        ({"servers": 9, "start_step": 300_000}, {"servers": 9, "start_step": 200_000}),
    ],
    ids=["another server", "faster servers", "a sooner start"],
)
def test_more_capacity_delays_no_customer_under_first_come_first_served(
    worse: dict[str, Any], better: dict[str, Any]
) -> None:
    late, early = service_starts(1, **worse), service_starts(1, **better)
    assert (early <= late).all()
    assert (early < late).mean() > 0.1


@pytest.mark.parametrize("change", [{"replicas": 5}, {"speed": 0.9}], ids=["another replica", "a faster GPU"])
def test_more_capacity_delays_few_requests_of_batching_engines(change: dict[str, Any]) -> None:
    base: dict[str, Any] = {"replicas": 4, "speed": 1.0}
    worse, better = first_tokens(**base), first_tokens(**base | change)
    later_s = better - worse
    # some requests may be served later: more capacity changes the composition of their batches
    assert 0 < (later_s > 0).mean() < 0.4
    assert (later_s > 0.05).mean() < 0.1
    assert later_s.max() < 1.0
    assert better.mean() < 0.85 * worse.mean()
    assert np.quantile(better, 0.99) < 0.85 * np.quantile(worse, 0.99)


def first_tokens(replicas: int, speed: float) -> NDArray[np.float64]:
    """Return TTFTs, in seconds, of chat traffic near the limit of 4 replicas. GPU times are scaled by `speed`."""
    gpu = ("mem_base_s", "mem_token_s", "cmp_base_s", "cmp_token_s", "cmp_seq_s", "kv_decode_s", "kv_mixed_s")
    faster: dict[str, Any] = {name: speed * getattr(VLLM, name) for name in gpu}
    m = replace(VLLM, **faster)
    k = chat(m, 20_000, 70.0, replicas)
    return (column(k, layout.FIRST) - column(k, layout.ARRIVAL)) / PS_PER_S


def digest() -> str:
    """Return a digest of all numbers that a run of the full model produces."""
    k = chat(VLLM, 5_000, 24.0, 4)
    return hashlib.sha256(
        k.times.tobytes() + k.counts.tobytes() + k.read().rows.tobytes() + k.gaps.tobytes()
    ).hexdigest()


@pytest.mark.slow
def test_a_run_is_equal_in_every_process_whatever_the_hash_seed() -> None:
    order = "from tests.simulators.engine.kernel.test_theory_limits import digest; print(digest())"
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", order],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("0", "1")
    ]
    digests = [worker.communicate()[0].strip() for worker in workers]
    assert digests == [digest(), digest()]
