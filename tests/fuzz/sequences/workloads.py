"""Random workloads as documents, each valid by the project's own checks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from scaler.config import checks
from scaler.config.load import Workload, workload_from
from scaler.config.problems import ConfigError
from tests.fuzz.rng import Rng
from tests.fuzz.sequences.policies import ENGINES, LATENCIES, PEERS, QUEUE, SHARES, TOTALS, policies

EPOCH: Final = datetime(2026, 3, 29, 0, 30, tzinfo=UTC).timestamp()
"""Half an hour before the change to daylight saving time in Europe."""
MAX_TRIES: Final = 200
"""Maximum number of documents drawn until one is valid. About every second one is."""
LIMIT_SHARE: Final = 0.2
"""Probability of each of the operator's limits."""
QUEUE_URL: Final = "https://sqs.us-east-1.amazonaws.com/123456789012/prompts"
QUANTITIES: Final = (*SHARES, *TOTALS, *LATENCIES)


def workload(seed: int, name: str, like: Mapping[str, Any] | None = None) -> Workload:
    """Return the workload of a seed and name; with `like`, that document after an edit of some of its settings."""
    rng = Rng(seed, f"workload/{name}")
    for _ in range(MAX_TRIES):
        config = _validated(_document(rng, name) if like is None else _edit_document(rng, name, like))
        if config is not None:
            return config
    raise AssertionError(f"seed {seed}: no valid document in {MAX_TRIES}")


def _validated(document: Mapping[str, Any]) -> Workload | None:
    try:
        config = workload_from(document)
    except ConfigError:
        return None
    return None if [*checks.own_problems(config.spec), *checks.deciding_sources(config.spec)] else config


def sources() -> dict[str, Any]:
    """Return a Prometheus with every quantity of the engines, and a queue."""
    queries = {quantity: f"sum({quantity})" for quantity in QUANTITIES}
    engines = {"kind": "prometheus", "url": "http://localhost:9090", "queries": queries, "max_age_s": 60.0}
    return {ENGINES: engines, QUEUE: {"kind": "sqs", "queue_url": QUEUE_URL, "max_age_s": 60.0}}


def _document(rng: Rng, name: str) -> dict[str, Any]:
    maximum = rng.choice((1, 2, 4, 10, 10, 10, 20, 20, 60, 60, 200))
    pools = _pools(rng, name, maximum)
    own_policies = policies(rng, maximum)
    document: dict[str, Any] = {
        "workload": name,
        "min_replicas": rng.choice((0, 0, 1, 1, rng.randint(0, maximum))),
        "max_replicas": maximum,
        "interval_s": rng.choice((5.0, 15.0, 15.0, 30.0)),
        "deadline_s": 4.0,
        "sources": sources(),
        "policies": own_policies,
        "pools": pools,
        "slo_violation_cost_ratio": rng.choice((1.0, 19.0, 1000.0)),
        "priority": rng.randint(-1, 1),
    }
    stabilization = {} if any(policy["kind"] in PEERS for policy in own_policies.values()) else _stabilization(rng)
    return document | stabilization | _limits(rng, document)


def _stabilization(rng: Rng) -> dict[str, Any]:
    return {
        "cooldown_s": rng.choice((0.0, 30.0, 120.0, 300.0)),
        "tolerance": rng.choice((0.0, 0.1, 0.1, 0.5)),
        "scale_up": {
            "window_s": rng.choice((0.0, 0.0, 60.0)),
            "period_s": rng.choice((15.0, 60.0)),
            "max_replicas": rng.choice((1, 4, 1000)),
            "max_share": rng.choice((0.0, 1.0, 3.0)),
        },
        "scale_down": {
            "window_s": rng.choice((0.0, 0.0, 30.0, 60.0, 300.0)),
            "period_s": rng.choice((15.0, 60.0)),
            "max_replicas": rng.choice((1, 4, 1000)),
            "max_share": rng.choice((0.0, 0.5, 1.0)),
            "max_evidence_gap_s": rng.choice((1.0, 60.0)),
        },
    }


def _limits(rng: Rng, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the operator's limits: budgets, blast radius, maintenance, override, SLO, pause."""
    maximum = document["max_replicas"]
    limits: dict[str, Any] = {}
    if rng.happens(LIMIT_SHARE):
        units = [pool.get("gpus_per_replica", 1) for pool in document["pools"].values()]
        limits["budget"] = {"gpus": rng.randint(0, maximum + 2) * max(*units, 1)}
    if rng.happens(LIMIT_SHARE):
        usd = rng.randint(1, maximum + 2) * rng.choice((2.0, 5.0))
        limits["budget"] = {**limits.get("budget", {}), "usd_per_hour": usd}
    if rng.happens(LIMIT_SHARE):
        limits["blast_radius"] = {"share": rng.choice((0.05, 0.2, 0.25, 0.5)), "window_s": rng.choice((60.0, 600.0))}
    if rng.happens(LIMIT_SHARE):
        window = {"start": "00:30", "end": rng.choice(("00:35", "00:40", "02:10"))}
        window["mode"] = rng.choice(("hold", "no_scale_in", "no_scale_in", "no_scale_out"))
        limits["maintenance"] = {"windows": [window], "time_zone": rng.choice(("UTC", "Europe/Lisbon"))}
    if rng.happens(LIMIT_SHARE):
        until = datetime.fromtimestamp(EPOCH + rng.choice((-60, 120, 600, 6000)), UTC).isoformat()
        limits["override"] = {
            "replicas": rng.randint(0, maximum + 3),
            "until": until,
            "beyond_bounds": rng.happens(0.5),
        }
    if rng.happens(2 * LIMIT_SHARE):
        limits["slo"] = {"ttft_s": rng.scale(0.1, 10.0), "itl_s": rng.choice((None, 0.05))}
    if rng.happens(0.03):
        limits["paused"] = True
    return limits


def _pools(rng: Rng, name: str, maximum: int) -> dict[str, Any]:
    """Return one to four pools. In two thirds of the workloads they differ in market, price or work per replica."""
    count = rng.choice((1, 1, 2, 2, 3, 4))
    different = rng.happens(0.66)
    pools = {f"pool-{'abcd'[k]}": _pool(rng, f"{name}-{k}", maximum, different=different) for k in range(count)}
    if count > 1 and rng.happens(0.2):
        pools[f"pool-{'abcd'[count - 1]}"] |= {
            "tier": rng.choice(("awake_spare", "slept", "warm_node")),
            "serves": "pool-a",
            "lead_time_s": 1.0,
        }
    return pools


def _pool(rng: Rng, name: str, maximum: int, *, different: bool) -> dict[str, Any]:
    pool: dict[str, Any] = {"kind": "kubernetes", "name": name, "lead_time_s": rng.choice((30.0, 120.0, 600.0))}
    if rng.happens(0.25):
        pool["min_replicas"] = rng.randint(0, min(2, maximum))
    if rng.happens(0.4):
        pool["max_replicas"] = rng.randint(0, maximum)
    if rng.happens(0.25):
        pool["quantum"] = rng.choice((2, 2, 3, 4))
    if rng.happens(0.3):
        pool["gpus_per_replica"] = rng.choice((0, 1, 8))
    if rng.happens(0.2):
        pool["on_other_writer"] = "take_over"
    if not different:
        return pool
    pool["market"] = rng.choice(("on_demand", "on_demand", "spot", "spot", "reserved"))
    if rng.happens(0.8):
        pool["price_usd_per_hour"] = rng.choice((0.0, rng.scale(0.5, 20.0)))
    if rng.happens(0.3):
        pool["work_per_replica"] = rng.choice((0.25, 0.5, 2.0, 8.0))
    if rng.happens(0.5):
        pool |= {"zone": rng.choice("xy"), "accelerator": rng.choice(("h100", "l40s"))}
    if pool["market"] == "spot":
        pool["notice_s"] = rng.choice((0.0, 30.0, 120.0))
    return pool


def _edit_document(rng: Rng, name: str, like: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document with some new settings: other bounds, another policy, a pool added or removed."""
    new = _document(rng, name)
    edited = dict(like)
    for key in rng.subset(("max_replicas", "min_replicas", "policies", "pools", "budget", "override", "paused"), 3):
        if key == "pools":
            edited[key] = _other_pools(rng, like["pools"], new["pools"])
        elif key in new:
            edited[key] = new[key]
        else:
            edited.pop(key, None)
    return edited


def _other_pools(rng: Rng, pools: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    if rng.happens(0.5) and len(pools) > 1:
        removed = rng.choice(sorted(pools))
        return {name: pool for name, pool in pools.items() if name != removed and pool.get("serves") != removed}
    return {**new, **pools} if rng.happens(0.5) else {**pools, **new}
