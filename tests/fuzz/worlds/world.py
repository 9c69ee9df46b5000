"""A seed's world: a scenario, its workload and the files that they name, as anybody would write them."""

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
from tests.fuzz.worlds.rng import Chance
from tests.fuzz.worlds.workload import quantized, workload

SCENARIO: Final = "scenario.yaml"
WORKLOAD: Final = "workload.yaml"
ENGINE: Final = "engine.yaml"
INTERVALS_S: Final = (2.0, 5.0, 10.0, 15.0, 15.0, 30.0, 60.0)
MIN_S: Final = 300.0
MAX_S: Final = 7200.0
"""The shortest and the longest that a world's traffic lasts."""
MAX_TURNS: Final = 400
STARTS: Final = ("2026-01-05T00:00:00+00:00", "2026-03-29T00:30:00+01:00", "2026-10-25T01:00:00+02:00")
"""A Monday, and two nights in which clocks are changed."""
Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A world on paper: the text of each file, by name."""

    files: Mapping[str, str]

    def write(self, folder: Path) -> Path:
        """Write the files; the scenario's path, which ``forescale simulate`` reads too."""
        for name, text in self.files.items():
            (folder / name).write_text(text)
        return folder / SCENARIO


def draw(seed: int) -> Drawn:
    """The world of a seed."""
    chance = Chance(seed, "world")
    interval_s = chance.one(INTERVALS_S)
    duration_s = round(min(max(chance.whole(20, MAX_TURNS) * interval_s, MIN_S), MAX_S, MAX_TURNS * interval_s), 1)
    most = chance.one((1, 2, 4, 8, 8, 16, 40))
    model, models, files = _models(Chance(seed, "models"))
    load = traffic.load(Chance(seed, "load"), model, most, duration_s)
    requests = traffic.traffic(Chance(seed, "traffic"), load)
    offered = fleet.offers(Chance(seed, "fleet"), models, most, duration_s, files)
    pools = fleet.talkative(Chance(seed, "words"), offered, most)
    scaled = workload(Chance(seed, "workload"), pools, load, most, interval_s)
    scaled["pools"] = quantized(Chance(seed, "quanta"), scaled)
    start = chance.one(STARTS)
    scaled |= guards(Chance(seed, "guards"), scaled, start, duration_s)
    scenario = {
        "scenario": f"swarm-{seed}",
        "workload": WORKLOAD,
        "traffic": requests,
        "pools": pools,
        "duration_s": duration_s,
        "settle_s": chance.one((0.0, 60.0, 600.0)),
        "start": start,
        "seed": seed,
        "telemetry": faults.telemetry(Chance(seed, "telemetry")),
        "weather": faults.weather(Chance(seed, "weather"), duration_s),
        "prefix_hit_share": chance.one((0.0, 0.0, 0.5)),
        "router": _router(chance, queued=QUEUE in scaled["sources"]),
    }
    if QUEUE in scaled["sources"]:
        scenario["queue"] = faults.queue(Chance(seed, "queue"))
    if chance.happens(0.8):
        scenario["initial_replicas"] = {name: chance.whole(0, max(1, (most + 2) // len(pools))) for name in pools}
    texts = {name: yaml.dump(data, Dumper=Dumper, sort_keys=False) for name, data in
             ((SCENARIO, scenario), (WORKLOAD, scaled))}  # fmt: skip
    return Drawn({**texts, **files, **load.files})


def _router(chance: Chance, *, queued: bool) -> dict[str, Any]:
    router = {
        "kind": chance.one(("least_loaded", "round_robin", "random")),
        "patience_s": chance.one((None, None, 5.0, 60.0)),
        "queue_limit": chance.one((None, None, 0, 50)),
        "limit": chance.one((None, None, 1, 16)),
    }
    return {key: value for key, value in router.items() if not (queued and key == "limit")}


def _models(chance: Chance) -> tuple[ServiceModel, list[str], dict[str, str]]:
    """A model to reckon with, the names of those to choose from, and their files: shipped ones, or a small engine."""
    if chance.happens(0.5):
        names = chance.some(catalogue.names(), 2)
        return catalogue.load(names[0]), names, {}
    drafted = chance.one((0, 0, 3))
    engine: dict[str, Any] = {
        "name": "engine",
        "mem_base_s": chance.scale(0.005, 0.1),
        "cmp_base_s": 0.0,
        "cmp_token_s": chance.one((0.0, 1e-5)),
        "kv_decode_s": 0.0,
        "kv_mixed_s": 0.0,
        "attn_pair_s": 0.0,
        "kv_tokens": chance.whole(2_000, 50_000),
        "max_seqs": chance.one((1, 4, 16)),
        "max_step_tokens": chance.one((64, 512, 2048)),
        "pipelined": chance.happens(0.5),
        "draft_tokens": drafted,
        "accepted_per_step": chance.share(1.0, 1.0 + drafted),
    }
    return ServiceModel(**engine), [ENGINE], {ENGINE: yaml.dump(engine, Dumper=Dumper, sort_keys=False)}
