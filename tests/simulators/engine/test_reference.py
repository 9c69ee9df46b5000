"""The step-by-step engine against cases worked by hand. Every step takes 100 ps, so results are easy to check."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.engine.models.integers import NOISE_ONE, Integers, noise_table
from tests.laws import law
from tests.simulators.engine.reference import (
    ReplicaPlan,
    Requests,
    Results,
    State,
    host_time,
    simulate,
    splitmix64,
    step_time,
)

STEP = 100


def engine(**changes: int) -> Integers:
    """Return a synchronous engine whose steps take 100 ps, with 8 tokens a step and blocks of 4."""
    plain = dict.fromkeys(Integers._fields, 0) | {
        "max_seqs": 4, "max_tokens": 8, "kv_blocks": 100, "block": 4, "mem_base": STEP,
    }  # fmt: skip
    return Integers(**{**plain, "noise": noise_table(0.0), **changes})  # type: ignore[arg-type]


def requests(*rows: tuple[int, ...]) -> Requests:
    """Return requests from rows of arrival, prompt, output and optionally cached tokens and stride."""
    full = [(*row, *(0, 1)[len(row) - 3 :]) for row in rows]
    return Requests(*map(list, zip(*full, strict=True)))


def simulate_one_replica(i: Integers, *rows: tuple[int, ...], patience_ps: int | None = None) -> Results:
    return simulate([i], [ReplicaPlan()], requests(*rows), patience_ps=patience_ps)


def test_a_single_request_takes_one_step_per_chunk_and_per_token() -> None:
    out = simulate_one_replica(engine(ingest=3, front_base=7, front_seq=2), (1000, 20, 5))
    assert out.admit == [1003]
    assert out.first == [1003 + 3 * STEP + 9]
    assert out.finish == [1003 + 7 * STEP + 9]


def test_cached_prompt_tokens_are_not_computed() -> None:
    assert simulate_one_replica(engine(), (0, 20, 1, 12)).first == [STEP]


def test_accepted_draft_tokens_shorten_decoding() -> None:
    assert simulate_one_replica(engine(draft=3), (0, 8, 9, 0, 2)).finish == [5 * STEP]


def test_a_full_engine_serves_in_batches_of_max_seqs() -> None:
    out = simulate_one_replica(engine(max_seqs=2, ingest=1), *[(0, 4, 10)] * 6)
    assert out.finish == [1001, 1001, 2001, 2001, 3001, 3001]


def test_an_idle_engine_starts_with_the_first_of_two_simultaneous_requests() -> None:
    assert simulate_one_replica(engine(), (0, 4, 2), (0, 4, 2)).finish == [200, 300]


def test_decoding_precedes_prefill_in_the_token_budget_of_a_step() -> None:
    out = simulate_one_replica(engine(), (0, 4, 9), (50, 15, 1))
    assert out.admit == [0, 100]
    assert out.first == [100, 100 + 3 * STEP], "7 + 7 + 1 tokens next to one decoding request"


@pytest.mark.parametrize(
    ("pipelined", "host", "first", "finish"),
    [
        pytest.param(0, 10, 100, 300, id="synchronous"),
        pytest.param(1, 10, 100, 300, id="pipelined, and the GPU is the slower: no difference"),
        pytest.param(0, 150, 150, 450, id="synchronous, and the host is the slower"),
        pytest.param(1, 150, 300, 450, id="pipelined: the first token is held back while the next step is launched"),
    ],
)
def test_host_and_gpu_overlap(pipelined: int, host: int, first: int, finish: int) -> None:
    i = engine(pipelined=pipelined, host_decode=host, host_graph=host, graph_tokens=64)
    out = simulate_one_replica(i, (0, 8, 3))
    assert (out.first, out.finish) == ([first], [finish])


def test_the_last_admitted_request_is_preempted_and_recomputed() -> None:
    out = simulate_one_replica(engine(kv_blocks=6, max_tokens=16, ingest=1), (0, 8, 8), (0, 8, 8))
    assert out.preemptions == 1
    assert out.first == [101, 101]
    assert out.finish == [801, 1101], "preempted with 5 tokens in step 6, admitted in step 9, which gives the sixth"


def test_a_request_that_never_fits_is_rejected() -> None:
    out = simulate_one_replica(engine(kv_blocks=6), (0, 20, 4), (0, 19, 4))
    assert out.state == [State.REJECTED, State.FINISHED]
    assert out.replica == [-1, 0]


def test_requests_beyond_their_patience_time_out_at_the_queue_head() -> None:
    out = simulate_one_replica(engine(max_seqs=1), (0, 8, 5), (0, 8, 1), (300, 8, 1), patience_ps=450)
    assert out.state == [State.FINISHED, State.TIMED_OUT, State.FINISHED]
    assert out.finish == [500, -1, 600]


def test_a_killed_replica_loses_its_requests() -> None:
    plans = [ReplicaPlan(kill_ps=250), ReplicaPlan(start_ps=400)]
    out = simulate([engine()], plans, requests((0, 8, 2), (0, 8, 9), (300, 8, 1)))
    assert out.state == [State.FINISHED, State.LOST, State.FINISHED]
    assert out.finish == [200, -1, 500], "the third waits centrally for the second replica"


def test_a_draining_replica_finishes_its_requests() -> None:
    plans = [ReplicaPlan(drain_ps=100), ReplicaPlan()]
    out = simulate([engine()], plans, requests((0, 8, 9), (100, 8, 1)))
    assert out.replica == [0, 1]
    assert out.finish == [900, 200]


@pytest.mark.parametrize(
    ("router", "replicas"),
    [
        ("least_loaded", [0, 1, 2, 0]),
        ("round_robin", [0, 1, 2, 0]),
        ("random", [splitmix64(5 + n) % 3 for n in range(4)]),
    ],
)
def test_routers_choose_by_their_rule(router: str, replicas: list[int]) -> None:
    rows = requests(*[(0, 8, 50)] * 4)
    assert simulate([engine()], [ReplicaPlan()] * 3, rows, router, seed=5).replica == replicas


def test_requests_wait_centrally_up_to_the_queue_limit() -> None:
    out = simulate([engine()], [ReplicaPlan()], requests(*[(0, 8, 1)] * 4), limit=1, queue_limit=2)
    assert out.state == [State.FINISHED] * 3 + [State.REJECTED]
    assert out.finish[:3] == [100, 200, 300]


@pytest.mark.parametrize(
    ("tokens", "padded"), [(1, 1), (2, 2), (3, 4), (5, 8), (8, 8), (9, 16), (64, 64), (65, 65), (71, 71)]
)
def test_small_steps_are_padded_to_the_cuda_graph_size(tokens: int, padded: int) -> None:
    i = engine(mem_base=0, mem_token=1, graph_tokens=64)
    assert step_time(i, tokens, 0, 0, 0, prefill=False) == padded


def test_step_time_is_the_slower_of_memory_and_compute_plus_attention() -> None:
    i = engine(mem_base=10, mem_token=1, cmp_base=2, cmp_token=3, cmp_seq=5, attn=2500, kv_decode=7, kv_mixed=11)
    assert step_time(i, 2, 1, 0, 4, prefill=False) == max(10 + 2, 2 + 6 + 5) + 7 * 4
    assert step_time(i, 100, 1, 3, 4, prefill=True) == max(10 + 100, 2 + 300 + 5) + 2500 * 3 // 1000 + 11 * 4


def test_host_noise_has_the_stated_mean_and_spread() -> None:
    i = engine(host_eager=10**9)._replace(noise=noise_table(0.25))
    times = [host_time(i, 1, 0, prefill=True, seed=n) for n in range(20_000)]
    assert np.mean(times) == pytest.approx(10**9, rel=0.006)
    assert np.std(np.log(times)) == pytest.approx(0.25, rel=0.02)


@pytest.mark.parametrize("sigma", [0.0, 1e-5, 0.25, 1.0, 2.0])
def test_the_noise_table_has_a_mean_of_exactly_one(sigma: float) -> None:
    assert noise_table(sigma).sum() == NOISE_ONE * len(noise_table(sigma))


def test_splitmix64_matches_the_published_sequence() -> None:
    seed, golden = 1234567, 0x9E3779B97F4A7C15
    first = [splitmix64(seed + n * golden) for n in range(3)]
    assert first == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@law(60)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 5000), st.integers(1, 40), st.integers(1, 20), st.just(0), st.integers(1, 3)),
        min_size=1,
        max_size=12,
    ),
    blocks=st.integers(16, 60),
    pipelined=st.integers(0, 1),
    host=st.integers(0, 300),
    replicas=st.integers(1, 3),
)
def test_every_request_finishes_in_order_and_frees_all_blocks(
    rows: list[tuple[int, ...]], blocks: int, pipelined: int, host: int, replicas: int
) -> None:
    i = engine(kv_blocks=blocks, pipelined=pipelined, host_eager=host, host_seq=3, ingest=5, front_base=2, kv_decode=1)
    offered = requests(*sorted(rows))
    out = simulate([i], [ReplicaPlan(key=n) for n in range(replicas)], offered)
    assert out.state == [State.FINISHED] * len(rows)
    times = zip(offered.arrival_ps, out.admit, out.first, out.finish, strict=True)
    assert all(arrival + 5 <= admit < first <= finish for arrival, admit, first, finish in times)
    assert [(c.running, c.waiting, c.used_blocks) for c in out.replicas] == [(0, 0, 0)] * replicas
    assert sum(c.tokens_out for c in out.replicas) == sum(offered.output)
