"""One pool of the simulated world, driven by time: replicas come, serve, drain, are lost, and are paid for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from policies.model import PoolStatus, Shortfall
from scaler.config.checks import own_problems
from scaler.ports import OutOfCapacity, OutOfQuota
from simulators.world.infrastructure.billing import Bill, BillingLedger, bill
from simulators.world.infrastructure.engines import Engines
from simulators.world.infrastructure.events import EventKind, FleetEvent, NodeEventKind, ScheduledEvent
from simulators.world.infrastructure.interruptions import Cloud
from simulators.world.infrastructure.inventory import Stock
from simulators.world.infrastructure.market import PoolOffer
from simulators.world.infrastructure.node_lifecycle import HEADROOM, SERVE, NodeState, SimulatedNode, Tier
from simulators.world.infrastructure.replicas import PoolReplicas
from simulators.world.infrastructure.units import micro_usd_per_hour, to_s
from simulators.world.infrastructure.zones import Zone


class FleetPool:
    """A pool of the fleet. Times are picoseconds from the world's start, and never run backwards.

    The world lets no time pass beyond `next_event_ps()` without a call of `advance`, and the engines stand at the time
    of every call. `desired` replicas are waiting for capacity, starting or ready; a draining one is none of them.
    `model` is the engines' number of the offer's model; traces are looked up in `folder`. `epoch_s` is the Unix time of
    the world's start.
    """

    def __init__(  # noqa: PLR0913 - what a pool is, and the world that it stands in
        self,
        name: str,
        offer: PoolOffer,
        engines: Engines,
        *,
        model: int,
        seed: int,
        folder: Path = Path(),
        epoch_s: float = 0.0,
    ) -> None:
        """Open the pool. Raises `ValueError` with all that is wrong with the offer, or with a trace."""
        broken = [f"{'.'.join(map(str, place))} {rule}" for place, rule, _ in own_problems(offer)]
        if broken:
            raise ValueError(f"pool {name}: {'; '.join(broken)}")
        self.name, self.offer, self._epoch_s = name, offer, epoch_s
        self.headroom = offer.headroom.counts()
        self.ledger = _ledger(name, offer)
        zones = [Zone(zone, z.supply(seed, f"{name}/{zone}", folder)) for zone, z in offer.zones.items()]
        self._stock = Stock(offer, zones, self.ledger, seed)
        self._replicas = PoolReplicas(offer, self._stock, engines, model)
        self._cloud = Cloud(self._replicas, self.ledger, seed)
        self._timetable = self._replicas.timetable

    @property
    def desired(self) -> int:
        """Replicas asked for."""
        return self._replicas.desired

    @property
    def waiting(self) -> int:
        """Those of them that wait for capacity: no node is theirs, and none is paid."""
        return len(self._replicas.waiting)

    @property
    def failed(self) -> int:
        """Those of them of which was said that they do not come."""
        return self._replicas.waiting.failed

    @property
    def events(self) -> Sequence[FleetEvent]:
        """What happened without being asked for, in order of time."""
        return self._replicas.events

    def draining(self) -> int:
        """Replicas that finish their last requests."""
        self._replicas.settle()
        return len(self._stock.members[NodeState.DRAINING])

    def start_up_ps(self, number: int) -> int:
        """How long the node of a number takes from its request until it serves, with nothing prepared. Picoseconds."""
        durations = self._stock.durations(SimulatedNode(number, 0, Tier.COLD, 0))
        return sum(durations[phase] for phase in SERVE[Tier.COLD])

    def status(self, now_ps: int) -> PoolStatus:
        """Return the pool's size, as its platform tells it."""
        self.advance(now_ps)
        replicas = self._replicas
        ready = len(self._stock.members[NodeState.READY])
        tells = self.offer.tells
        return PoolStatus(
            self.desired,
            ready,
            interruption_pending=replicas.doomed,
            interrupted=replicas.taken,
            failed=replicas.waiting.failed,
            shortfall=self._short(),
            reserved=sum(self.ledger.reserved or ()) if "reserved" in tells else None,
            parts=replicas.parts() if "parts" in tells else (),
        )

    def resting(self, tier: Tier, now_ps: int) -> PoolStatus:
        """Return a tier of the headroom: the nodes asked for, and those at rest."""
        self.advance(now_ps)
        return PoolStatus(self.headroom[tier], len(self._stock.resting[tier]))

    def bill(self, now_ps: int, busy_ps: Callable[[int], int]) -> Bill:
        """Return the bill up to now; `busy_ps` tells a replica's time with requests outstanding, by its number."""
        self.advance(now_ps)
        self._replicas.settle()
        return bill(self.ledger, now_ps, busy_ps)

    def next_event_ps(self) -> int | None:
        """When the pool must be advanced next; None while nothing is due."""
        while (entry := self._timetable.first()) is not None:
            if not self._stale(entry):
                return entry.at_ps
            self._timetable.pop()
        return None

    def begin(self, replicas: int) -> None:
        """Start the world with replicas that serve already, and the headroom at rest. What finds no room waits."""
        if self.ledger.nodes or self._replicas.now_ps:
            raise ValueError(f"pool {self.name} has begun: begin comes before all else, at time 0")
        for tier in HEADROOM:
            for _ in range(self.headroom[tier]):
                self._launch(tier, made=True)
        self._replicas.desired = replicas
        self._replicas.waiting.add(replicas, 0)
        while self.waiting and (node := self._launch(Tier.COLD, made=True)) is not None:
            self._replicas.waiting.served()
            self._replicas.serve(node)

    def advance(self, now_ps: int) -> None:
        """Do all that is due up to now. Raises `ValueError` if something was due before: its time has been missed."""
        if now_ps < self._replicas.now_ps:
            raise ValueError(f"pool {self.name}: time cannot run back from {self._replicas.now_ps} to {now_ps} ps")
        due_ps = self.next_event_ps()
        if due_ps is not None and due_ps < now_ps:
            late = f"due at {to_s(due_ps):g} s and advanced at {to_s(now_ps):g} s"
            raise ValueError(f"pool {self.name}: {late}: stop the world at next_event_ps()")
        self._replicas.now_ps = now_ps
        while self.next_event_ps() == now_ps:
            self._do(self._timetable.pop())
        self._fill()

    def resize(self, replicas: int, now_ps: int) -> None:
        """Ask for a number of replicas. Raises `OutOfCapacity` or `OutOfQuota`, as the offer says."""
        if replicas < 0:
            raise ValueError(f"pool {self.name}: {replicas} replicas cannot be asked for: 0 or more")
        self.advance(now_ps)
        self._replicas.settle()
        try:
            if replicas > self.desired:
                self._grow(replicas - self.desired)
            else:
                self._replicas.dismiss(self.desired - replicas)
        finally:
            self._fill()

    def resize_headroom(self, tier: Tier, nodes: int, now_ps: int) -> None:
        """Keep a number of nodes in a tier of the headroom."""
        if nodes < 0 or tier not in self.headroom:
            raise ValueError(f"pool {self.name}: {nodes} nodes cannot be kept {tier}: 0 or more, in {list(HEADROOM)}")
        self.advance(now_ps)
        self.headroom[tier] = nodes
        self._fill()

    def interrupt(self, number: int, at_ps: int, now_ps: int) -> None:
        """Settle now that the cloud takes a node at a time, with the offer's notice."""
        self.advance(now_ps)
        node = self.ledger.nodes[number]
        if number not in self._stock.zones[node.zone].nodes or at_ps < now_ps:
            raise ValueError(f"pool {self.name}: node {number} ({node.state.name}) cannot be taken at {at_ps} ps")
        self._cloud.doom(node, at_ps)
        self.advance(now_ps)

    def _grow(self, count: int) -> None:
        offer = self.offer
        asked = self._stock.held + self.waiting + count
        late = offer.failures is not None and offer.failures.quota
        if offer.quota is not None and asked > offer.quota and not late:
            raise OutOfQuota(f"pool {self.name}: {asked} nodes exceed the quota of {offer.quota}: have it raised")
        room = self._stock.room  # what waited before has had its turn: none of this is its own
        granted = count if offer.on_shortage == "wait" else min(count, room)
        if granted < count and offer.on_shortage == "refuse":
            granted = 0
        self._replicas.desired += granted
        self._replicas.waiting.asked(granted, self._replicas.now_ps)
        if granted < count:
            wish = f"{count} more {offer.market} replicas asked for in {', '.join(offer.zones)}"
            raise OutOfCapacity(f"pool {self.name}: {wish}, {room} to be had, {granted} granted")

    def _fill(self) -> None:
        """Give waiting replicas a node, and the headroom what it lacks, as far as there is room."""
        waiting = self._replicas.waiting
        if waiting:
            self._replicas.settle()
        while waiting.tried and (node := self._obtain()) is not None:
            waiting.served()
            self._replicas.start(node)
        for tier, wanted in self.headroom.items():
            self._level(tier, wanted)

    def _fail(self, entry: ScheduledEvent) -> None:
        """Let the platform retry failed replicas, or give them up, after one more look for a node."""
        replicas = self._replicas
        if entry.due is EventKind.RETRY:
            replicas.waiting.retry(replicas.now_ps)
        self._fill()
        replicas.desired -= replicas.waiting.fail(replicas.now_ps, quota=not self._stock.within_quota)

    def _short(self) -> Shortfall | None:
        """Why those that failed do not come, in the port's words."""
        word, offer = self._replicas.waiting.word, self.offer
        if word is None:
            return None
        quota = f"the quota of {offer.quota} nodes is used up: have it raised"
        reason = quota if word.quota else f"no {offer.market} capacity in {', '.join(offer.zones)}"
        return Shortfall(self._epoch_s + to_s(word.at_ps), reason, word.quota)

    def _obtain(self) -> SimulatedNode | None:
        """Return a node on its way to serve: out of the headroom, or a new one."""
        node = self._stock.take(self._replicas.now_ps)
        if node is None:
            return self._launch(Tier.COLD)
        if node.tier is Tier.STOPPED:
            self._cloud.watch(node)
        return node

    def _launch(self, tier: Tier, *, made: bool = False) -> SimulatedNode | None:
        node = self._stock.launch(tier, self._replicas.now_ps, made=made)
        if node is not None:
            self._cloud.watch(node)
        return node

    def _level(self, tier: Tier, wanted: int) -> None:
        """Bring a tier of the headroom to its size: what is still being prepared goes first."""
        resting, preparing = self._stock.resting[tier], self._stock.preparing[tier]
        while len(resting) + len(preparing) > wanted:
            number = next(reversed(preparing or resting))
            self._stock.move(self.ledger.nodes[number], NodeState.GONE, self._replicas.now_ps)
        while len(resting) + len(preparing) < wanted:
            node = self._launch(tier)
            if node is None:
                return
            self._timetable.add(node.due_ps, EventKind.DONE, node.number)

    def _stale(self, entry: ScheduledEvent) -> bool:
        """Whether the node has moved on, so that the entry is about nothing."""
        if entry.due in {EventKind.WARN, EventKind.CHANGE}:
            return False
        if entry.due in {EventKind.RETRY, EventKind.FAIL}:
            return self._replicas.waiting.stale(entry)
        node = self.ledger.nodes[entry.subject]
        if entry.due is EventKind.DONE:
            return node.state not in {NodeState.PREPARING, NodeState.STARTING} or node.due_ps != entry.at_ps
        if entry.due is EventKind.LOSS:
            return node.state is NodeState.GONE or node.doomed_ps != entry.at_ps
        if entry.due is EventKind.DEADLINE:
            return node.state is not NodeState.DRAINING
        return node.number not in self._stock.zones[node.zone].nodes

    def _do(self, entry: ScheduledEvent) -> None:
        if entry.due <= EventKind.FATE:
            self._cloud.do(entry)
            return
        if entry.due in {EventKind.RETRY, EventKind.FAIL}:
            self._fail(entry)
            return
        node = self.ledger.nodes[entry.subject]
        if entry.due is EventKind.DONE:
            self._replicas.done(node)
        elif entry.due is EventKind.DEADLINE:
            self._replicas.cut(node, NodeEventKind.CUT)
        else:
            self._replicas.warned(
                node, NodeEventKind.NOTICE if entry.due is EventKind.NOTICE else NodeEventKind.REBALANCE
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
