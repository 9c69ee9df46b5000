"""The cloud's side of a pool: zone capacity changes, interruption notices and interruptions."""

from __future__ import annotations

from simulators.world.infrastructure.billing import BillingLedger
from simulators.world.infrastructure.events import EventKind, NodeEventKind, ScheduledEvent
from simulators.world.infrastructure.inventory import NOTICE, REBALANCE
from simulators.world.infrastructure.node_lifecycle import SimulatedNode
from simulators.world.infrastructure.replicas import PoolReplicas
from simulators.world.infrastructure.units import to_ps
from simulators.world.infrastructure.zones import choose_interrupted


class InterruptionProcess:
    """Capacity changes and interruptions of a pool.

    It knows each zone's next change, and announces it as offered.

    With a notice of 120 s and a change to 3 nodes at 1000 s, a zone with 4 spot nodes handles WARN at 880 s: one node
    gets its notice then, and is interrupted at 1000 s.
    """

    def __init__(self, replicas: PoolReplicas, ledger: BillingLedger, seed: int) -> None:
        self._replicas, self._ledger, self._seed = replicas, ledger, seed
        self._offer, self._inventory, self._timetable = replicas.offer, replicas.inventory, replicas.timetable
        self._notices = replicas.offer.active_notices
        self._lead_ps = to_ps(self._notices.lead_s)
        self._is_spot = self._offer.market == "spot"
        for i, zone in enumerate(self._inventory.zones):
            self._set_limit(i, next(zone.supply)[1])
            self._schedule_next_change(i)

    def watch(self, node: SimulatedNode) -> None:
        """Schedule the random end of a node that runs from now on."""
        life_ps = self._inventory.life_ps(node)
        if life_ps is not None:
            now_ps = self._replicas.now_ps
            node.life_end_ps = now_ps + life_ps
            self._timetable.add(max(now_ps, node.life_end_ps - self._lead_ps), EventKind.LIFE_END, node.number)

    def schedule_interruption(self, node: SimulatedNode, at_ps: int) -> None:
        """Schedule the loss of a node at `at_ps`, with the notices that the offer gives.

        Keep an earlier loss.
        """
        if node.interruption_ps is not None and node.interruption_ps <= at_ps:
            return
        node.interruption_ps = at_ps
        self._inventory.zones[node.zone].pending_interruptions[node.number] = None
        self._timetable.add(at_ps, EventKind.LOSS, node.number)
        notices, draws = self._notices, self._inventory.draws(node)
        if draws[NOTICE] >= notices.missing_share:
            self._announce(node, EventKind.NOTICE, at_ps, notices.notice_s)
        if draws[REBALANCE] >= notices.rebalance_missing_share:
            self._announce(node, EventKind.REBALANCE, at_ps, notices.rebalance_s)

    def _announce(self, node: SimulatedNode, kind: EventKind, loss_ps: int, ahead_s: float) -> None:
        at_ps = loss_ps - to_ps(ahead_s)
        if ahead_s and at_ps >= self._replicas.now_ps:
            self._timetable.add(at_ps, kind, node.number)

    def handle(self, entry: ScheduledEvent) -> None:
        """Apply an event of the cloud: LIFE_END, WARN, CHANGE or LOSS."""
        if entry.kind is EventKind.WARN:
            self._warn(entry.subject)
        elif entry.kind is EventKind.CHANGE:
            self._change(entry.subject, entry.limit)
        elif entry.kind is EventKind.LOSS:
            self._replicas.terminate(
                self._inventory.nodes[entry.subject],
                NodeEventKind.INTERRUPTED if self._is_spot else NodeEventKind.FAILED,
            )
        else:
            node = self._inventory.nodes[entry.subject]
            self.schedule_interruption(node, node.life_end_ps)

    def _schedule_next_change(self, i: int) -> None:
        """Read a zone's next change, and schedule its announcement."""
        zone = self._inventory.zones[i]
        zone.next_change = next(zone.supply, None)
        if zone.next_change is not None:
            self._timetable.add(max(self._replicas.now_ps, zone.next_change[0] - self._lead_ps), EventKind.WARN, i)

    def _warn(self, i: int) -> None:
        """Choose the spot nodes that a zone's next change interrupts. Other nodes are kept."""
        zone = self._inventory.zones[i]
        if zone.next_change is None:
            return
        at_ps, limit = zone.next_change
        self._replicas.release_empty_nodes()
        for number in self._choose_interrupted(i, zone.excess(limit) if self._is_spot else 0):
            self.schedule_interruption(self._inventory.nodes[number], at_ps)
        self._timetable.add(at_ps, EventKind.CHANGE, i, limit)
        self._schedule_next_change(i)

    def _change(self, i: int, limit: int | None) -> None:
        """Change a zone's capacity.

        Spot nodes that started since the announcement and exceed it go without notice.
        """
        self._replicas.release_empty_nodes()
        self._set_limit(i, limit)
        zone = self._inventory.zones[i]
        excess = max(0, len(zone.nodes) - limit) if self._is_spot and limit is not None else 0
        pending = list(zone.pending_interruptions)[:excess]
        for number in [*pending, *self._choose_interrupted(i, excess - len(pending))]:
            self._replicas.terminate(self._inventory.nodes[number], NodeEventKind.INTERRUPTED)

    def _choose_interrupted(self, i: int, count: int) -> list[int]:
        return (
            choose_interrupted(self._inventory.zones[i], count, self._offer.reclaim, self._seed, self._ledger.pool)
            if count
            else []
        )

    def _set_limit(self, i: int, limit: int | None) -> None:
        self._inventory.zones[i].limit = limit
        self._ledger.limits[i].append((self._replicas.now_ps, limit))
