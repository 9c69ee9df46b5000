"""The world of a seed: a scenario, its workload and their files, as a user would write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from simulators.engine.models import catalogue
from simulators.engine.models.service import ServiceModel
from tests.fuzz.worlds import faults, fleet, traffic
from tests.fuzz.worlds.limits import guards
from tests.fuzz.worlds.policies import QUEUE
from tests.fuzz.worlds.rng import WorldRng
from tests.fuzz.worlds.workload import quantized, workload

SCENARIO: Final = "scenario.yaml"
WORKLOAD: Final = "workload.yaml"
ENGINE: Final = "engine.yaml"
INTERVALS_S: Final = (2.0, 5.0, 10.0, 15.0, 15.0, 30.0, 60.0)
MIN_S: Final = 300.0
MAX_S: Final = 7200.0
"""Minimum and maximum duration of a world's traffic."""
MAX_TICKS: Final = 400
STARTS: Final = ("2026-01-05T00:00:00+00:00", "2026-03-29T00:30:00+01:00", "2026-10-25T01:00:00+02:00")
"""A Monday, and two nights with a change of daylight saving time."""
Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True, slots=True)
class Drawn:
    """The files of a world: text by name."""

    files: Mapping[str, str]

    def write(self, folder: Path) -> Path:
        """Write the files and return the scenario's path, which ``forescale simulate`` also reads."""
        for name, text in self.files.items():
            (folder / name).write_text(text)
        return folder / SCENARIO


def draw(seed: int) -> Drawn:
    """Return the world of a seed."""
    rng = WorldRng(seed, "world")
    interval_s = rng.choice(INTERVALS_S)
    duration_s = round(min(max(rng.integer(20, MAX_TICKS) * interval_s, MIN_S), MAX_S, MAX_TICKS * interval_s), 1)
    maximum = rng.choice((1, 2, 4, 8, 8, 16, 40))
    model, models, files = _models(WorldRng(seed, "models"))
    load = traffic.load(WorldRng(seed, "load"), model, maximum, duration_s)
    requests = traffic.traffic(WorldRng(seed, "traffic"), load)
    offered = fleet.offers(WorldRng(seed, "fleet"), models, maximum, duration_s, files)
    pools = fleet.with_failures(WorldRng(seed, "words"), offered, maximum)
    workload_document = workload(WorldRng(seed, "workload"), pools, load, maximum, interval_s)
    workload_document["pools"] = quantized(WorldRng(seed, "quanta"), workload_document)
    start = rng.choice(STARTS)
    workload_document |= guards(WorldRng(seed, "guards"), workload_document, start, duration_s)
    scenario = {
        "scenario": f"swarm-{seed}",
        "workload": WORKLOAD,
        "traffic": requests,
        "pools": pools,
        "duration_s": duration_s,
        "settle_s": rng.choice((0.0, 60.0, 600.0)),
        "start": start,
        "seed": seed,
        "telemetry": faults.telemetry(WorldRng(seed, "telemetry")),
        "faults": faults.fault_settings(WorldRng(seed, "weather"), duration_s),
        "prefix_hit_share": rng.choice((0.0, 0.0, 0.5)),
        "router": _router(rng, queued=QUEUE in workload_document["sources"]),
    }
    if QUEUE in workload_document["sources"]:
        scenario["queue"] = faults.queue(WorldRng(seed, "queue"))
    if rng.happens(0.8):
        scenario["initial_replicas"] = {name: rng.integer(0, max(1, (maximum + 2) // len(pools))) for name in pools}
    texts = {name: yaml.dump(data, Dumper=Dumper, sort_keys=False) for name, data in
             ((SCENARIO, scenario), (WORKLOAD, workload_document))}  # fmt: skip
    return Drawn({**texts, **files, **load.files})


def _router(rng: WorldRng, *, queued: bool) -> dict[str, Any]:
    router = {
        "kind": rng.choice(("least_loaded", "round_robin", "random")),
        "patience_s": rng.choice((None, None, 5.0, 60.0)),
        "queue_limit": rng.choice((None, None, 0, 50)),
        "limit": rng.choice((None, None, 1, 16)),
    }
    return {key: value for key, value in router.items() if not (queued and key == "limit")}


def _models(rng: WorldRng) -> tuple[ServiceModel, list[str], dict[str, str]]:
    """Return a model for estimates, the names to choose from, and their files: shipped models, or a small engine."""
    if rng.happens(0.5):
        names = rng.subset(catalogue.names(), 2)
        return catalogue.load(names[0]), names, {}
    drafted = rng.choice((0, 0, 3))
    engine: dict[str, Any] = {
        "name": "engine",
        "mem_base_s": rng.scale(0.005, 0.1),
        "cmp_base_s": 0.0,
        "cmp_token_s": rng.choice((0.0, 1e-5)),
        "kv_decode_s": 0.0,
        "kv_mixed_s": 0.0,
        "attn_pair_s": 0.0,
        "kv_tokens": rng.integer(2_000, 50_000),
        "max_seqs": rng.choice((1, 4, 16)),
        "max_step_tokens": rng.choice((64, 512, 2048)),
        "pipelined": rng.happens(0.5),
        "draft_tokens": drafted,
        "accepted_per_step": rng.share(1.0, 1.0 + drafted),
    }
    return ServiceModel(**engine), [ENGINE], {ENGINE: yaml.dump(engine, Dumper=Dumper, sort_keys=False)}
