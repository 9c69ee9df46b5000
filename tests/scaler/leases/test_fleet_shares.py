"""The fleet's limits across daemons: no interleaving, loss or partition lets the sum of the sizes exceed them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from policies.model import Grant, Quota
from policies.quota.resource_claims import Amount, ResourceClaim
from policies.quota.shard_shares import Amounts, HeldShare, ShardNeed, divide, within_share
from scaler.leases.fleet_shares import FleetShares, Limits, OwnShard, ShardUse, ShardView, Share, decode, encode
from scaler.leases.protocol import Claim, Record
from tests.laws import law

LIMIT, SHARDS, MOST = 12, 3, 30
GPUS = Limits(LIMIT)
LOCKS = "aa"


def use(used: float, need: float = 0.0, per_replica: float = 1.0) -> ShardUse:
    """Return the use of a shard that needs an amount of GPUs."""
    needs = (ShardNeed(0, used, 0.0, max(used, need), per_replica),)
    return ShardUse(Amounts(used), Amounts(MOST), int(used), (needs, (), ()))


def view(own: dict[int, OwnShard], limits: Limits = GPUS) -> ShardView:
    others = {shard: (LOCKS, use(0.0)) for shard in range(SHARDS) if shard not in own}
    return ShardView(own, others, limits)


def test_parts_follow_use_need_and_priority() -> None:
    def need(held: float, need: float, priority: int = 0, per_replica: float = 1.0) -> list[ShardNeed]:
        return [ShardNeed(priority, held, 0.0, need, per_replica)]

    assert divide(20, {0: 8, 1: 4}, {0: need(8, 12), 1: need(4, 4)}) == {0: 14, 1: 6}
    assert divide(10, {0: 4, 1: 4}, {0: need(4, 9), 1: need(4, 9, priority=5)}) == {0: 4, 1: 6}
    assert divide(12, {0: 0, 1: 0}, {0: need(0, 8, 0, 8), 1: need(0, 8, 0, 8)}) == {0: 8, 1: 4}  # whole replicas
    assert divide(10, {0: 9, 1: 6}, {0: need(9, 20), 1: need(6, 20)}) == {0: 9, 1: 6}  # sizes that stand


def test_limit_neither_grows_nor_shrinks_a_workload_while_sizes_are_unknown() -> None:
    claim = ResourceClaim(0, 5, Amount(5, 1, 9, 1), Amount(0, 0, 0, 0))
    most = []
    for limit in (3, 9):
        for is_known in (True, False):
            share = HeldShare(0, Amounts(8), Amounts(5), is_known)
            quota = within_share(Grant(gpus=Quota(limit, "")), claim, share, 1).gpus
            most.append(None if quota is None else quota.most)
    assert most == [3, 5, 8, 5]


class Store:
    """The record with compare-and-swap."""

    def __init__(self) -> None:
        self.record: Record | None = None
        self.version = 0

    def put(self, claim: Claim) -> Record | None:
        if claim.replaces != (None if self.record is None else self.record.version):
            return None
        self.version += 1
        self.record = replace(claim.record, version=str(self.version))
        return self.record


class Daemon:
    """A daemon that writes each size at once, and so uses its shares by the rules of the protocol only."""

    def __init__(self, name: str, store: Store) -> None:
        self.shares = FleetShares(name, 15.0)
        self.store = store
        self.own: dict[int, OwnShard] = {}

    def hold(self, shard: int, used: float, need: float = 0.0, epoch: int = 1) -> None:
        self.own[shard] = OwnShard(epoch, LOCKS, use(used, need), gives=True)

    def exchange(self, limits: Limits = GPUS) -> None:
        self.shares = self.shares.observe(self.store.record)
        shares = self.shares.next_shares(view(self.own, limits))
        self.shares, claim = self.shares.claim(shares, 0.0)
        self.shares = self.shares.observe(self.store.put(claim))

    def usable(self, shard: int) -> Amounts:
        return self.shares.usable(shard, self.own[shard].epoch)


def test_unused_share_flows_to_the_shard_that_needs_it() -> None:
    """Each has an even part of the free GPUs at first; then a needs all of them."""
    store = Store()
    a, b = Daemon("a", store), Daemon("b", store)
    a.hold(0, 2)
    b.hold(1, 2)
    b.hold(2, 2)
    for _ in range(3):
        a.exchange()
        b.exchange()
    assert [a.usable(0).gpus, b.usable(1).gpus, b.usable(2).gpus] == [4, 4, 4]
    a.hold(0, 4, need=20)
    a.exchange()  # publishes the need
    assert a.usable(0).gpus == 4
    b.exchange()  # gives
    assert [b.usable(1).gpus, b.usable(2).gpus] == [2, 2]
    a.exchange()
    assert a.usable(0).gpus == 8


def test_shard_without_a_share_counts_in_full() -> None:
    store = Store()
    a = Daemon("a", store)
    a.hold(0, 2, need=20)
    a.exchange()
    assert a.usable(0).gpus == 0, "the shards 1 and 2 may use everything"
    a.hold(1, 1)
    a.hold(2, 1)
    a.exchange()
    assert a.usable(0).gpus == 10


def test_giver_without_an_answer_uses_the_smaller_share() -> None:
    """It writes 2 of its 4; the write is late. A read of the same version proves nothing."""
    store = Store()
    a, b = Daemon("a", store), Daemon("b", store)
    for shard in range(SHARDS):
        a.hold(shard, 2)
    a.exchange()
    assert a.usable(1).gpus == 4
    a.hold(0, 4, need=20)
    a.shares, late = a.shares.claim(a.shares.next_shares(view(a.own)), 0.0)
    assert a.usable(1).gpus == 2
    a.shares = a.shares.observe(store.record)
    assert (a.usable(0).gpus, a.usable(1).gpus) == (4, 2)
    a.hold(0, 4)
    a.shares, lost = a.shares.claim(a.shares.next_shares(view(a.own)), 0.0)
    assert decode(lost.record.note)[1].granted.gpus == 4
    assert a.usable(1).gpus == 2, "either write may arrive"
    b.hold(2, 2, epoch=2)
    b.exchange()  # a newer version: the late write cannot arrive any more
    assert store.put(late) is None
    a.shares = a.shares.observe(store.record)
    assert a.usable(1).gpus == 4


def test_late_report_without_ordered_versions_gives_nothing_back() -> None:
    """A poll of a database that began before a write ends after it."""
    store = Store()
    a = Daemon("a", store)
    for shard in range(SHARDS):
        a.hold(shard, 2)
    a.exchange()
    before = replace(store.record, version="e7c1") if store.record else None
    a.hold(0, 4, need=20)
    a.exchange()
    after = replace(store.record, version="03ab") if store.record else None
    a.shares = a.shares.observe(after)
    assert a.usable(1).gpus == 2
    a.shares = a.shares.observe(before, is_reported=True)
    assert a.usable(1).gpus == 2
    a.shares = a.shares.observe(before)
    assert a.usable(1).gpus == 4, "a database that lost a write"


def test_holder_of_an_older_epoch_uses_nothing() -> None:
    store = Store()
    a, b = Daemon("a", store), Daemon("b", store)
    for shard in range(SHARDS):
        a.hold(shard, 2)
    a.exchange()
    b.own[0] = OwnShard(2, LOCKS, use(0), gives=False)
    b.exchange()
    assert b.usable(0).gpus == 4, "the charge stays until no write of a can be under way"
    a.shares = a.shares.observe(store.record)
    assert a.usable(0) == Amounts()


def test_share_of_another_holder_or_epoch_is_not_usable() -> None:
    """A late write of that holder may still lower it; epochs begin again where a lease was deleted."""
    store = Store()
    a, b = Daemon("a", store), Daemon("b", store)
    a.hold(0, 2)
    a.hold(1, 2)
    a.hold(2, 2)
    a.exchange()
    assert a.shares.usable(0, 1).gpus == 4
    assert a.shares.usable(0, 3) == Amounts()
    assert b.shares.observe(store.record).usable(0, 1) == Amounts()


def test_new_holder_keeps_share_and_use_until_no_other_write_is_under_way() -> None:
    store = Store()
    a, b = Daemon("a", store), Daemon("b", store)
    for shard in range(SHARDS):
        a.hold(shard, 2)
    a.exchange()
    b.own[0] = OwnShard(2, LOCKS, use(0), gives=False)
    b.hold(1, 4, need=20, epoch=2)
    b.exchange()
    assert (b.usable(0).gpus, b.usable(1).gpus) == (4, 4)
    assert b.shares.shares[0].use.used.gpus == 2
    b.hold(0, 0, epoch=2)
    b.exchange()
    assert (b.usable(0).gpus, b.usable(1).gpus) == (0, 8)


def test_one_quantum_may_be_removed_while_nothing_else_is() -> None:
    store = Store()
    a, b = Daemon("a", store), Daemon("b", store)
    limits = Limits(removals=3.0)

    def remove(removed: float, wanted: float, quantum: float) -> ShardUse:
        needs = (ShardNeed(0, removed, 0.0, removed + wanted, quantum),)
        return ShardUse(Amounts(removals=removed), Amounts(removals=MOST), 30, ((), (), needs))

    a.own[0] = OwnShard(1, LOCKS, remove(0, 8, 8), gives=True)
    b.own = {shard: OwnShard(1, LOCKS, remove(0, 0, 1), gives=True) for shard in (1, 2)}
    for _ in range(3):
        a.exchange(limits)
        b.exchange(limits)
    assert a.usable(0).removals == 8
    assert [b.usable(shard).removals for shard in (1, 2)] == [0, 0]
    a.own[0] = OwnShard(1, LOCKS, remove(0, 0, 1), gives=True)
    a.exchange(limits)
    assert a.usable(0).removals == 1


def test_malformed_entries_count_in_full() -> None:
    share = Share("a", 3, LOCKS, Amounts(1.0, 2.5), use(1.0))
    assert decode(encode({4: share})) == {4: share}
    assert decode("[]") == decode("{") == decode('{"1": 3}') == decode('{"1": {"granted": [NaN, 0, 0]}}') == {}
    assert decode(encode({4: share}).replace('"granted":[1.0', '"granted":[-1.0')) == {}


STEPS = 150
FATES = {"answered": 3, "unanswered": 1, "lost": 1, "late": 1}
"""How often a write of the record has each fate."""
WEIGHTS = {
    "exchange": 50,
    "resize": 20,
    "size arrives": 15,
    "record arrives": 10,
    "take": 6,
    "settle": 3,
    "crash": 1,
    "delete record": 1,
}
"""How often each thing happens."""
FACTORS = (0.1, 1.0, 4.0)
"""Factors of the weights, drawn for each run: so rare interleavings are frequent in some runs (swarm testing)."""


@dataclass
class Actor:
    """A daemon of the state machine: its shares, and the shards that it holds."""

    shares: FleetShares
    held: dict[int, Held] = field(default_factory=dict)


@dataclass
class Held:
    """A held shard.

    `size` is what its holder last read after it was settled, or decided. Until then it reports no use: the protocol
    keeps that of the last holder. Without a share in the record, all may be in use.
    """

    epoch: int
    is_settled: bool = False
    size: int | None = None
    need: int = 0

    def own(self, share: Share | None) -> OwnShard:
        unknown = MOST if share is None else 0
        used = use(unknown if self.size is None else self.size, self.need)
        return OwnShard(self.epoch, LOCKS, used, gives=self.is_settled and self.size is not None)


@dataclass
class SizeWrite:
    """A write of a size that is under way."""

    shard: int
    epoch: int
    size: int


class Fleet:
    """Three daemons, three shards and the store: messages are late, lost, or lose their answers; daemons end.

    A shard's lease is exclusive for writes of sizes, as the lease protocol proves. The last holder still may write the
    record, and its writes of sizes still may arrive until the shard is settled.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.weights = [weight * rng.choice(FACTORS) for weight in WEIGHTS.values()]
        self.fates = [weight * rng.choice(FACTORS) for weight in FATES.values()]
        self.store = Store()
        self.actors = [Actor(FleetShares(name, 15.0)) for name in "abc"]
        self.born = 0
        self.epochs = [0] * SHARDS
        self.records: list[Claim] = []
        self.writes: list[SizeWrite] = []

        self.sizes = [rng.randint(0, LIMIT // SHARDS) for _ in range(SHARDS)]
        for shard in range(SHARDS):  # begin with one shard for each daemon, and the limit divided
            self.take(shard, shard, is_settled=True)
        for shard in 2 * list(range(SHARDS)):
            self.exchange(shard, 0, reads=True, fate="answered")

    def step(self) -> str:
        """Do one random thing, and return it."""
        rng, i, shard = self.rng, self.rng.randrange(3), self.rng.randrange(SHARDS)
        (what,) = rng.choices(list(WEIGHTS), self.weights)
        if what == "exchange":
            need, reads = rng.choice((0, LIMIT)), rng.random() < 0.8
            (fate,) = rng.choices(list(FATES), self.fates)
            self.exchange(i, need, reads, fate)
            return f"exchange of {i} with need {need}, reads {reads}: {fate}"
        if what == "resize":
            self.resize(i, shard, rng.randint(-LIMIT, LIMIT))
        elif what == "size arrives" and self.writes:
            self.size_arrives(rng.randrange(len(self.writes)), rng.random() < 0.2)
        elif what == "record arrives" and self.records:
            self.store.put(self.records.pop(rng.randrange(len(self.records))))
        elif what == "take":
            self.take(i, shard, rng.random() < 0.5)
        elif what == "settle":
            self.settle(shard)
        elif what == "crash":
            self.crash(i)
        elif what == "delete record":
            self.store.record = None
        return f"{what} {i} {shard}"

    def check(self) -> None:
        """Check that the sizes, and the grants in force, stay within the limit.

        A grant is in force once its holder can grow into it.
        """
        assert sum(self.sizes) <= LIMIT
        in_force = list(map(float, self.sizes))
        for write in self.writes:
            in_force[write.shard] = max(in_force[write.shard], write.size)
        for actor in self.actors:
            for shard, held in actor.held.items():
                if self.holds(actor, shard) and held.size is not None:
                    in_force[shard] = max(in_force[shard], actor.shares.usable(shard, held.epoch).gpus)
        assert sum(in_force) <= LIMIT + 1e-6

    def holds(self, actor: Actor, shard: int) -> bool:
        """Return whether an actor holds a shard's valid lease."""
        return shard in actor.held and actor.held[shard].epoch == self.epochs[shard]

    def take(self, i: int, shard: int, is_settled: bool) -> None:
        """The lease was released, or it expired: its holder ended, was paused or cut off, and does not know it yet."""
        self.epochs[shard] += 1
        self.actors[i].held[shard] = Held(self.epochs[shard])
        if is_settled:
            self.settle(shard)

    def exchange(self, i: int, need: int, reads: bool, fate: str) -> None:
        """Read sizes and the record, and write it; a late write arrives even after the lease has ended."""
        actor = self.actors[i]
        actor.held = {shard: held for shard, held in actor.held.items() if self.holds(actor, shard)}
        for shard in actor.held if reads else ():
            self.read_size(i, shard, need)
        if reads:
            actor.shares = actor.shares.observe(self.store.record)
        if not actor.held or not actor.shares.observed:
            return
        own = {shard: held.own(actor.shares.shares.get(shard)) for shard, held in actor.held.items()}
        actor.shares, claim = actor.shares.claim(actor.shares.next_shares(view(own)), 0.0)
        if fate == "late":
            self.records.append(claim)
        elif fate != "lost" and (stored := self.store.put(claim)) is not None and fate == "answered":
            actor.shares = actor.shares.observe(stored)

    def settle(self, shard: int) -> None:
        """No write of an earlier holder can arrive any more."""
        self.writes = [w for w in self.writes if w.shard != shard or w.epoch == self.epochs[shard]]
        for actor in self.actors:
            if self.holds(actor, shard):
                actor.held[shard].is_settled = True

    def crash(self, i: int) -> None:
        self.born += 1
        self.actors[i] = Actor(FleetShares(f"{'abc'[i]}{self.born}", 15.0))

    def read_size(self, i: int, shard: int, need: int) -> None:
        held = self.actors[i].held.get(shard)
        if held is not None and held.is_settled and self.holds(self.actors[i], shard):
            under_way = [w.size for w in self.writes if (w.shard, w.epoch) == (shard, held.epoch)]
            held.size, held.need = max(self.sizes[shard], *under_way, 0), need

    def resize(self, i: int, shard: int, change: int) -> None:
        actor = self.actors[i]
        if not self.holds(actor, shard) or (held := actor.held[shard]).size is None:
            return
        usable = actor.shares.usable(shard, held.epoch).gpus
        target = max(0, held.size + min(change, int(max(0.0, usable - held.size + 1e-6))))
        self.writes.append(SizeWrite(shard, held.epoch, target))
        held.size = max(held.size, target)

    def size_arrives(self, n: int, is_lost: bool) -> None:
        write = self.writes.pop(n)
        if not is_lost:
            self.sizes[write.shard] = write.size


@pytest.mark.slow
@law(200)
@given(st.integers(0, 2**32 - 1))
def test_grants_in_force_never_exceed_the_limit(seed: int) -> None:
    fleet = Fleet(random.Random(seed))  # noqa: S311 - draws an interleaving
    for _ in range(STEPS):
        note(fleet.step())
        fleet.check()
