"""What the cloud does to a pool: its zones' capacity rises and falls, nodes are announced to go, and taken."""

from __future__ import annotations

from simulators.world.infrastructure.billing import BillingLedger
from simulators.world.infrastructure.events import EventKind, NodeEventKind, ScheduledEvent
from simulators.world.infrastructure.inventory import NOTICE, REBALANCE
from simulators.world.infrastructure.node_lifecycle import SimulatedNode
from simulators.world.infrastructure.replicas import PoolReplicas
from simulators.world.infrastructure.units import to_ps
from simulators.world.infrastructure.zones import taken


class Cloud:
    """The other side of a pool's market. It knows each zone's next change, and warns before it as the offer says."""

    def __init__(self, replicas: PoolReplicas, ledger: BillingLedger, seed: int) -> None:
        self._replicas, self._ledger, self._seed = replicas, ledger, seed
        self._offer, self._stock, self._timetable = replicas.offer, replicas.stock, replicas.timetable
        self._said = replicas.offer.said
        self._lead_ps = to_ps(self._said.lead_s)
        self._takes = self._offer.market == "spot"
        for i, zone in enumerate(self._stock.zones):
            self._offered(i, next(zone.supply)[1])
            self._look_ahead(i)

    def watch(self, node: SimulatedNode) -> None:
        """Follow a node that runs from now on: its own end is settled by what was drawn for it."""
        life_ps = self._stock.life_ps(node)
        if life_ps is not None:
            now_ps = self._replicas.now_ps
            node.ends_ps = now_ps + life_ps
            self._timetable.add(max(now_ps, node.ends_ps - self._lead_ps), EventKind.FATE, node.number)

    def doom(self, node: SimulatedNode, at_ps: int) -> None:
        """Settle that the cloud takes the node at a time, with as much notice as the offer gives, or none."""
        if node.doomed_ps is not None and node.doomed_ps <= at_ps:
            return
        node.doomed_ps = at_ps
        self._stock.zones[node.zone].doomed[node.number] = None
        self._timetable.add(at_ps, EventKind.LOSS, node.number)
        said, fate = self._said, self._stock.fate(node)
        if fate[NOTICE] >= said.missing_share:
            self._announce(node, EventKind.NOTICE, at_ps, said.notice_s)
        if fate[REBALANCE] >= said.rebalance_missing_share:
            self._announce(node, EventKind.REBALANCE, at_ps, said.rebalance_s)

    def _announce(self, node: SimulatedNode, due: EventKind, loss_ps: int, ahead_s: float) -> None:
        at_ps = loss_ps - to_ps(ahead_s)
        if ahead_s and at_ps >= self._replicas.now_ps:
            self._timetable.add(at_ps, due, node.number)

    def do(self, entry: ScheduledEvent) -> None:
        """Apply an event of the cloud: FATE, WARN, CHANGE or LOSS."""
        if entry.due is EventKind.WARN:
            self._warn(entry.subject)
        elif entry.due is EventKind.CHANGE:
            self._change(entry.subject, entry.limit)
        elif entry.due is EventKind.LOSS:
            self._replicas.cut(
                self._stock.nodes[entry.subject], NodeEventKind.INTERRUPTED if self._takes else NodeEventKind.FAILED
            )
        else:
            node = self._stock.nodes[entry.subject]
            self.doom(node, node.ends_ps)

    def _look_ahead(self, i: int) -> None:
        """Read a zone's next change, and note when the cloud begins to act on it."""
        zone = self._stock.zones[i]
        zone.coming = next(zone.supply, None)
        if zone.coming is not None:
            self._timetable.add(max(self._replicas.now_ps, zone.coming[0] - self._lead_ps), EventKind.WARN, i)

    def _warn(self, i: int) -> None:
        """Settle which spot nodes go when a zone's capacity falls; other nodes are kept."""
        zone = self._stock.zones[i]
        if zone.coming is None:
            return
        at_ps, limit = zone.coming
        self._replicas.settle()
        for number in self._taken(i, zone.excess(limit) if self._takes else 0):
            self.doom(self._stock.nodes[number], at_ps)
        self._timetable.add(at_ps, EventKind.CHANGE, i, limit)
        self._look_ahead(i)

    def _change(self, i: int, limit: int | None) -> None:
        """Change a zone's capacity. Nodes started since the warning that exceed it go without notice."""
        self._replicas.settle()
        self._offered(i, limit)
        zone = self._stock.zones[i]
        excess = max(0, len(zone.nodes) - limit) if self._takes and limit is not None else 0
        sooner = list(zone.doomed)[:excess]
        for number in [*sooner, *self._taken(i, excess - len(sooner))]:
            self._replicas.cut(self._stock.nodes[number], NodeEventKind.INTERRUPTED)

    def _taken(self, i: int, count: int) -> list[int]:
        return taken(self._stock.zones[i], count, self._offer.reclaim, self._seed, self._ledger.pool) if count else []

    def _offered(self, i: int, limit: int | None) -> None:
        self._stock.zones[i].limit = limit
        self._ledger.limits[i].append((self._replicas.now_ps, limit))
