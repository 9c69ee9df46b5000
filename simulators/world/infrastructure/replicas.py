"""What becomes of a pool's replicas: they start, serve, drain, are cut, and are made up for."""

from __future__ import annotations

from collections import Counter

from policies.model import Part
from simulators.world.infrastructure.engines import Engines
from simulators.world.infrastructure.events import EventKind, FleetEvent, NodeEventKind, Timetable
from simulators.world.infrastructure.inventory import KEY, KEYS, Stock
from simulators.world.infrastructure.market import PoolOffer
from simulators.world.infrastructure.node_lifecycle import NodeState, SimulatedNode
from simulators.world.infrastructure.pending import Waiting
from simulators.world.infrastructure.units import to_ps

LIVE = (NodeState.STARTING, NodeState.READY)


class PoolReplicas:
    """The replicas of one pool, and how many are wanted. `now_ps` is the present; `model` the engines' number of it.

    `waiting` are those that have no node yet; `taken` counts the replicas that left without being asked; `announced`
    are the nodes that serve on after the cloud said that it will take them.
    """

    def __init__(self, offer: PoolOffer, stock: Stock, engines: Engines, model: int) -> None:
        self.offer, self.stock = offer, stock
        self.now_ps = 0
        self.desired = 0
        self.taken = 0
        self.announced: dict[int, None] = {}
        self.events: list[FleetEvent] = []
        self.timetable = Timetable()
        self.waiting = Waiting(offer.failures, self.timetable)
        self._engines, self._model = engines, model

    def start(self, node: SimulatedNode) -> None:
        """Start the node: it serves when its plan is done, now if there is nothing to do."""
        if node.due_ps <= self.now_ps:
            self.serve(node)
        else:
            self.timetable.add(node.due_ps, EventKind.DONE, node.number)

    def serve(self, node: SimulatedNode) -> None:
        """Mark the node ready: its engine takes requests."""
        node.engine = self._engines.add(self._model, int(self.stock.fate(node)[KEY] * KEYS))
        self._engines.start(node.engine)
        self.stock.move(node, NodeState.READY, self.now_ps)

    def done(self, node: SimulatedNode) -> None:
        """End the last phase of the node's plan."""
        if node.state is NodeState.PREPARING:
            self.stock.move(node, NodeState.RESTING, self.now_ps)
        else:
            self.serve(node)

    def drain(self, node: SimulatedNode) -> None:
        """Drain the node: it takes no more requests, and goes when it has none or its grace is over."""
        self._engines.drain(node.engine)
        self.stock.move(node, NodeState.DRAINING, self.now_ps)
        if not self._emptied(node) and self.offer.grace_s is not None:
            self.timetable.add(self.now_ps + to_ps(self.offer.grace_s), EventKind.DEADLINE, node.number)

    @property
    def doomed(self) -> int:
        """Ready replicas whose nodes the cloud said it will take."""
        return sum(self.stock.nodes[number].state is NodeState.READY for number in self.announced)

    def parts(self) -> tuple[Part, ...]:
        """Return the replicas that have a node, by zone; zones without any are left out."""
        stock, nodes = self.stock, self.stock.nodes
        ready = Counter(nodes[number].zone for number in stock.members[NodeState.READY])
        pending = Counter(nodes[number].zone for number in stock.members[NodeState.STARTING])
        doomed = Counter(nodes[n].zone for n in self.announced if nodes[n].state is NodeState.READY)
        return tuple(
            Part(zone.name, self.offer.market, ready[i], pending[i], doomed[i])
            for i, zone in enumerate(stock.zones)
            if ready[i] or pending[i]
        )

    def settle(self) -> None:
        """See which draining replicas are empty: their nodes went when they became so."""
        for number in list(self.stock.members[NodeState.DRAINING]):
            self._emptied(self.stock.nodes[number])

    def _emptied(self, node: SimulatedNode) -> bool:
        at_ps = self._engines.emptied_ps(node.engine)
        if at_ps >= 0:
            self.stock.move(node, NodeState.GONE, at_ps)
        return at_ps >= 0

    def cut(self, node: SimulatedNode, kind: NodeEventKind) -> None:
        """End the node now, with all that it serves."""
        if node.state is NodeState.DRAINING and self._emptied(node):
            return
        live = node.state in LIVE
        lost = self._engines.kill(node.engine) if node.state in {NodeState.READY, NodeState.DRAINING} else 0
        node.interrupted = kind is NodeEventKind.INTERRUPTED
        self._tell(node, kind, lost)
        self.stock.move(node, NodeState.GONE, self.now_ps)
        self.announced.pop(node.number, None)
        if live:
            self._make_up()

    def warned(self, node: SimulatedNode, kind: NodeEventKind) -> None:
        """Handle an interruption notice: leave the node, or serve on, as the offer says."""
        self._tell(node, kind)
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
            self.stock.move(node, NodeState.GONE, self.now_ps)
        if live:
            self._make_up()

    def _make_up(self) -> None:
        """For a replica that left without being asked: another one waits for capacity, or the pool is smaller."""
        self.taken += 1
        if self.offer.replace:
            self.waiting.add(1, self.now_ps)
        else:
            self.desired -= 1

    def _tell(self, node: SimulatedNode, kind: NodeEventKind, cut: int = 0) -> None:
        self.events.append(FleetEvent(self.now_ps, kind, node.number, self.stock.zones[node.zone].name, cut))

    def dismiss(self, count: int) -> None:
        """Fewer are wanted. Waiting ones go first, then the last to be ready, then ready ones in the offer's order."""
        self.desired -= count
        count -= self.waiting.drop(count)
        while count and (node := self.stock.last_to_start()) is not None:
            self.stock.move(node, NodeState.GONE, self.now_ps)
            count -= 1
        for number in self._victims(count):
            self.drain(self.stock.nodes[number])

    def _victims(self, count: int) -> list[int]:
        if self.offer.scale_in == "newest":
            return self.stock.newest_ready(count)
        if self.offer.scale_in == "oldest":
            return self.stock.oldest_ready(count)
        nodes, load = self.stock.nodes, self._engines.outstanding
        return self.stock.least_ready(count, lambda number: load(nodes[number].engine))
