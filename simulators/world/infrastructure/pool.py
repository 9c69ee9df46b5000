"""One pool of the simulated world.

Its replicas start, serve, drain, are lost and are billed as time advances.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from policies.model import PoolStatus, Shortfall
from scaler.config.checks import own_problems
from scaler.ports import OutOfCapacity, OutOfQuota
from simulators.world.infrastructure.billing import Bill, BillingLedger, bill
from simulators.world.infrastructure.engines import ServingEngines
from simulators.world.infrastructure.events import EventKind, FleetEvent, NodeEventKind, ScheduledEvent
from simulators.world.infrastructure.interruptions import InterruptionProcess
from simulators.world.infrastructure.inventory import NodeInventory
from simulators.world.infrastructure.market import PoolOffer
from simulators.world.infrastructure.node_lifecycle import HEADROOM, SERVE, NodeState, SimulatedNode, Tier
from simulators.world.infrastructure.replicas import PoolReplicas
from simulators.world.infrastructure.units import micro_usd_per_hour, to_s
from simulators.world.infrastructure.update_lock import PoolUpdates, UpdateLock
from simulators.world.infrastructure.zones import Zone


class FleetPool:
    """A pool of the fleet. Times are picoseconds from the world's start, and never decrease.

    The caller calls `advance` at every `next_event_ps()`, with the engines advanced to the same time. `desired` counts
    replicas that wait for capacity, start or are ready; draining ones are not included. `model` is the engines' number
    of the offer's model. Traces are read from `folder`. `epoch_s` is the Unix time of the world's start. `lock` is the
    lock of its updates, if it shares one.
    """

    def __init__(  # noqa: PLR0913 - the pool and its surroundings
        self,
        name: str,
        offer: PoolOffer,
        engines: ServingEngines,
        *,
        model: int,
        seed: int,
        folder: Path = Path(),
        epoch_s: float = 0.0,
        lock: UpdateLock | None = None,
    ) -> None:
        """Open the pool.

        Raises `ValueError` with every problem of the offer, or the problem of a trace.
        """
        problems = [f"{'.'.join(map(str, place))} {rule}" for place, rule, _ in own_problems(offer)]
        if problems:
            raise ValueError(f"pool {name}: {'; '.join(problems)}")
        self.name, self.offer, self._epoch_s = name, offer, epoch_s
        self.headroom = offer.headroom.counts()
        self.ledger = _ledger(name, offer)
        zones = [Zone(zone, z.supply(seed, f"{name}/{zone}", folder)) for zone, z in offer.zones.items()]
        self._inventory = NodeInventory(offer, zones, self.ledger, seed)
        self._replicas = PoolReplicas(offer, self._inventory, engines, model)
        self._cloud = InterruptionProcess(self._replicas, self.ledger, seed)
        self._timetable = self._replicas.timetable
        self._updates = (
            PoolUpdates(name, offer.updates, lock or UpdateLock(), self._replicas, seed) if offer.updates else None
        )

    @property
    def desired(self) -> int:
        """Number of requested replicas."""
        return self._replicas.desired

    @property
    def waiting(self) -> int:
        """Number of requested replicas that wait for a node."""
        return len(self._replicas.waiting)

    @property
    def failed(self) -> int:
        """Number of waiting replicas that the platform reports as failed."""
        return self._replicas.waiting.failed

    @property
    def is_updating(self) -> bool:
        """Whether an update of its size is in progress, or its roll-back."""
        return self._updates is not None and self._updates.before is not None

    @property
    def events(self) -> Sequence[FleetEvent]:
        """Node events that the controller did not request, in order of time."""
        return self._replicas.events

    def draining(self) -> int:
        """Return the number of draining replicas."""
        self._replicas.release_empty_nodes()
        return len(self._inventory.members[NodeState.DRAINING])

    def start_up_ps(self, number: int) -> int:
        """Return the cold-start time of node `number`. Picoseconds."""
        durations = self._inventory.durations(SimulatedNode(number, 0, Tier.COLD, 0))
        return sum(durations[phase] for phase in SERVE[Tier.COLD])

    def status(self, now_ps: int) -> PoolStatus:
        """Return the pool's status as its platform reports it."""
        self.advance(now_ps)
        replicas = self._replicas
        ready = len(self._inventory.members[NodeState.READY])
        reports = self.offer.reports
        return PoolStatus(
            self.desired,
            ready,
            interruption_pending=replicas.interruption_pending,
            interrupted=replicas.interrupted,
            failed=replicas.waiting.failed,
            shortfall=self._shortfall(),
            reserved=sum(self.ledger.reserved or ()) if "reserved" in reports else None,
            parts=replicas.parts() if "parts" in reports else (),
        )

    def headroom_status(self, tier: Tier, now_ps: int) -> PoolStatus:
        """Return the target and the resting nodes of a headroom tier."""
        self.advance(now_ps)
        return PoolStatus(self.headroom[tier], len(self._inventory.resting[tier]))

    def bill(self, now_ps: int, busy_ps: Callable[[int], int]) -> Bill:
        """Return the bill up to now.

        ``busy_ps(replica)`` is the replica's time with requests outstanding.
        """
        self.advance(now_ps)
        self._replicas.release_empty_nodes()
        return bill(self.ledger, now_ps, busy_ps)

    def next_event_ps(self) -> int | None:
        """Return when the pool must be advanced next; None without a scheduled event."""
        while (entry := self._timetable.first()) is not None:
            if not self._is_stale(entry):
                return entry.at_ps
            self._timetable.pop()
        return None

    def begin(self, replicas: int) -> None:
        """Start with `replicas` that serve already and with full headroom.

        Replicas without capacity wait.
        """
        if self.ledger.nodes or self._replicas.now_ps:
            raise ValueError(f"pool {self.name} has already started: call begin first, at time 0")
        for tier in HEADROOM:
            for _ in range(self.headroom[tier]):
                self._launch(tier, existing=True)
        self._replicas.desired = replicas
        self._replicas.waiting.add(replicas, 0)
        while self.waiting and (node := self._launch(Tier.COLD, existing=True)) is not None:
            self._replicas.waiting.remove_oldest()
            self._replicas.serve(node)

    def advance(self, now_ps: int) -> None:
        """Handle the events due now. Raises `ValueError` if an earlier one was missed."""
        if now_ps < self._replicas.now_ps:
            raise ValueError(f"pool {self.name}: time cannot move back from {self._replicas.now_ps} to {now_ps} ps")
        due_ps = self.next_event_ps()
        if due_ps is not None and due_ps < now_ps:
            problem = f"missed an event at {to_s(due_ps):g} s, advanced to {to_s(now_ps):g} s"
            raise ValueError(f"pool {self.name}: {problem}: stop the world at next_event_ps()")
        if self._updates is not None:  # before a loss of this time makes replicas start again
            self._updates.settle(now_ps)
        self._replicas.now_ps = now_ps
        while due_ps == now_ps:
            self._handle(self._timetable.pop())
            due_ps = self.next_event_ps()
        self._fill()

    def resize(self, replicas: int, now_ps: int) -> None:
        """Request a number of replicas.

        Raises `OutOfCapacity`, `OutOfQuota` or `Conflict`, as the offer says.
        """
        if replicas < 0:
            raise ValueError(f"pool {self.name}: replicas must be 0 or more, not {replicas}")
        self.advance(now_ps)
        self._replicas.release_empty_nodes()
        if self._updates is not None and replicas != self.desired:
            self._updates.require_free(now_ps)
        before = self.desired
        try:
            if replicas > self.desired:
                self._grow(replicas - self.desired)
            elif replicas < self.desired:
                self._replicas.waiting.forget_report()
                self._replicas.scale_in(self.desired - replicas)
        finally:
            if self._updates is not None and self.desired != before:
                self._updates.begin(before, now_ps)
            self._fill()

    def resize_headroom(self, tier: Tier, nodes: int, now_ps: int) -> None:
        """Set the target of a headroom tier."""
        if nodes < 0 or tier not in self.headroom:
            raise ValueError(
                f"pool {self.name}: cannot keep {nodes} nodes {tier}: must be 0 or more, in {list(HEADROOM)}"
            )
        self.advance(now_ps)
        self.headroom[tier] = nodes
        self._fill()

    def interrupt(self, number: int, at_ps: int, now_ps: int) -> None:
        """Schedule the loss of a node at `at_ps`, with the offer's notices."""
        self.advance(now_ps)
        node = self.ledger.nodes[number]
        if number not in self._inventory.zones[node.zone].nodes or at_ps < now_ps:
            raise ValueError(f"pool {self.name}: node {number} ({node.state.name}) cannot be interrupted at {at_ps} ps")
        self._cloud.schedule_interruption(node, at_ps)
        self.advance(now_ps)

    def _grow(self, count: int) -> None:
        offer = self.offer
        requested = self._inventory.held + self.waiting + count
        fails_later = offer.failures is not None and offer.failures.quota
        if offer.quota is not None and requested > offer.quota and not fails_later:
            raise OutOfQuota(
                f"pool {self.name}: {requested} nodes exceed the quota of {offer.quota}: request a quota increase"
            )
        available = self._inventory.obtainable  # `_fill` has served the replicas that waited before
        granted = count if offer.on_shortage == "wait" else min(count, available)
        if granted < count and offer.on_shortage == "refuse":
            granted = 0
        self._replicas.desired += granted
        self._replicas.waiting.request(granted, self._replicas.now_ps)
        if granted < count:
            request = f"{count} more {offer.market} replicas requested in {', '.join(offer.zones)}"
            raise OutOfCapacity(f"pool {self.name}: {request}, {available} available, {granted} granted")

    def _fill(self) -> None:
        """Give nodes to waiting replicas, then to the headroom, while there is capacity."""
        waiting = self._replicas.waiting
        if waiting:
            self._replicas.release_empty_nodes()
        while waiting.eligible and (node := self._obtain_node()) is not None:
            waiting.remove_oldest()
            self._replicas.start(node)
        for tier, target in self.headroom.items():
            self._resize_tier(tier, target)

    def _handle_failures(self, entry: ScheduledEvent) -> None:
        """Retry failed replicas or report new failures, after one more attempt to find nodes."""
        replicas = self._replicas
        if entry.kind is EventKind.RETRY:
            replicas.waiting.retry(replicas.now_ps)
        self._fill()
        failed = replicas.waiting.give_up(replicas.now_ps, quota=not self._inventory.quota_left)
        replicas.desired -= failed
        if failed and self._updates is not None and self.offer.restores:
            self._updates.restore(replicas.now_ps)

    def _shortfall(self) -> Shortfall | None:
        """Return the reason of the failed replicas as the port's record."""
        report, offer = self._replicas.waiting.report, self.offer
        if report is None:
            return None
        quota = f"the quota of {offer.quota} nodes is exhausted: request a quota increase"
        reason = quota if report.quota else f"no {offer.market} capacity in {', '.join(offer.zones)}"
        return Shortfall(self._epoch_s + to_s(report.at_ps), reason, report.quota)

    def _obtain_node(self) -> SimulatedNode | None:
        """Return a node that starts to serve; None without capacity.

        The node is from the headroom, or a new one.
        """
        node = self._inventory.take_from_headroom(self._replicas.now_ps)
        if node is None:
            return self._launch(Tier.COLD)
        if node.tier is Tier.STOPPED:
            self._cloud.watch(node)
        return node

    def _launch(self, tier: Tier, *, existing: bool = False) -> SimulatedNode | None:
        node = self._inventory.launch(tier, self._replicas.now_ps, existing=existing)
        if node is not None:
            self._cloud.watch(node)
        return node

    def _resize_tier(self, tier: Tier, target: int) -> None:
        """Bring a headroom tier to its target. Nodes still in preparation are removed first."""
        resting, preparing = self._inventory.resting[tier], self._inventory.preparing[tier]
        while len(resting) + len(preparing) > target:
            number = next(reversed(preparing or resting))
            self._inventory.move(self.ledger.nodes[number], NodeState.GONE, self._replicas.now_ps)
        while len(resting) + len(preparing) < target:
            node = self._launch(tier)
            if node is None:
                return
            self._timetable.add(node.due_ps, EventKind.DONE, node.number)

    def _is_stale(self, entry: ScheduledEvent) -> bool:
        """Return whether an entry no longer applies, because its node has changed state."""
        if entry.kind in {EventKind.WARN, EventKind.CHANGE}:
            return False
        if entry.kind in {EventKind.RETRY, EventKind.FAIL}:
            return self._replicas.waiting.is_stale(entry)
        node = self.ledger.nodes[entry.subject]
        if entry.kind is EventKind.DONE:
            return node.state not in {NodeState.PREPARING, NodeState.STARTING} or node.due_ps != entry.at_ps
        if entry.kind is EventKind.LOSS:
            return node.state is NodeState.GONE or node.interruption_ps != entry.at_ps
        if entry.kind is EventKind.DEADLINE:
            return node.state is not NodeState.DRAINING
        return node.number not in self._inventory.zones[node.zone].nodes

    def _handle(self, entry: ScheduledEvent) -> None:
        if entry.kind <= EventKind.LIFE_END:
            self._cloud.handle(entry)
            return
        if entry.kind in {EventKind.RETRY, EventKind.FAIL}:
            self._handle_failures(entry)
            return
        node = self.ledger.nodes[entry.subject]
        if entry.kind is EventKind.DONE:
            self._replicas.finish_plan(node)
        elif entry.kind is EventKind.DEADLINE:
            self._replicas.terminate(node, NodeEventKind.CUT)
        else:
            self._replicas.handle_notice(
                node, NodeEventKind.NOTICE if entry.kind is EventKind.NOTICE else NodeEventKind.REBALANCE
            )


def _ledger(name: str, offer: PoolOffer) -> BillingLedger:
    zones = offer.zones
    return BillingLedger(
        pool=name,
        market=offer.market,
        rule=offer.rule,
        prices=[micro_usd_per_hour(offer.price(zone) or 0) for zone in zones],
        disk_price=micro_usd_per_hour(offer.disk_usd_per_hour or 0),
        reserved=[zone.capacity or 0 for zone in zones.values()] if offer.market == "reserved" else None,
        limits=[[] for _ in zones],
    )
