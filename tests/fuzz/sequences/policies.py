"""Random policies of every registered kind: `POLICIES` has one function per kind, which a test checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from tests.fuzz.rng import Rng

ENGINES: Final = "engines"
QUEUE: Final = "queue"
SHARES: Final = ("utilization", "kv_cache_usage")
"""Means over the ready replicas, between 0 and 1."""
TOTALS: Final = (
    "running",
    "waiting",
    "requests_per_s",
    "prompt_tokens_per_s",
    "generation_tokens_per_s",
    "inflight_tokens",
)
"""Totals over the engines."""
LATENCIES: Final = ("ttft_p95_s", "ttft_mean_s", "itl_mean_s", "queue_time_p95_s")
COUNTS: Final = ("visible", "in_flight", "delayed")
PER_REPLICA: Final[Mapping[str, float]] = {
    "running": 16.0,
    "waiting": 4.0,
    "requests_per_s": 2.0,
    "prompt_tokens_per_s": 2000.0,
    "generation_tokens_per_s": 800.0,
    "inflight_tokens": 4000.0,
    "visible": 10.0,
    "in_flight": 8.0,
    "delayed": 4.0,
}
"""Value of each total for one busy replica. Targets and readings are drawn around these."""
Document = dict[str, Any]
Make = Callable[[Rng, str, int], Document]
"""Function of the random draws, the source to read and the workload's maximum."""


def target(rng: Rng, quantity: str) -> float:
    """Return a target per replica of 0.2 to 5 times the value of a busy replica."""
    return max(0.001, float(f"{PER_REPLICA[quantity] * rng.scale(0.2, 5.0):.4g}"))


def _activation(rng: Rng, quantity: str) -> float:
    return rng.choice((0.0, 0.0, float(f"{PER_REPLICA[quantity] * rng.share(0.0, 1.5):.3g}")))


def _concurrency(rng: Rng, source: str, _: int) -> Document:
    return {"source": source, "target_per_replica": target(rng, "running"), "activation": _activation(rng, "running")}


def _share(rng: Rng, source: str, _: int) -> Document:
    return {"source": source, "target": rng.share(0.1, 1.0), "activation": rng.choice((0.0, 0.05, rng.share(0, 0.5)))}


def _metric(rng: Rng, source: str, _: int) -> Document:
    if rng.happens(0.5):
        quantity = rng.choice(TOTALS)
        document: Document = {"across": "total", "target": target(rng, quantity)}
        document["activation"] = _activation(rng, quantity)
    else:
        quantity = rng.choice((*SHARES, *LATENCIES))
        document = {"across": "mean", "target": rng.share(0.05, 1.0), "activation": rng.choice((0.0, 0.1))}
    return {"source": source, "quantity": quantity, **document}


def _predictive(rng: Rng, source: str, _: int) -> Document:
    document: Document = {
        "source": source,
        "prompt_tokens_per_s": target(rng, "prompt_tokens_per_s") * 5,
        "generation_tokens_per_s": target(rng, "generation_tokens_per_s") * 5,
        "utilization": rng.choice((0.5, 1.0, 2.0)),
        "quantile": rng.choice((None, 0.5, 0.95)),
        "demand_hold_s": rng.choice((0.0, 60.0, 900.0)),
        "backlog_clear_s": rng.scale(15, 600),
        "slo_correction": rng.happens(0.7),
        "use_forecast": rng.happens(0.8),
        "learn_capacity": rng.happens(0.8),
    }
    if rng.happens(0.3):
        document |= {"queue": QUEUE, "queue_deadline_s": rng.scale(30, 3600)}
        document["message_service_s"] = rng.choice((None, rng.scale(0.1, 60.0)))
    return document


def _queue_depth(rng: Rng, _: str, __: int) -> Document:
    return {
        "source": QUEUE,
        "target_per_replica": target(rng, "visible"),
        "count": rng.subset(COUNTS, 3),
        "activation": _activation(rng, "visible"),
    }


def _headroom(rng: Rng, _: str, __: int) -> Document:
    return {"share": rng.share(0.0, 0.9)}


def _span(rng: Rng) -> Document:
    start, length = rng.randint(0, 23), rng.randint(1, 23)
    return {"start": f"{start:02d}:{rng.randint(0, 59):02d}", "end": f"{(start + length) % 24:02d}:00"}


def _schedule(rng: Rng, _: str, maximum: int) -> Document:
    windows = [{**_span(rng), "replicas": rng.randint(1, maximum + 2)} for _ in range(rng.randint(1, 3))]
    return {"windows": windows, "time_zone": rng.choice(("UTC", "Europe/Berlin", "Asia/Kolkata"))}


def _behavior(rng: Rng) -> Document | None:
    if rng.happens(0.5):
        return None

    def policies() -> list[Document]:
        kinds = rng.subset(("pods", "percent"), 2)
        return [{"type": k, "value": rng.choice((1, 4, 100)), "period_s": rng.choice((15.0, 60.0))} for k in kinds]

    select = rng.choice(("max", "max", "min", "disabled"))
    return {
        "scale_up": {"stabilization_window_s": rng.choice((0.0, 60.0)), "policies": policies()},
        "scale_down": {
            "stabilization_window_s": rng.choice((None, 0.0, 60.0)),
            "policies": policies(),
            "select_policy": select,
        },
    }


def _hpa_metric(rng: Rng, source: str) -> Document:
    if rng.happens(0.4):
        return {"type": "pods", "quantities": [rng.choice(SHARES)], "target": rng.share(0.1, 1.0), "source": source}
    quantity = rng.choice(TOTALS)
    kind = rng.choice(("average_value", "value"))
    return {"quantities": [quantity], "target": target(rng, quantity), "target_type": kind, "source": source}


def _hpa(rng: Rng, source: str, _: int) -> Document:
    metrics = [_hpa_metric(rng, source) for _ in range(rng.randint(1, 3))]
    window_s = rng.choice((0.0, 60.0, 300.0))
    return {"metrics": metrics, "behavior": _behavior(rng), "downscale_stabilization_s": window_s}


def _keda(rng: Rng, source: str, maximum: int) -> Document:
    quantity = rng.choice(("visible", "running", "requests_per_s"))
    named = QUEUE if quantity == "visible" else source
    trigger: Document = {"quantities": [quantity], "target": target(rng, quantity), "source": named}
    trigger["activation"] = _activation(rng, quantity)
    fallback: Document = {"failure_threshold": rng.randint(0, 3), "replicas": rng.randint(0, maximum)}
    behaviors = ("static", "current_replicas", "current_replicas_if_higher", "current_replicas_if_lower")
    fallback["behavior"] = rng.choice(behaviors)
    return {
        "triggers": [trigger],
        "cooldown_s": rng.choice((0.0, 60.0, 300.0)),
        "fallback": rng.choice((None, fallback)),
        "behavior": _behavior(rng),
    }


def _kpa(rng: Rng, source: str, _: int) -> Document:
    windows = {"stable_window_s": rng.choice((6.0, 60.0, 600.0)), "scale_down_delay_s": rng.choice((0.0, 120.0))}
    return {"source": source, "target": target(rng, "running"), **windows}


def _llmd(rng: Rng, source: str, _: int) -> Document:
    return {"source": source, "recipe": rng.choice(("queue", "queue_guard", "token"))}


def _ray_serve(rng: Rng, source: str, _: int) -> Document:
    delays = {"upscale_delay_s": rng.choice((0.0, 30.0)), "downscale_delay_s": rng.choice((0.0, 60.0, 600.0))}
    return {"source": source, "target_ongoing_requests": target(rng, "running"), **delays}


def _skyserve(rng: Rng, source: str, _: int) -> Document:
    delays = {"upscale_delay_s": rng.choice((0.0, 60.0)), "downscale_delay_s": rng.choice((0.0, 120.0))}
    return {
        "source": source,
        "target_qps_per_replica": target(rng, "requests_per_s"),
        "num_overprovision": rng.randint(0, 2),
        **delays,
    }


def _dynamo(rng: Rng, source: str, _: int) -> Document:
    document: Document = {"source": source, "kv_tokens": rng.randint(1_000, 1_000_000)}
    document["mode"] = rng.choice(("aggregate", "prefill", "decode"))
    if rng.happens(0.3):
        return {**document, "optimize": "load", "scale_up_at": 0.8, "scale_down_at": 0.3}
    return {**document, "optimize": rng.choice(("throughput", "latency"))}


def _dynamo_sla(rng: Rng, source: str, _: int) -> Document:
    limits = {"kv_tokens": rng.randint(1_000, 1_000_000), "max_seqs": rng.choice((8, 256))}
    times = {"step_s": 0.01, "prompt_token_s": rng.share(0.0, 1e-4), "kv_token_s": rng.share(0.0, 1e-6)}
    return {"source": source, **limits, **times, "adjustment_interval_s": rng.choice((30.0, 180.0))}


def _aibrix(rng: Rng, source: str, _: int) -> Document:
    windows = {"observe_window_s": rng.choice((30.0, 180.0)), "scale_down_window_s": rng.choice((0.0, 300.0))}
    return {"source": source, "target": rng.share(0.1, 1.0), "horizon_s": rng.choice((None, 120.0)), **windows}


def _static(rng: Rng, _: str, maximum: int) -> Document:
    return {"replicas": rng.randint(0, maximum + 2)}


POLICIES: Final[Mapping[str, Make]] = {
    "aibrix_apa": _aibrix,
    "concurrency": _concurrency,
    "dynamo_easy": _dynamo,
    "dynamo_sla": _dynamo_sla,
    "gpu_utilization": _share,
    "headroom": _headroom,
    "hpa": _hpa,
    "keda": _keda,
    "kpa": _kpa,
    "kv_cache_usage": _share,
    "llmd": _llmd,
    "metric": _metric,
    "predictive": _predictive,
    "queue_depth": _queue_depth,
    "ray_serve": _ray_serve,
    "schedule": _schedule,
    "skyserve_request_rate": _skyserve,
    "static": _static,
}
RIVALS: Final = ("hpa", "keda", "kpa", "llmd", "ray_serve", "skyserve_request_rate", "static")
PEERS: Final = ("aibrix_apa", "dynamo_easy", "dynamo_sla", *RIVALS)
"""Kinds with their own windows and limits, which must be the only policy of a workload."""
OWN: Final = tuple(kind for kind in POLICIES if kind not in PEERS)
MEASURING: Final = tuple(kind for kind in OWN if kind not in {"headroom", "schedule"})


def policies(rng: Rng, maximum: int) -> dict[str, Document]:
    """Return one peer, or one to four of the project's own policies, of which one reads a source."""
    if rng.happens(0.2):
        kinds = [rng.choice(PEERS)]
    else:
        kinds = [rng.choice(MEASURING), *(rng.choice(OWN) for _ in range(rng.choice((0, 0, 1, 1, 2, 3))))]
    named = {}
    for number, kind in enumerate(kinds):
        name = f"{kind.replace('_', '-')}-{number}"
        named[name] = {"kind": kind, **POLICIES[kind](rng, ENGINES, maximum)}
    return named
