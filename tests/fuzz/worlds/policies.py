"""Random policies of every kind that the registry names, but for the peers. A new kind is a line in `POLICIES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from policies.recommend.predictive.engine_load import ENGINE_QUANTITIES
from policies.signals.latency_quantities import QUANTITIES
from tests.fuzz.worlds.rng import Chance, rounded
from tests.fuzz.worlds.traffic import Load

ENGINES: Final = "engines"
QUEUE: Final = "queue"


@dataclass(frozen=True, slots=True)
class Wish:
    """A policy's document, the kind of source that it reads (None: none), and which quantities."""

    document: dict[str, Any]
    source: str | None = None
    quantities: tuple[str, ...] = ()


Maker = Callable[[Chance, Load, int], Wish]
"""Given the load and the replicas allowed."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind of policy is made up, and which worlds it fits: those with one of these sources."""

    make: Maker
    sources: frozenset[str] = frozenset({ENGINES, QUEUE})


TOTALS: Final = ("requests_per_s", "generation_tokens_per_s", "running", "waiting", "prompt_tokens_per_s",
                 "preemptions_per_s")  # fmt: skip
MEANS: Final = {
    "utilization": (0.2, 0.9),
    "kv_cache_usage": (0.02, 0.9),
    "itl_mean_s": (0.01, 0.1),
    "itl_p95_s": (0.01, 0.2),
    "queue_time_p95_s": (0.05, 5.0),
    "ttft_p95_s": (0.1, 5.0),
}
"""What the engines tell, those that always have a value first, and targets that make sense of means."""


def _per_replica(chance: Chance, total: float, most: int) -> float:
    """A target by which the peak needs from a fifth of the replicas allowed to three times as many."""
    return rounded(max(total / (most * chance.scale(0.2, 3.0)), 1e-3))


def _activation(chance: Chance) -> float:
    return chance.one((0.0, 0.0, 0.0, chance.scale(0.5, 20.0)))


def _concurrency(chance: Chance, load: Load, most: int) -> Wish:
    target = _per_replica(chance, load.peak("running"), most)
    return Wish({"target_per_replica": target, "activation": _activation(chance)}, ENGINES, ("running", "waiting"))


def _gpu_utilization(chance: Chance, _: Load, __: int) -> Wish:
    document = {"target": chance.share(0.2, 1.0), "activation": chance.share(0.0, 0.3)}
    return Wish(document, ENGINES, ("utilization",))


def _kv_cache_usage(chance: Chance, _: Load, __: int) -> Wish:
    document = {"target": chance.share(0.05, 1.0), "activation": chance.one((0.0, 0.1))}
    return Wish(document, ENGINES, ("kv_cache_usage",))


def _metric(chance: Chance, load: Load, most: int) -> Wish:
    if chance.happens(0.6):
        quantity = chance.one(TOTALS[: chance.one((2, 4, 6))])
        document = {"across": "total", "target": _per_replica(chance, load.peak(quantity), most)}
    else:
        quantity = chance.one(list(MEANS)[: chance.one((1, 2, 5))])
        document = {"across": "mean", "target": chance.scale(*MEANS[quantity])}
    return Wish({"quantity": quantity, **document, "activation": _activation(chance)}, ENGINES, (quantity,))


def _predictive(chance: Chance, load: Load, most: int) -> Wish:
    """What a replica may carry from far too little to far too much, as before anything is learnt."""
    document: dict[str, Any] = {
        f"{kind}_tokens_per_s": min(_per_replica(chance, load.peak(f"{kind}_tokens_per_s"), most), 1e6)
        for kind in ("prompt", "generation")
    }
    document |= {
        "utilization": chance.one((0.5, 1.0, 1.2)),
        "quantile": chance.one((None, 0.5, 0.95)),
        "slo_correction": chance.happens(0.7),
        "backlog_clear_s": chance.scale(15, 600),
    }
    latencies = chance.one(((), ("ttft_p95_s",), (*QUANTITIES, "kv_cache_usage")))
    return Wish(document, ENGINES, (*ENGINE_QUANTITIES, *latencies))


def _queue_depth(chance: Chance, load: Load, most: int) -> Wish:
    count = chance.some(("visible", "in_flight", "delayed"), 3)
    target = _per_replica(chance, load.peak("running") * chance.scale(1, 10), most)
    return Wish({"target_per_replica": target, "count": count, "activation": _activation(chance)}, QUEUE, tuple(count))


def _headroom(chance: Chance, _: Load, __: int) -> Wish:
    return Wish({"share": chance.share(0.0, 0.8)})


def _schedule(chance: Chance, _: Load, most: int) -> Wish:
    windows = [
        {
            "start": f"{chance.whole(0, 2):02d}:{chance.whole(0, 59):02d}",
            "end": f"{chance.whole(0, 23):02d}:{chance.whole(0, 59):02d}",
            "replicas": chance.whole(1, most + 2),
        }
        for _ in range(chance.whole(1, 3))
    ]
    return Wish({"windows": windows, "time_zone": chance.one(("UTC", "Europe/Berlin", "Asia/Kolkata"))})


POLICIES: Final[Mapping[str, Kind]] = {
    "concurrency": Kind(_concurrency, frozenset({ENGINES})),
    "gpu_utilization": Kind(_gpu_utilization, frozenset({ENGINES})),
    "headroom": Kind(_headroom),
    "kv_cache_usage": Kind(_kv_cache_usage, frozenset({ENGINES})),
    "metric": Kind(_metric, frozenset({ENGINES})),
    "predictive": Kind(_predictive, frozenset({ENGINES})),
    "queue_depth": Kind(_queue_depth, frozenset({QUEUE})),
    "schedule": Kind(_schedule),
}
"""Every kind of `policies.recommend.registry.POLICIES` that is not a peer."""
MEASURING: Final = tuple(kind for kind in POLICIES if kind not in {"headroom", "schedule"})


def wishes(chance: Chance, sources: frozenset[str], load: Load, most: int) -> dict[str, Wish]:
    """One to four policies by name, one of which at least measures."""
    fitting = [kind for kind, how in POLICIES.items() if how.sources & sources]
    kinds = [chance.one([kind for kind in fitting if kind in MEASURING])]
    kinds += [chance.one(fitting) for _ in range(chance.one((0, 0, 1, 1, 2, 3)))]
    found = {}
    for number, kind in enumerate(kinds):
        wish = POLICIES[kind].make(chance, load, most)
        found[f"{kind.replace('_', '-')}-{number}"] = Wish(
            {"kind": kind, **wish.document}, wish.source, wish.quantities
        )
    return found
