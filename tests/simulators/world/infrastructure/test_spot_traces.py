"""Replay of recorded spot capacity: no zone ever holds more nodes than the trace had at that time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simulators.world.infrastructure.market import ZoneOffer
from simulators.world.infrastructure.node_lifecycle import NodeState, StartUp
from simulators.world.infrastructure.supply import SupplyTrace
from tests.simulators.world.infrastructure.worlds import World, offer

pytestmark = pytest.mark.slow

SPOT = Path(__file__).resolve().parents[4].parent / "shared" / "data" / "spot"


@pytest.mark.parametrize(("name", "cloud"), [("AWS1", "aws"), ("AWS2", "aws"), ("GCP1", "gcp")])
def test_node_counts_never_exceed_the_trace(name: str, cloud: str) -> None:
    files = sorted((SPOT / name).glob("*.json"))
    if not files:
        pytest.skip(f"the recorded spot traces are not here: {SPOT / name}")
    traces = [json.loads(file.read_text()) for file in files]
    zones = {file.stem: ZoneOffer(trace=SupplyTrace(file=file.name, repeat=False)) for file in files}
    world = World(offer(market="spot", cloud=cloud, zones=zones, start_up=StartUp()), folder=SPOT / name, begin=4)
    pool = world.pool

    def within() -> None:
        pool.draining()
        held = [0] * len(files)
        for node in pool.ledger.nodes:
            held[node.zone] += node.state is not NodeState.GONE
        for zone, trace in enumerate(traces):
            tick = int(world.now_ps // (trace["metadata"]["gap_seconds"] * 10**12))
            assert held[zone] <= trace["data"][min(tick, len(trace["data"]) - 1)]

    hours = int(min(len(t["data"]) * t["metadata"]["gap_seconds"] for t in traces) // 3600)
    for hour in range(hours):
        world.resize((4, 9, 2, 16, 12)[hour % 5])
        world.engines.left_s = {replica: replica % 9 * 60.0 for replica in range(len(world.engines.keys))}
        world.until((hour + 1) * 3600.0, within)
    world.bill()
    assert sum(e.kind == "interrupted" for e in pool.events) > 10
