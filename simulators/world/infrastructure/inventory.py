"""The nodes of a pool by state.

The inventory handles their launch, headroom, state changes, and the order in which they scale in.
"""

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


class NodeInventory:
    """The nodes of one pool, indexed by state and tier."""

    def __init__(self, offer: PoolOffer, zones: list[Zone], ledger: BillingLedger, seed: int) -> None:
        self.zones = zones
        self.nodes = ledger.nodes
        self.members: dict[NodeState, dict[int, None]] = {state: {} for state in NodeState}
        self.resting: dict[Tier, dict[int, None]] = {tier: {} for tier in HEADROOM}
        self.preparing: dict[Tier, dict[int, None]] = {tier: {} for tier in HEADROOM}
        self._offer = offer
        self._start_ups = Draws(seed, "start-up", ledger.pool, len(PHASES), normals)
        self._node_draws = Draws(seed, "fate", ledger.pool, 4, uniforms)
        self._starting: list[tuple[int, int]] = []

    def draws(self, node: SimulatedNode) -> list[float]:
        """Return the node's uniform draws: LIFE, NOTICE, REBALANCE and KEY."""
        return self._node_draws.row(node.number)

    def life_ps(self, node: SimulatedNode) -> int | None:
        """Return the node's life in picoseconds, or None for a life without end.

        The life is drawn from an exponential with its zone's loss rate. A rate of 2 per hour and a draw of 0.5 give
        3600 * ln(2) / 2 = 1248 s.
        """
        rate = self._offer.zones[self.zones[node.zone].name].losses_per_node_hour
        return to_ps(-3600 * math.log1p(-self.draws(node)[LIFE]) / rate) if rate else None

    def durations(self, node: SimulatedNode) -> Mapping[str, int]:
        """Return the duration of each phase of the node's start-up. Picoseconds."""
        return self._offer.start_up.durations(self._start_ups.row(node.number))

    @property
    def held(self) -> int:
        """Number of nodes that hold capacity and count against the quota."""
        return sum(len(zone.nodes) for zone in self.zones)

    @property
    def quota_left(self) -> int:
        """Number of nodes that the quota still allows."""
        return UNLIMITED if self._offer.quota is None else max(0, self._offer.quota - self.held)

    @property
    def obtainable(self) -> int:
        """Number of replicas that zones and headroom can provide now."""
        free = min(self.quota_left, sum(zone.free for zone in self.zones))
        from_headroom = sum(len(self.resting[t]) for t in HEADROOM if t is not Tier.STOPPED)
        return free + from_headroom + sum(len(nodes) for nodes in self.preparing.values())

    def launch(self, tier: Tier, now_ps: int, *, existing: bool = False) -> SimulatedNode | None:
        """Return a new node that prepares for `tier`; None without capacity.

        With the tier COLD, the node starts to serve instead. An `existing` node has no start-up left.
        """
        zone = choose(self.zones, self._offer.placement) if self.quota_left else None
        if zone is None:
            return None
        node = SimulatedNode(len(self.nodes), zone, tier, now_ps)
        self.nodes.append(node)
        self.zones[zone].nodes[node.number] = None
        if not existing:
            node.plan = plan(self.durations(node), SERVE[tier] if tier is Tier.COLD else PREPARE[tier], now_ps)
        initial_state = NodeState.RESTING if existing else NodeState.PREPARING
        self.move(node, NodeState.STARTING if tier is Tier.COLD else initial_state, now_ps)
        return node

    def take_from_headroom(self, now_ps: int) -> SimulatedNode | None:
        """Start the headroom node that can serve first, and return it; None if there is none."""
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
                if tier is not Tier.STOPPED or (self.quota_left and self.zones[node.zone].free):
                    return node
        return next((self.nodes[n] for tier in HEADROOM for n in self.preparing[tier]), None)

    def move(self, node: SimulatedNode, state: NodeState, at_ps: int) -> None:
        """Move the node to a later state. Raises `ValueError` for an earlier one."""
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
            heapq.heappush(self._starting, (-node.due_ps, -node.number))
        if state is NodeState.GONE or node.stopped:
            self.zones[node.zone].release(node.number)

    def _leave(self, node: SimulatedNode) -> None:
        del self.members[node.state][node.number]
        if node.state is NodeState.PREPARING:
            del self.preparing[node.tier][node.number]
        elif node.state is NodeState.RESTING:
            del self.resting[node.tier][node.number]

    def latest_starting(self) -> SimulatedNode | None:
        """Return the starting node that will be ready last; None if none starts.

        Among equals, it is the newest one.
        """
        while self._starting:
            node = self.nodes[-self._starting[0][1]]
            if node.state is NodeState.STARTING and node.due_ps == -self._starting[0][0]:
                return node
            heapq.heappop(self._starting)
        return None

    def newest_ready(self, count: int) -> list[int]:
        """Return the `count` replicas that became ready last, the last one first."""
        return list(islice(reversed(self.members[NodeState.READY]), count))

    def oldest_ready(self, count: int) -> list[int]:
        """Return the `count` replicas that became ready first."""
        return list(islice(self.members[NodeState.READY], count))

    def least_loaded(self, count: int, load: Callable[[int], int]) -> list[int]:
        """Return the `count` ready replicas with the least load, the newest first among equals."""
        return heapq.nsmallest(count, self.members[NodeState.READY], key=lambda number: (load(number), -number))
