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
class RandomPolicy:
    """A policy's document, the kind of source that it reads (or None), and the quantities."""

    document: dict[str, Any]
    source: str | None = None
    quantities: tuple[str, ...] = ()


Maker = Callable[[WorldRng, Load, int], RandomPolicy]
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


def _concurrency(rng: WorldRng, load: Load, maximum: int) -> RandomPolicy:
    target = _per_replica(rng, load.peak("running"), maximum)
    return RandomPolicy({"target_per_replica": target, "activation": _activation(rng)}, ENGINES, ("running", "waiting"))


def _gpu_utilization(rng: WorldRng, _: Load, __: int) -> RandomPolicy:
    document = {"target": rng.share(0.2, 1.0), "activation": rng.share(0.0, 0.3)}
    return RandomPolicy(document, ENGINES, ("utilization",))


def _kv_cache_usage(rng: WorldRng, _: Load, __: int) -> RandomPolicy:
    document = {"target": rng.share(0.05, 1.0), "activation": rng.choice((0.0, 0.1))}
    return RandomPolicy(document, ENGINES, ("kv_cache_usage",))


def _metric(rng: WorldRng, load: Load, maximum: int) -> RandomPolicy:
    if rng.happens(0.6):
        quantity = rng.choice(TOTALS[: rng.choice((2, 4, 6))])
        document = {"across": "total", "target": _per_replica(rng, load.peak(quantity), maximum)}
    else:
        quantity = rng.choice(list(MEANS)[: rng.choice((1, 2, 5))])
        document = {"across": "mean", "target": rng.scale(*MEANS[quantity])}
    return RandomPolicy({"quantity": quantity, **document, "activation": _activation(rng)}, ENGINES, (quantity,))


def _predictive(rng: WorldRng, load: Load, maximum: int) -> RandomPolicy:
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
    return RandomPolicy(document, ENGINES, (*ENGINE_QUANTITIES, *latencies))


def _queue_depth(rng: WorldRng, load: Load, maximum: int) -> RandomPolicy:
    count = rng.subset(("visible", "in_flight", "delayed"), 3)
    target = _per_replica(rng, load.peak("running") * rng.scale(1, 10), maximum)
    return RandomPolicy(
        {"target_per_replica": target, "count": count, "activation": _activation(rng)}, QUEUE, tuple(count)
    )


def _headroom(rng: WorldRng, _: Load, __: int) -> RandomPolicy:
    return RandomPolicy({"share": rng.share(0.0, 0.8)})


def _schedule(rng: WorldRng, _: Load, maximum: int) -> RandomPolicy:
    windows = [
        {
            "start": f"{rng.integer(0, 2):02d}:{rng.integer(0, 59):02d}",
            "end": f"{rng.integer(0, 23):02d}:{rng.integer(0, 59):02d}",
            "replicas": rng.integer(1, maximum + 2),
        }
        for _ in range(rng.integer(1, 3))
    ]
    return RandomPolicy({"windows": windows, "time_zone": rng.choice(("UTC", "Europe/Berlin", "Asia/Kolkata"))})


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


def random_policies(rng: WorldRng, sources: frozenset[str], load: Load, maximum: int) -> dict[str, RandomPolicy]:
    """Return one to four policies by name, at least one of which reads a source."""
    fitting = [kind for kind, settings in POLICIES.items() if settings.sources & sources]
    kinds = [rng.choice([kind for kind in fitting if kind in MEASURING])]
    kinds += [rng.choice(fitting) for _ in range(rng.choice((0, 0, 1, 1, 2, 3)))]
    policies_by_name = {}
    for number, kind in enumerate(kinds):
        policy = POLICIES[kind].make(rng, load, maximum)
        policies_by_name[f"{kind.replace('_', '-')}-{number}"] = RandomPolicy(
            {"kind": kind, **policy.document}, policy.source, policy.quantities
        )
    return policies_by_name
