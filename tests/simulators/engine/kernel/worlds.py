"""Hypothesis strategies for small worlds, and their results from the kernel and from the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from simulators.engine.kernel import layout
from simulators.engine.kernel.event_loop import Kernel, Router
from simulators.engine.models.integers import integers
from simulators.engine.models.service import PS_PER_S, ServiceModel
from tests.simulators.engine import reference

VLLM = ServiceModel(
    name="vllm",
    mem_base_s=6.583e-3,
    mem_token_s=8.59e-6,
    cmp_base_s=1.095e-3,
    cmp_token_s=23.99e-6,
    cmp_seq_s=7.09e-6,
    kv_decode_s=44.9e-9,
    kv_mixed_s=39.8e-9,
    attn_pair_s=0.6e-9,
    host_decode_s=1.44e-3,
    host_graph_s=12e-3,
    host_eager_s=26.5e-3,
    host_eager_sigma=0.25,
    host_seq_s=9.8e-6,
    ingest_s=0.56e-3,
    front_base_s=0.29e-3,
    front_seq_s=5.3e-6,
    graph_tokens=256,
    pipelined=True,
    kv_tokens=450_632,
    max_seqs=128,
    max_step_tokens=2048,
)
"""Every term in use: the shape of the fitted H100 model."""
STATES = {
    layout.OPEN: reference.State.PENDING,
    layout.REJECTED: reference.State.REJECTED,
    layout.TIMED_OUT: reference.State.TIMED_OUT,
    layout.LOST: reference.State.LOST,
}


@dataclass(frozen=True)
class World:
    """One case: a model, replica plans, requests, a router, and the times at which the state is read."""

    model: ServiceModel
    plans: list[reference.ReplicaPlan]
    requests: reference.Requests
    router: Router
    seed: int
    reads_ps: list[int]


@st.composite
def models(draw: st.DrawFn) -> ServiceModel:
    seqs = draw(st.sampled_from([1, 2, 4, 16, 128]))
    draft = draw(st.sampled_from([0, 0, 2]))
    minimum = seqs * (1 + draft)
    change: dict[str, Any] = {
        "pipelined": draw(st.booleans()),
        "max_seqs": seqs,
        "draft_tokens": draft,
        "max_step_tokens": max(minimum, draw(st.sampled_from([minimum, minimum + 5, 512, 2048]))),
        "kv_tokens": draw(st.sampled_from([400, 800, 3000, 450_632])),
        "block_tokens": draw(st.sampled_from([1, 8, 16, 16, 64])),
    }
    if draw(st.booleans()):
        names = ["host_decode_s", "host_graph_s", "host_eager_s", "host_seq_s", "front_base_s", "front_seq_s"]
        change |= dict.fromkeys(names, 0.0) | {"graph_tokens": 0}
    if draw(st.booleans()):
        change["ingest_s"] = 0.0
    return ServiceModel(**{f: getattr(VLLM, f) for f in VLLM.__dataclass_fields__} | change)


@st.composite
def requests(draw: st.DrawFn, model: ServiceModel) -> reference.Requests:
    n = draw(st.integers(1, 40))
    mean_gap_ps = draw(st.sampled_from([PS_PER_S, PS_PER_S // 10, PS_PER_S // 100, PS_PER_S // 1000]))
    gaps = draw(st.lists(st.one_of(st.just(0), st.integers(0, 2 * mean_gap_ps)), min_size=n, max_size=n))
    prompt = st.one_of(st.sampled_from([1, 15, 16, 17, 100, 600]), st.integers(1, model.kv_tokens // 3))
    prompts = draw(st.lists(prompt, min_size=n, max_size=n))
    output = st.one_of(st.sampled_from([1, 2, 3, 17]), st.integers(1, 200))
    outputs = draw(st.lists(output, min_size=n, max_size=n))
    cached = [draw(st.sampled_from([0, 0, p - 1, p // 2])) for p in prompts]
    stride = st.integers(1, 3) if model.draft_tokens else st.just(1)
    strides = draw(st.lists(stride, min_size=n, max_size=n))
    return reference.Requests(np.cumsum(gaps).tolist(), prompts, outputs, cached, strides)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    model = draw(models())
    drawn = draw(requests(model))
    time_ps = st.integers(0, drawn.arrival_ps[-1] + PS_PER_S)
    router = Router(
        kind=draw(st.sampled_from(["least_loaded", "round_robin", "random"])),
        limit=draw(st.sampled_from([None, None, 1, 3, 20])),
        queue_limit=draw(st.sampled_from([None, None, 0, 5])),
        patience_s=draw(st.sampled_from([None, None, 0.05, 1.0])),
    )
    plans = []
    for _ in range(draw(st.sampled_from([1, 1, 2, 5]))):
        start = draw(st.one_of(st.just(0), time_ps))
        drain, kill = (draw(st.one_of(st.none(), time_ps)) for _ in range(2))
        key = draw(st.integers(0, 2**40))
        plans.append(
            reference.ReplicaPlan(
                0,
                key,
                start,
                None if drain is None else start + drain + 1,
                None if kill is None else start + kill + 1,
            )
        )
    return World(model, plans, drawn, router, draw(st.integers(0, 2**32)), sorted(draw(st.lists(time_ps, max_size=8))))


def by_kernel(world: World) -> Kernel:
    """Run a world to its end, and read the replicas at its `reads_ps`."""
    k = Kernel([world.model], world.router, world.seed, len(world.requests.arrival_ps))
    arrival, *counts = (np.array(column) for column in world.requests)
    k.offer(arrival, *(c.astype(np.int32) for c in counts))
    events = [(t, 3, -1) for t in world.reads_ps]
    for plan in world.plans:
        replica = k.add(plan.model, plan.key)
        actions = [(plan.kill_ps, 0), (plan.start_ps, 1), (plan.drain_ps, 2)]
        events += [(t, kind, replica) for t, kind in actions if t is not None]
    dead: set[int] = set()
    for t, kind, replica in sorted(events):
        k.advance(t)
        if kind == 0:
            k.kill(replica)
            dead.add(replica)
        elif kind == 3:
            k.read()
        elif replica not in dead:
            (k.start if kind == 1 else k.drain)(replica)
    k.advance(layout.NEVER)
    return k


def by_reference(world: World) -> reference.Results:
    patience_s = world.router.patience_s
    return reference.simulate(
        [integers(world.model)],
        world.plans,
        world.requests,
        world.router.kind,
        world.router.limit,
        world.router.queue_limit,
        None if patience_s is None else round(patience_s * PS_PER_S),
        world.seed,
    )


def outcome(k: Kernel) -> dict[str, list[int]]:
    """Return the kernel's times, replica and state of every request, in the form of the reference."""
    finish = k.times[:, layout.FINISH].tolist()
    return {
        "admit": k.times[:, layout.ADMIT].tolist(),
        "first": k.times[:, layout.FIRST].tolist(),
        "finish": [max(-1, f) for f in finish],
        "replica": k.counts[:, layout.REPLICA].tolist(),
        "state": [int(STATES.get(f, reference.State.FINISHED)) for f in finish],
    }


def expected(results: reference.Results) -> dict[str, list[int]]:
    return {
        "admit": results.admit,
        "first": results.first,
        "finish": results.finish,
        "replica": results.replica,
        "state": [int(s) for s in results.state],
    }
