"""Small scenarios for tests: engines whose every step takes 10 ms, and pools whose replicas start in 35 s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from policies.model import PoolName
from scaler.config.load import Workload, workload_from
from simulators.engine.kernel.event_loop import Router
from simulators.engine.models.service import ServiceModel
from simulators.experiments.scenario import Case, Scenario
from simulators.world.infrastructure.market import PoolOffer
from simulators.world.infrastructure.node_lifecycle import Phase, StartUp
from simulators.world.queue import SimulatedQueue
from simulators.world.telemetry import Telemetry
from simulators.world.traffic.generate import TraceFile
from simulators.world.traffic.trace import RequestTrace
from simulators.world.world import World

POOL = PoolName("gpus")
STEADY = ServiceModel(
    name="steady",
    mem_base_s=0.01,
    cmp_base_s=0.0,
    cmp_token_s=0.0,
    kv_decode_s=0.0,
    kv_mixed_s=0.0,
    attn_pair_s=0.0,
    kv_tokens=16_000,
    max_seqs=4,
    max_step_tokens=512,
)
"""Every step takes 10 ms, whatever is in it: a request of n output tokens alone takes n steps."""
START_UP = StartUp(
    node=Phase(median_s=20),
    image=Phase(median_s=5),
    weights=Phase(median_s=5),
    compile=Phase(median_s=3),
    ready=Phase(median_s=2),
)
"""35 s without chance."""


def trace(*rows: tuple[float, int, int]) -> RequestTrace:
    """Requests as (arrival, prompt tokens, output tokens)."""
    arrival, prompt, output = zip(*rows, strict=True)
    return RequestTrace(
        np.array(arrival, np.float64), np.array(prompt, np.int32), np.array(output, np.int32), name="told"
    )


def offer(**given: Any) -> PoolOffer:
    """An offer at 3.60 USD an hour: 1,000 micro-dollars a second."""
    return PoolOffer(**{"model": "steady", "price_usd_per_hour": 3.6, "start_up": START_UP, **given})


def world(requests: RequestTrace, replicas: int = 1, **given: Any) -> World:
    """A world of one pool, begun with so many replicas."""
    queue: SimulatedQueue | None = given.pop("queue", None)
    limit = STEADY.max_seqs if queue is not None else None
    made = World(
        models={"steady": given.pop("model", STEADY)},
        pools={POOL: given.pop("pool", offer())},
        initial_replicas={POOL: replicas},
        router=given.pop("router", Router(limit=limit)),
        queue=queue,
        telemetry=given.pop("telemetry", Telemetry()),
        seed=given.pop("seed", 1),
        epoch_s=given.pop("epoch_s", 1000.0),
        slots=len(requests),
    )
    assert not given
    made.offer(requests)
    return made


def workload(
    source: str = "prometheus", policies: Mapping[str, Any] | None = None, pools: Sequence[str] = (POOL,), **given: Any
) -> Workload:
    """A workload that reads the engines, or a queue, and by default wants two requests a replica."""
    return workload_from(document(source, policies, pools, **given))


def document(
    source: str = "prometheus", policies: Mapping[str, Any] | None = None, pools: Sequence[str] = (POOL,), **given: Any
) -> dict[str, Any]:
    """That workload as its file says it."""
    sources: dict[str, Any] = {
        "prometheus": {"kind": "prometheus", "url": "http://localhost:9090", "preset": "vllm"},
        "sqs": {"kind": "sqs", "queue_url": "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs"},
    }
    wants: dict[str, Any] = {
        "prometheus": {"kind": "concurrency", "target_per_replica": 2},
        "sqs": {"kind": "queue_depth", "target_per_replica": 4},
    }
    return {
        "workload": "told",
        "max_replicas": 4,
        "interval_s": 15,
        "sources": {"watch": sources[source]},
        "policies": {"want": wants[source]} if policies is None else dict(policies),
        "pools": {name: {"kind": "kubernetes", "name": name, "namespace": "llm"} for name in pools},
        **given,
    }


def case(scaled: Workload | None = None, pools: Mapping[str, PoolOffer] | None = None, **given: Any) -> Case:
    """A scenario of one pool under `scaled`, by hand; its traffic is given to the run."""
    offers = {PoolName(name): o for name, o in (pools or {POOL: offer()}).items()}
    scenario = Scenario(
        scenario="told",
        workload="",
        pools=offers,
        traffic=given.pop("traffic", TraceFile(file="told.csv", end_s=1.0)),
        **given,
    )
    names = {name: name for name in offers}
    return Case(scenario, scaled or workload(), {"steady": STEADY}, names, Path())
