"""Small scenarios for tests: every engine step takes 10 ms, and every replica starts in 35 s."""

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
from tests.factories import CHAT_SLO

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
"""Every step takes 10 ms regardless of its content: a single request of n output tokens takes n steps."""
START_UP = StartUp(
    node=Phase(median_s=20),
    image=Phase(median_s=5),
    weights=Phase(median_s=5),
    compile=Phase(median_s=3),
    ready=Phase(median_s=2),
)
"""35 s, without randomness."""


def trace(*rows: tuple[float, int, int]) -> RequestTrace:
    """Return a trace of requests given as (arrival, prompt tokens, output tokens)."""
    arrival, prompt, output = zip(*rows, strict=True)
    return RequestTrace(
        np.array(arrival, np.float64), np.array(prompt, np.int32), np.array(output, np.int32), name="told"
    )


def offer(**settings: Any) -> PoolOffer:
    """Return an offer at 3.60 USD per hour: 1,000 micro-dollars per second."""
    return PoolOffer(**{"model": "steady", "price_usd_per_hour": 3.6, "start_up": START_UP, **settings})


def world(requests: RequestTrace, replicas: int = 1, **settings: Any) -> World:
    """Return a world of one pool with initial replicas, or of `pools` with as many each.

    One with `slots` is the member of a group, all of whose requests fit into them.
    """
    given = frozenset(settings)
    pools = {PoolName(name): o for name, o in settings.pop("pools", {POOL: settings.pop("pool", offer())}).items()}
    queue: SimulatedQueue | None = settings.pop("queue", None)
    limit = STEADY.max_seqs if queue is not None else None
    created = World(
        models={"steady": settings.pop("model", STEADY)},
        pools=pools,
        initial_replicas=dict.fromkeys(pools, replicas),
        router=settings.pop("router", Router(limit=limit)),
        queue=queue,
        telemetry=settings.pop("telemetry", Telemetry()),
        seed=settings.pop("seed", 1),
        epoch_s=settings.pop("epoch_s", 1000.0),
        slots=settings.pop("slots", len(requests)),
        is_member="slots" in given,
        backends=settings.pop("backends", None),
        round_trip_s=settings.pop("round_trip_s", {}),
    )
    assert not settings
    created.offer(requests)
    return created


def workload(
    source: str = "prometheus",
    policies: Mapping[str, Any] | None = None,
    pools: Sequence[str] = (POOL,),
    **settings: Any,
) -> Workload:
    """Return a workload that reads the engines or a queue. The default target is two requests per replica."""
    return workload_from(document(source, policies, pools, **settings))


def document(
    source: str = "prometheus",
    policies: Mapping[str, Any] | None = None,
    pools: Sequence[str] = (POOL,),
    **settings: Any,
) -> dict[str, Any]:
    """Return the document of the workload."""
    sources: dict[str, Any] = {
        "prometheus": {"kind": "prometheus", "url": "http://localhost:9090", "preset": "vllm"},
        "sqs": {"kind": "sqs", "queue_url": "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs"},
    }
    default_policies: dict[str, Any] = {
        "prometheus": {"kind": "concurrency", "target_per_replica": 2},
        "sqs": {"kind": "queue_depth", "target_per_replica": 4},
    }
    return {
        "workload": "told",
        "max_replicas": 4,
        "interval_s": 15,
        "sources": {"watch": sources[source]},
        "policies": {"want": default_policies[source]} if policies is None else dict(policies),
        "pools": {name: {"kind": "kubernetes", "name": name, "namespace": "llm"} for name in pools},
        **settings,
    }


def case(scaled: Workload | None = None, pools: Mapping[str, PoolOffer] | None = None, **settings: Any) -> Case:
    """Return a scenario of one pool with the workload `scaled`. The run gets its traffic separately."""
    offers = {PoolName(name): o for name, o in (pools or {POOL: offer()}).items()}
    scenario = Scenario(
        scenario="told",
        workload="",
        pools=offers,
        traffic=settings.pop("traffic", TraceFile(file="told.csv", end_s=1.0)),
        slo=settings.pop("slo", CHAT_SLO),
        **settings,
    )
    names = {name: name for name in offers}
    return Case(scenario, scaled or workload(), {"steady": STEADY}, names, Path())
