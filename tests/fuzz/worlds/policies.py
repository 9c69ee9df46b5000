"""Random policies of every registered kind, without the peers. A new kind is a line in `POLICIES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from policies.recommend.predictive.engine_load import ENGINE_QUANTITIES
from policies.signals.latency_quantities import QUANTITIES
from tests.fuzz.worlds.rng import WorldRng, rounded
from tests.fuzz.worlds.traffic import Load

ENGINES: Final = "engines"
QUEUE: Final = "queue"


@dataclass(frozen=True, slots=True)
class Wish:
    """A policy's document, the kind of source that it reads (or None), and the quantities."""

    document: dict[str, Any]
    source: str | None = None
    quantities: tuple[str, ...] = ()


Maker = Callable[[WorldRng, Load, int], Wish]
"""Function of the load and of the maximum replicas."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Generator of a kind of policy, and the sources of which a world must have one."""

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
"""Engine quantities, those that always have a value first, and plausible targets of means."""


def _per_replica(rng: WorldRng, total: float, maximum: int) -> float:
    """Return a target by which the peak needs 0.2 to 3 times the maximum replicas."""
    return rounded(max(total / (maximum * rng.scale(0.2, 3.0)), 1e-3))


def _activation(rng: WorldRng) -> float:
    return rng.choice((0.0, 0.0, 0.0, rng.scale(0.5, 20.0)))


def _concurrency(rng: WorldRng, load: Load, maximum: int) -> Wish:
    target = _per_replica(rng, load.peak("running"), maximum)
    return Wish({"target_per_replica": target, "activation": _activation(rng)}, ENGINES, ("running", "waiting"))


def _gpu_utilization(rng: WorldRng, _: Load, __: int) -> Wish:
    document = {"target": rng.share(0.2, 1.0), "activation": rng.share(0.0, 0.3)}
    return Wish(document, ENGINES, ("utilization",))


def _kv_cache_usage(rng: WorldRng, _: Load, __: int) -> Wish:
    document = {"target": rng.share(0.05, 1.0), "activation": rng.choice((0.0, 0.1))}
    return Wish(document, ENGINES, ("kv_cache_usage",))


def _metric(rng: WorldRng, load: Load, maximum: int) -> Wish:
    if rng.happens(0.6):
        quantity = rng.choice(TOTALS[: rng.choice((2, 4, 6))])
        document = {"across": "total", "target": _per_replica(rng, load.peak(quantity), maximum)}
    else:
        quantity = rng.choice(list(MEANS)[: rng.choice((1, 2, 5))])
        document = {"across": "mean", "target": rng.scale(*MEANS[quantity])}
    return Wish({"quantity": quantity, **document, "activation": _activation(rng)}, ENGINES, (quantity,))


def _predictive(rng: WorldRng, load: Load, maximum: int) -> Wish:
    """Return a predictive policy with an initial capacity from far too low to far too high."""
    document: dict[str, Any] = {
        f"{kind}_tokens_per_s": min(_per_replica(rng, load.peak(f"{kind}_tokens_per_s"), maximum), 1e6)
        for kind in ("prompt", "generation")
    }
    document |= {
        "utilization": rng.choice((0.5, 1.0, 1.2)),
        "quantile": rng.choice((None, 0.5, 0.95)),
        "slo_correction": rng.happens(0.7),
        "backlog_clear_s": rng.scale(15, 600),
    }
    latencies = rng.choice(((), ("ttft_p95_s",), (*QUANTITIES, "kv_cache_usage")))
    return Wish(document, ENGINES, (*ENGINE_QUANTITIES, *latencies))


def _queue_depth(rng: WorldRng, load: Load, maximum: int) -> Wish:
    count = rng.subset(("visible", "in_flight", "delayed"), 3)
    target = _per_replica(rng, load.peak("running") * rng.scale(1, 10), maximum)
    return Wish({"target_per_replica": target, "count": count, "activation": _activation(rng)}, QUEUE, tuple(count))


def _headroom(rng: WorldRng, _: Load, __: int) -> Wish:
    return Wish({"share": rng.share(0.0, 0.8)})


def _schedule(rng: WorldRng, _: Load, maximum: int) -> Wish:
    windows = [
        {
            "start": f"{rng.integer(0, 2):02d}:{rng.integer(0, 59):02d}",
            "end": f"{rng.integer(0, 23):02d}:{rng.integer(0, 59):02d}",
            "replicas": rng.integer(1, maximum + 2),
        }
        for _ in range(rng.integer(1, 3))
    ]
    return Wish({"windows": windows, "time_zone": rng.choice(("UTC", "Europe/Berlin", "Asia/Kolkata"))})


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


def wishes(rng: WorldRng, sources: frozenset[str], load: Load, maximum: int) -> dict[str, Wish]:
    """Return one to four policies by name, at least one of which reads a source."""
    fitting = [kind for kind, how in POLICIES.items() if how.sources & sources]
    kinds = [rng.choice([kind for kind in fitting if kind in MEASURING])]
    kinds += [rng.choice(fitting) for _ in range(rng.choice((0, 0, 1, 1, 2, 3)))]
    wishes_by_name = {}
    for number, kind in enumerate(kinds):
        wish = POLICIES[kind].make(rng, load, maximum)
        wishes_by_name[f"{kind.replace('_', '-')}-{number}"] = Wish(
            {"kind": kind, **wish.document}, wish.source, wish.quantities
        )
    return wishes_by_name
