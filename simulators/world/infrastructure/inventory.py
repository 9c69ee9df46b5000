"""A pool's nodes by state: launched where there is room, taken from the headroom, moved on, found when one must go."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Final

from simulators.world.infrastructure.billing import BillingLedger
from simulators.world.infrastructure.market import PoolOffer
from simulators.world.infrastructure.node_lifecycle import (
    HEADROOM,
    PHASES,
    PREPARE,
    SERVE,
    NodeState,
    SimulatedNode,
    Tier,
    plan,
    to_serve,
)
from simulators.world.infrastructure.units import to_ps
from simulators.world.infrastructure.zones import UNLIMITED, Zone, choose
from simulators.world.rng import Draws, normals, uniforms

LIFE, NOTICE, REBALANCE, KEY = range(4)
"""Columns of a node's uniform draws."""
KEYS: Final = 2**53


class Stock:
    """The nodes of one pool, indexed so that no question costs more than its answer."""

    def __init__(self, offer: PoolOffer, zones: list[Zone], ledger: BillingLedger, seed: int) -> None:
        self.zones = zones
        self.nodes = ledger.nodes
        self.members: dict[NodeState, dict[int, None]] = {state: {} for state in NodeState}
        self.resting: dict[Tier, dict[int, None]] = {tier: {} for tier in HEADROOM}
        self.preparing: dict[Tier, dict[int, None]] = {tier: {} for tier in HEADROOM}
        self._offer = offer
        self._start_ups = Draws(seed, "start-up", ledger.pool, len(PHASES), normals)
        self._fates = Draws(seed, "fate", ledger.pool, 4, uniforms)
        self._latest: list[tuple[int, int]] = []

    def fate(self, node: SimulatedNode) -> list[float]:
        """Return the node's uniform draws: LIFE, NOTICE, REBALANCE and KEY."""
        return self._fates.row(node.number)

    def life_ps(self, node: SimulatedNode) -> int | None:
        """How long the node lives by its zone's own rate of losses; None: for ever. Exponential."""
        rate = self._offer.zones[self.zones[node.zone].name].losses_per_node_hour
        return to_ps(-3600 * math.log1p(-self.fate(node)[LIFE]) / rate) if rate else None

    def durations(self, node: SimulatedNode) -> Mapping[str, int]:
        """How long each phase of the node's start-up takes. Picoseconds."""
        return self._offer.start_up.durations(self._start_ups.row(node.number))

    @property
    def held(self) -> int:
        """Nodes that hold capacity, and count against the quota."""
        return sum(len(zone.nodes) for zone in self.zones)

    @property
    def within_quota(self) -> int:
        """Nodes that the quota still allows."""
        return UNLIMITED if self._offer.quota is None else max(0, self._offer.quota - self.held)

    @property
    def room(self) -> int:
        """Replicas that could be had now: from zones and headroom."""
        free = min(self.within_quota, sum(zone.room for zone in self.zones))
        ready_made = sum(len(self.resting[t]) for t in HEADROOM if t is not Tier.STOPPED)
        return free + ready_made + sum(len(found) for found in self.preparing.values())

    def launch(self, tier: Tier, now_ps: int, *, made: bool = False) -> SimulatedNode | None:
        """A new node on its way to `tier`, or to serve if that is COLD; None without room. `made`: it is there."""
        zone = choose(self.zones, self._offer.placement) if self.within_quota else None
        if zone is None:
            return None
        node = SimulatedNode(len(self.nodes), zone, tier, now_ps)
        self.nodes.append(node)
        self.zones[zone].nodes[node.number] = None
        if not made:
            node.plan = plan(self.durations(node), SERVE[tier] if tier is Tier.COLD else PREPARE[tier], now_ps)
        on_its_way = NodeState.RESTING if made else NodeState.PREPARING
        self.move(node, NodeState.STARTING if tier is Tier.COLD else on_its_way, now_ps)
        return node

    def take(self, now_ps: int) -> SimulatedNode | None:
        """A node of the headroom on its way to serve: the nearest to serving; None if there is none to be had."""
        node = self._nearest()
        if node is None:
            return None
        if node.number not in self.zones[node.zone].nodes:
            self.zones[node.zone].nodes[node.number] = None
        node.plan = to_serve(node, self.durations(node), now_ps)
        self.move(node, NodeState.STARTING, now_ps)
        return node

    def _nearest(self) -> SimulatedNode | None:
        for tier in HEADROOM:
            for number in self.resting[tier]:
                node = self.nodes[number]
                if tier is not Tier.STOPPED or (self.within_quota and self.zones[node.zone].room):
                    return node
        return next((self.nodes[n] for tier in HEADROOM for n in self.preparing[tier]), None)

    def move(self, node: SimulatedNode, state: NodeState, at_ps: int) -> None:
        """Move the node to a state, which must lie ahead of its own."""
        if node.moves:
            if state <= node.state or at_ps < node.moves[-1][0]:
                raise ValueError(f"node {node.number} cannot go from {node.state.name} to {state.name} at {at_ps} ps")
            self._leave(node)
        node.moves.append((at_ps, state))
        self.members[state][node.number] = None
        if state is NodeState.PREPARING:
            self.preparing[node.tier][node.number] = None
        elif state is NodeState.RESTING:
            self.resting[node.tier][node.number] = None
        elif state is NodeState.STARTING:
            heapq.heappush(self._latest, (-node.due_ps, -node.number))
        if state is NodeState.GONE or node.stopped:
            self.zones[node.zone].release(node.number)

    def _leave(self, node: SimulatedNode) -> None:
        del self.members[node.state][node.number]
        if node.state is NodeState.PREPARING:
            del self.preparing[node.tier][node.number]
        elif node.state is NodeState.RESTING:
            del self.resting[node.tier][node.number]

    def last_to_start(self) -> SimulatedNode | None:
        """Return the starting node that will be ready last, the newest among equals."""
        while self._latest:
            node = self.nodes[-self._latest[0][1]]
            if node.state is NodeState.STARTING and node.due_ps == -self._latest[0][0]:
                return node
            heapq.heappop(self._latest)
        return None

    def newest_ready(self, count: int) -> list[int]:
        """Return the `count` replicas that were ready last, the last one first."""
        return list(islice(reversed(self.members[NodeState.READY]), count))

    def oldest_ready(self, count: int) -> list[int]:
        """Return the `count` replicas that were ready first."""
        return list(islice(self.members[NodeState.READY], count))

    def least_ready(self, count: int, load: Callable[[int], int]) -> list[int]:
        """Return the `count` ready replicas with the least load, the newest first among equals."""
        return heapq.nsmallest(count, self.members[NodeState.READY], key=lambda number: (load(number), -number))
