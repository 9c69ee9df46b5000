"""The replicas of a pool: start, serve, drain, terminate, replace and scale in."""

from __future__ import annotations

from collections import Counter

from policies.model import PoolPart
from simulators.world.infrastructure.engines import ServingEngines
from simulators.world.infrastructure.events import EventKind, FleetEvent, NodeEventKind, Timetable
from simulators.world.infrastructure.inventory import KEY, KEYS, NodeInventory
from simulators.world.infrastructure.market import PoolOffer
from simulators.world.infrastructure.node_lifecycle import NodeState, SimulatedNode
from simulators.world.infrastructure.pending import WaitingReplicas
from simulators.world.infrastructure.units import to_ps

LIVE = (NodeState.STARTING, NodeState.READY)


class PoolReplicas:
    """The replicas of one pool and their `desired` number.

    `model` is the engines' number of their service model.

    `waiting` are replicas without a node; `interrupted` counts replicas lost without a request; `announced` are the
    nodes that serve on after an interruption notice.
    """

    def __init__(self, offer: PoolOffer, inventory: NodeInventory, engines: ServingEngines, model: int) -> None:
        self.offer, self.inventory = offer, inventory
        self.now_ps = 0
        self.desired = 0
        self.interrupted = 0
        self.announced: dict[int, None] = {}
        self.events: list[FleetEvent] = []
        self.timetable = Timetable()
        self.waiting = WaitingReplicas(offer.failures, self.timetable)
        self._engines, self._model = engines, model

    def start(self, node: SimulatedNode) -> None:
        """Let the node serve when its plan ends, or now if it has none."""
        if node.due_ps <= self.now_ps:
            self.serve(node)
        else:
            self.timetable.add(node.due_ps, EventKind.DONE, node.number)

    def serve(self, node: SimulatedNode) -> None:
        """Mark the node ready, and let its engine take requests."""
        node.engine = self._engines.add(self._model, int(self.inventory.draws(node)[KEY] * KEYS))
        self._engines.start(node.engine)
        self.inventory.move(node, NodeState.READY, self.now_ps)

    def finish_plan(self, node: SimulatedNode) -> None:
        """End the last phase of the node's plan."""
        if node.state is NodeState.PREPARING:
            self.inventory.move(node, NodeState.RESTING, self.now_ps)
        else:
            self.serve(node)

    def drain(self, node: SimulatedNode) -> None:
        """Drain the node.

        It takes no more requests, and is gone when it has none or its grace period ends.
        """
        self._engines.drain(node.engine)
        self.inventory.move(node, NodeState.DRAINING, self.now_ps)
        if not self._release_if_empty(node) and self.offer.grace_s is not None:
            self.timetable.add(self.now_ps + to_ps(self.offer.grace_s), EventKind.DEADLINE, node.number)

    @property
    def interruption_pending(self) -> int:
        """Number of ready replicas with an interruption pending."""
        return sum(self.inventory.nodes[number].state is NodeState.READY for number in self.announced)

    def parts(self) -> tuple[PoolPart, ...]:
        """Return the replicas that have a node, by zone. Zones without any are left out."""
        inventory, nodes = self.inventory, self.inventory.nodes
        ready = Counter(nodes[number].zone for number in inventory.members[NodeState.READY])
        pending = Counter(nodes[number].zone for number in inventory.members[NodeState.STARTING])
        announced = Counter(nodes[n].zone for n in self.announced if nodes[n].state is NodeState.READY)
        return tuple(
            PoolPart(zone.name, self.offer.market, ready[i], pending[i], announced[i])
            for i, zone in enumerate(inventory.zones)
            if ready[i] or pending[i]
        )

    def release_empty_nodes(self) -> None:
        """Release the nodes of draining replicas that are empty, at the time they became empty."""
        for number in list(self.inventory.members[NodeState.DRAINING]):
            self._release_if_empty(self.inventory.nodes[number])

    def _release_if_empty(self, node: SimulatedNode) -> bool:
        at_ps = self._engines.emptied_ps(node.engine)
        if at_ps >= 0:
            self.inventory.move(node, NodeState.GONE, at_ps)
        return at_ps >= 0

    def terminate(self, node: SimulatedNode, kind: NodeEventKind) -> None:
        """End the node now. Its requests are lost."""
        if node.state is NodeState.DRAINING and self._release_if_empty(node):
            return
        live = node.state in LIVE
        lost = self._engines.kill(node.engine) if node.state in {NodeState.READY, NodeState.DRAINING} else 0
        node.interrupted = kind is NodeEventKind.INTERRUPTED
        self._record_event(node, kind, lost)
        self.inventory.move(node, NodeState.GONE, self.now_ps)
        self.announced.pop(node.number, None)
        if live:
            self._replace()

    def handle_notice(self, node: SimulatedNode, kind: NodeEventKind) -> None:
        """Handle a notice or rebalance recommendation.

        Replace the node or serve on, as the offer specifies.
        """
        self._record_event(node, kind)
        action = self.offer.on_notice if kind is NodeEventKind.NOTICE else self.offer.on_rebalance
        if node.state is NodeState.DRAINING:
            return
        if action == "serve":
            self.announced[node.number] = None
            return
        live = node.state in LIVE
        if node.state is NodeState.READY:
            self.drain(node)
        else:
            self.inventory.move(node, NodeState.GONE, self.now_ps)
        if live:
            self._replace()

    def _replace(self) -> None:
        """Replace a lost replica, or shrink the pool, as the offer says."""
        self.interrupted += 1
        if self.offer.replace:
            self.waiting.add(1, self.now_ps)
        else:
            self.desired -= 1

    def _record_event(self, node: SimulatedNode, kind: NodeEventKind, lost_requests: int = 0) -> None:
        self.events.append(
            FleetEvent(self.now_ps, kind, node.number, self.inventory.zones[node.zone].name, lost_requests)
        )

    def scale_in(self, count: int) -> None:
        """Remove `count` replicas.

        Waiting ones are removed first, then starting ones, then ready ones in the offer's order.
        """
        self.desired -= count
        count -= self.waiting.drop(count)
        while count and (node := self.inventory.latest_starting()) is not None:
            self.inventory.move(node, NodeState.GONE, self.now_ps)
            count -= 1
        for number in self._scale_in_order(count):
            self.drain(self.inventory.nodes[number])

    def _scale_in_order(self, count: int) -> list[int]:
        if self.offer.scale_in == "newest":
            return self.inventory.newest_ready(count)
        if self.offer.scale_in == "oldest":
            return self.inventory.oldest_ready(count)
        nodes, load = self.inventory.nodes, self._engines.outstanding
        return self.inventory.least_loaded(count, lambda number: load(nodes[number].engine))
