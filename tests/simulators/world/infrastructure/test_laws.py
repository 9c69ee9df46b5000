"""Laws of a pool: they hold for every offer, every sequence of requests and every action of the cloud."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.config.schema import model_of, record
from scaler.ports import OutOfCapacity, OutOfQuota
from simulators.world.infrastructure.billing import Bill
from simulators.world.infrastructure.invariants import problems
from simulators.world.infrastructure.market import InterruptionNotices, NodeHeadroom, PoolOffer, ZoneOffer
from simulators.world.infrastructure.node_lifecycle import NodeState, SimulatedNode, StartUp, Tier
from simulators.world.infrastructure.pending import Failures
from simulators.world.infrastructure.supply import Outages, SupplyStep
from simulators.world.infrastructure.units import to_ps
from tests.laws import LAW
from tests.simulators.world.infrastructure.worlds import World, offer

pytestmark = pytest.mark.slow

Action = tuple[str, int, int]
HORIZON_S = 4 * 3600


def choice(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


@st.composite
def zone_offers(draw: st.DrawFn, market: str) -> ZoneOffer:
    capacity = draw(st.integers(0, 6))
    rate = draw(choice(0.0, 0.0, 2.0, 30.0))
    if market == "reserved":
        return ZoneOffer(capacity=capacity, losses_per_node_hour=rate)
    times = sorted(draw(st.sets(st.integers(1, HORIZON_S // 50), max_size=6)))
    steps = tuple(SupplyStep(at_s=50.0 * at, nodes=draw(st.integers(0, 6))) for at in times)
    outages = Outages() if not steps and draw(st.booleans()) else None
    price = draw(choice(None, 0.0, 1.234567))
    return ZoneOffer(
        capacity=capacity, steps=steps, outages=outages, price_usd_per_hour=price, losses_per_node_hour=rate
    )


@st.composite
def failures(draw: st.DrawFn, on_shortage: str) -> Failures | None:
    if draw(st.booleans()):
        return None
    return Failures(
        after_s=draw(choice(0.001, 50.0, 700.0)),
        then=draw(choice("retry", "stay", "roll_back")),
        retry_s=draw(choice(20.0, 500.0)),
        quota=on_shortage == "wait" and draw(st.booleans()),
    )


@st.composite
def offers(draw: st.DrawFn) -> PoolOffer:
    market = draw(choice("reserved", "on_demand", "spot"))
    tiers = {tier: draw(st.integers(0, 2)) for tier in ("awake_spare", "slept", "warm_node")}
    return offer(
        market=market,
        price_usd_per_hour=2.345678,
        cloud=draw(choice("aws", "gcp", "azure")),
        zones={name: draw(zone_offers(market)) for name in ("a", "b")},
        placement=draw(choice("balanced", "ordered")),
        quota=draw(choice(None, None, 5)),
        on_shortage=(on_shortage := draw(choice("wait", "refuse", "partial"))),
        failures=draw(failures(on_shortage)),
        reclaim=draw(choice("random", "newest")),
        notices=draw(
            choice(None, InterruptionNotices(), InterruptionNotices(notice_s=120, rebalance_s=600, missing_share=0.3))
        ),
        on_notice=draw(choice("replace", "serve")),
        on_rebalance=draw(choice("replace", "serve")),
        replace=draw(st.booleans()),
        scale_in=draw(choice("least_loaded", "newest", "oldest")),
        grace_s=draw(choice(None, 0.0, 45.0)),
        start_up=draw(choice(StartUp(), offer().start_up)),
        headroom=NodeHeadroom(**tiers, stopped=draw(st.integers(0, 2)) if market == "on_demand" else 0),
        disk_usd_per_hour=0.011,
    )


ACTIONS: st.SearchStrategy[list[Action]] = st.lists(
    st.tuples(
        choice("until", "until", "resize", "resize", "headroom", "interrupt"), st.integers(0, 8), st.integers(0, 99)
    ),
    max_size=25,
)


def act(world: World, action: Action) -> None:
    """Apply one action of the world or of a policy."""
    kind, size, number = action
    pool = world.pool
    for replica in range(len(world.engines.keys)):
        world.engines.left_s.setdefault(replica, (replica * 37 + number) % 7 * 40.0)
        world.engines.load[replica] = (replica * 13 + number) % 5
    if kind == "until":
        world.until(world.now_ps / 1e12 + size * 97.0)
    elif kind == "headroom":
        pool.resize_headroom((Tier.SLEPT, Tier.WARM_NODE)[number % 2], size % 3, world.now_ps)
    elif kind == "interrupt":
        live = [n.number for n in pool.ledger.nodes if n.state in {NodeState.STARTING, NodeState.READY}]
        if live:
            pool.interrupt(live[number % len(live)], world.now_ps + to_ps(10 * size), world.now_ps)
    else:
        before = pool.desired
        try:
            world.resize(size)
        except OutOfQuota:
            assert pool.desired == before
        except OutOfCapacity:
            assert before <= pool.desired < size
        else:
            assert pool.desired == size


def run_actions(world: World, actions: list[Action], after: Callable[[], object] = lambda: None) -> Bill:
    """Apply the actions, run to the horizon, and return the bill."""
    for action in actions:
        act(world, action)
        after()
    world.until(max(HORIZON_S, world.now_ps / 1e12))
    return world.bill()


@LAW
@given(offers(), ACTIONS, st.integers(0, 5), st.integers(0, 3))
def test_all_invariants_hold_after_every_action(
    offered: PoolOffer, actions: list[Action], seed: int, begin: int
) -> None:
    world = World(offered, seed, begin=begin)
    run_actions(world, actions, world.bill)


def cost_usd(offered: PoolOffer, node: SimulatedNode, now_ps: int) -> Fraction:
    """Return the cost of a node by its cloud's rule, from its state changes alone."""
    price = Fraction(str(offered.price(list(offered.zones)[node.zone]))) / 3600
    at = {state: Fraction(at_ps, 10**12) for at_ps, state in node.moves}
    born, end = Fraction(node.born_ps, 10**12), at.get(NodeState.GONE, Fraction(now_ps, 10**12))
    runs, disk = [end - born], Fraction(0)
    if node.tier is Tier.STOPPED and NodeState.RESTING in at:
        restart = at.get(NodeState.STARTING, end)
        disk = Fraction("0.011") / 3600 * (restart - at[NodeState.RESTING])
        runs = [at[NodeState.RESTING] - born] if NodeState.PREPARING in at else []
        runs += [end - restart] if NodeState.STARTING in at else []
    if offered.market == "spot" and node.interrupted and runs[-1] < {"aws": 3600, "gcp": 60, "azure": 0}[offered.cloud]:
        return Fraction(0)
    return disk + price * sum(max(60, math.ceil(run)) for run in runs)


@LAW
@given(offers(), ACTIONS, st.integers(0, 3))
def test_cost_equals_the_price_times_the_charged_time(offered: PoolOffer, actions: list[Action], begin: int) -> None:
    """Costs are conserved exactly. A reserved pool costs its capacity, regardless of its use."""
    world = World(offered, begin=begin)
    bill = run_actions(world, actions)
    if offered.market == "reserved":
        prices = [(zone.capacity or 0) * Fraction(str(offered.price(name))) for name, zone in offered.zones.items()]
        paid = sum(prices, Fraction(0)) * Fraction(world.now_ps, 3600 * 10**12)
    else:
        paid = sum((cost_usd(offered, node, world.now_ps) for node in world.pool.ledger.nodes), Fraction(0))
    assert Fraction(bill.total, 3600 * 10**18) == paid


@LAW
@given(offers(), ACTIONS, st.integers(0, 5))
def test_equal_seeds_give_equal_nodes_and_events(offered: PoolOffer, actions: list[Action], seed: int) -> None:
    first, second = World(offered, seed, begin=2), World(offered, seed, begin=2)
    assert run_actions(first, actions) == run_actions(second, actions)
    assert first.pool.ledger.nodes == second.pool.ledger.nodes
    assert first.pool.events == second.pool.events


@LAW
@given(offers(), ACTIONS)
def test_without_a_grace_period_scale_in_interrupts_no_request(offered: PoolOffer, actions: list[Action]) -> None:
    world = World(offered, begin=3)
    run_actions(world, actions)
    lost = {e.number for e in world.pool.events if e.kind in {"interrupted", "failed"}}
    cut = {e.number for e in world.pool.events if e.kind == "cut"}
    killed = {n.number for n in world.pool.ledger.nodes if n.engine in world.engines.killed}
    assert killed <= lost | cut
    assert offered.grace_s is not None or not cut


def test_nodes_and_events_do_not_depend_on_the_hash_seed() -> None:
    script = (
        "from tests.simulators.world.infrastructure.test_laws import *;"
        "zone = ZoneOffer(capacity=5, outages=Outages(), losses_per_node_hour=0.5);"
        "world = World(offer(market='spot', zones={'a': zone, 'b': zone}, start_up=StartUp()), 11, begin=4);"
        "bill = run_actions(world, [('resize', 8, 1), ('until', 90, 2), ('resize', 3, 3), ('until', 30, 4)]);"
        "print(bill, world.pool.events, world.pool.ledger.nodes, world.engines.keys)"
    )
    root = Path(__file__).resolve().parents[4]
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            cwd=root,
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0].count(b"Kind.INTERRUPTED") > 3


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            lambda w: w.pool.ledger.nodes[0].moves.append((w.now_ps, NodeState.STARTING)),
            "in the wrong order: STARTING -> READY -> STARTING",
        ),
        (
            lambda w: w.pool.ledger.nodes[0].moves.__setitem__(0, (5, NodeState.STARTING)),
            "created at 0 ps, changed state at",
        ),
        (lambda w: w.pool.ledger.nodes.pop(), "2 replicas are desired, but 1 are live and 0 wait"),
        (lambda w: w.pool.ledger.limits[0].append((7, 1)), "zone 0 held 2 nodes at 7 ps, but offered 1"),
        (lambda w: w.pool.ledger.prices.__setitem__(0, 1), "price times node time is"),
    ],
    ids=["back in life", "moved before it was born", "a replica lost", "above capacity", "another price"],
)
def test_a_broken_invariant_is_reported(harm: Callable[[World], object], message: str) -> None:
    world = World(offer(market="spot"), begin=2)
    world.until(100)
    bill = world.bill()
    harm(world)
    assert message in "; ".join(problems(world.pool, bill, world.now_ps))


def test_an_offer_is_read_from_a_scenario_document() -> None:
    document = {
        "model": "llama-3.1-8b-h100",
        "price_usd_per_hour": 2.81,
        "market": "spot",
        "zones": {
            "us-east-2a": {"trace": {"file": "a.json", "scale": 2.0}},
            "us-east-2b": {"capacity": 4, "outages": {}},
        },
        "notices": {"notice_s": 120.0, "missing_share": 0.1},
        "start_up": {"image": {"median_s": 20.0, "sigma": 0.3}},
    }
    read: PoolOffer = record(PoolOffer, model_of(PoolOffer).model_validate(document))
    assert read.zones["us-east-2a"].trace is not None
    assert read.zones["us-east-2a"].trace.scale == 2.0
    assert read.zones["us-east-2b"].outages == Outages()
    assert read.start_up.node == StartUp().node
    assert list(read.problems()) == []
