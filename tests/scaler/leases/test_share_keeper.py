"""Two daemons with a workload each: their ledgers share the fleet's limits through one record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from policies.model.limits import BlastRadius
from policies.quota.fleet_quota import FleetLimits
from scaler.clouds.api_budget import Api, Calls
from scaler.clouds.kubernetes.session import API as KUBERNETES
from scaler.config.daemon import DaemonSpec
from scaler.config.load import Config
from scaler.journal.explain import paragraphs
from scaler.leases.fleet_shares import decode
from scaler.leases.protocol import RELEASED, Claim, Lease, Record
from scaler.leases.shard_leases import ShardLeases
from scaler.leases.shard_map import shard_map
from scaler.leases.share_keeper import GRACE_S, ShareKeeper
from scaler.leases.store import LeaseNames, Observe
from scaler.ports import Conflict, Permit, Unavailable
from scaler.quota_ledger import QuotaLedger
from tests.fakes import ManualClock
from tests.scaler.test_quota_ledger import Member

SHARDS, DURATION_S = 16, 15.0
NAMES = LeaseNames("forescale")


class MemoryStore:
    """The port of a store, in memory; `is_cut` refuses all calls."""

    def __init__(self) -> None:
        self.record: Record | None = None
        self.is_cut = False
        self.writes = 0

    async def list(self) -> Mapping[str, Record]:
        return {} if self.record is None else {NAMES.fleet(): self.record}

    async def get(self, name: str) -> Record | None:
        self._check(name)
        return self.record

    async def put(self, name: str, claim: Claim) -> Record:
        self._check(name)
        if claim.replaces != (None if self.record is None else self.record.version):
            raise Conflict("another version")
        self.writes += 1
        self.record = replace(claim.record, version=str(self.writes))
        return self.record

    async def delete(self, name: str, version: str) -> None:
        self.record = None

    async def permits(self) -> Sequence[Permit]:
        return []

    def watch(self, observe: Observe) -> None:
        """Report nothing: the keepers read at a conflict."""

    def _check(self, name: str) -> None:
        assert name == NAMES.fleet()
        if self.is_cut:
            raise Unavailable("cut off")


@dataclass
class Site:
    """The part of the app that a keeper sees."""

    config: Config
    clock: ManualClock
    ledger: QuotaLedger


class Daemon:
    """A daemon with one of the workloads, and the lease of its shard."""

    def __init__(self, name: str, config: Config, store: MemoryStore, clock: ManualClock, member: Member) -> None:
        self.clock, self.member = clock, member
        self.site = Site(config, clock, QuotaLedger(config.daemon.fleet))
        self.leases = ShardLeases(name, NAMES, SHARDS, DURATION_S)
        self.leases.map = shard_map(config, SHARDS)
        self.keeper = ShareKeeper(self.leases, store, self.site, 2.0, clock.now)
        self.site.ledger.shares = self.keeper
        self.adopt(member)

    def adopt(self, member: Member) -> None:
        """Run a workload: hold the lease of its shard, which its last holder has released."""
        self.member = member
        shard = self.leases.map.shards[member.workload.name]
        free = Lease(self.leases.identity, DURATION_S).observe(Record(RELEASED, 4, 1.0, "10"), self.clock.now())
        claim = free.claim(self.clock.now())
        assert claim is not None
        self.leases.shards[shard] = free.accept(claim, replace(claim.record, version="11"), self.clock.now())
        member.controller.adopt(replace(member.setup, ledger=self.site.ledger))

    def renew(self) -> None:
        for shard, lease in self.leases.shards.items():
            if lease.held is not None:
                held = replace(lease.held, renewed_at=self.clock.now())
                self.leases.shards[shard] = replace(lease, held=held)


class Pair:
    """Two daemons with the workloads `chat` and `batch`, in different shards."""

    def __init__(self, limits: FleetLimits, sizes: tuple[int, int] = (2, 2)) -> None:
        self.clock, self.store = ManualClock(), MemoryStore()
        unused = QuotaLedger(FleetLimits())
        pools = {n: {"main": {"kind": "embedded", "world": n, "price_usd_per_hour": 2.0}} for n in ("chat", "batch")}
        members = [Member(n, unused, self.clock, size, pools=pools[n]) for n, size in zip(pools, sizes, strict=True)]
        config = Config(DaemonSpec(fleet=limits), {m.workload.name: m.workload for m in members})
        self.a, self.b = (
            Daemon(name, config, self.store, self.clock, m) for name, m in zip("ab", members, strict=True)
        )
        assert len(set(self.a.leases.map.shards.values())) == 2

    async def round(self, chat: float, batch: float, cut: str = "") -> tuple[int, int]:
        """Run a tick of both, and exchange the shares twice; a daemon that is `cut` off does not."""
        self.clock.advance(15.0)
        sizes = []
        for name, daemon, need in (("a", self.a, chat), ("b", self.b, batch)):
            self.store.is_cut = name in cut
            if name not in cut:
                daemon.renew()
            sizes.append(await daemon.member.tick(need))
        for name, daemon in 2 * (("a", self.a), ("b", self.b)):
            self.store.is_cut = name in cut
            await daemon.keeper.exchange()
        return sizes[0], sizes[1]


async def test_sum_stays_within_the_limit_and_unused_shares_flow() -> None:
    pair = Pair(FleetLimits(max_gpus=12))
    sizes = [await pair.round(20, 2) for _ in range(4)]
    assert sizes[-1] == (10, 2)
    sizes += [await pair.round(2, 20) for _ in range(9)]
    assert sizes[-1] == (2, 10)
    assert all(sum(pair_) <= 12 for pair_ in sizes)
    told = "\n".join(paragraphs(pair.a.member.ticks[3]))
    shard = pair.a.leases.map.shards[pair.a.member.workload.name]
    assert "daemon.fleet.max_gpus is 12, the fleet uses 12" in told
    assert f"10 of the 10 GPUs in the share of shard {shard} are used: this workload may use 10" in told


async def test_cut_off_daemon_keeps_its_share_and_the_other_does_not_use_it() -> None:
    pair = Pair(FleetLimits(max_usd_per_hour=24.0))
    for _ in range(3):
        await pair.round(2, 2)
    sizes = [await pair.round(20, 20, cut="a") for _ in range(4)]
    assert sizes[-1] == (6, 6), "each has what it was granted: half of the 24 USD per hour"
    shares = decode(pair.store.record.note if pair.store.record else "")
    assert sum(share.charge.usd_per_hour for share in shares.values()) == 24.0


async def test_new_holder_inherits_the_charge_until_it_has_read_the_sizes() -> None:
    pair = Pair(FleetLimits(max_gpus=12))
    for _ in range(3):
        await pair.round(2, 20)
    chat = pair.a.member
    chat.actuator.status_error = Unavailable("503")
    pair.clock.advance(DURATION_S)
    shard = pair.a.leases.map.shards[chat.workload.name]
    pair.b.renew()
    pair.a, batch = pair.b, pair.b.member
    pair.b.adopt(chat)
    await pair.b.keeper.exchange()
    share = decode(pair.store.record.note if pair.store.record else "")[shard]
    assert (share.holder, share.charge.gpus) == ("b", 2)
    assert await batch.tick(20) == 10, "chat may still have 2"
    pair.clock.advance(GRACE_S)
    pair.b.renew()
    await pair.b.keeper.exchange()
    share = decode(pair.store.record.note if pair.store.record else "")[shard]
    assert share.charge.gpus == 50, "never read, it counts at its maximum, as with one daemon"


async def test_takeover_never_lowers_the_quota_below_what_is_held() -> None:
    """The taken shard counts once, before and after its sizes are read, and as much as its last holder reported."""
    pair = Pair(FleetLimits(max_gpus=12))
    for _ in range(3):
        await pair.round(20, 20)
    assert pair.b.site.ledger.held() == {"gpus": 12, "usd_per_hour": 24}
    chat, batch = pair.a.member, pair.b.member
    pair.clock.advance(DURATION_S)
    pair.b.renew()
    pair.b.adopt(chat)
    for exchanges in (False, True, False, True):
        if exchanges:
            await pair.b.keeper.exchange()
        assert [await member.tick(20) for member in (batch, chat)] == [6, 6]
        assert [quota(member) for member in (batch, chat)] == [6, 6]
        assert pair.b.site.ledger.held() == {"gpus": 12, "usd_per_hour": 24}
        pair.clock.advance(1.0)


async def test_unread_taken_workload_shrinks_no_other() -> None:
    pair = Pair(FleetLimits(max_gpus=12))
    for _ in range(3):
        await pair.round(20, 20)
    chat, batch = pair.a.member, pair.b.member
    chat.actuator.status_error = Unavailable("503")
    pair.clock.advance(DURATION_S)
    pair.b.renew()
    pair.b.adopt(chat)
    for _ in range(3):
        await chat.tick(20)
        await batch.tick(20)
        assert quota(batch) == 6
        await pair.b.keeper.exchange()
    shard = pair.b.leases.map.shards[chat.workload.name]
    share = decode(pair.store.record.note if pair.store.record else "")[shard]
    assert [need.held for need in share.use.needs[0]] == [6], "as the last holder reported, not the maximum"


async def test_shard_that_was_never_read_needs_its_minimum_only() -> None:
    pair = Pair(FleetLimits(max_gpus=12))
    await pair.a.keeper.exchange()
    (share,) = decode(pair.store.record.note if pair.store.record else "").values()
    assert [(need.held, need.need) for need in share.use.needs[0]] == [(50, 1)]


def quota(member: Member) -> float | None:
    """Return the GPUs that a workload might hold at its last tick."""
    grant = member.ticks[-1].observation.grant
    return None if grant is None or grant.gpus is None else grant.gpus.most


async def test_removals_within_the_window_span_daemons() -> None:
    window_s = 120.0
    pair = Pair(FleetLimits(blast_radius=BlastRadius(share=0.25, window_s=window_s)), (8, 8))
    sizes = [await pair.round(8, 8) for _ in range(10)]
    assert sizes[-1] == (8, 8)
    sizes = [await pair.round(1, 1) for _ in range(20)]
    totals = [sum(pair_) for pair_ in sizes]
    assert totals[-1] < 12
    for n in range(8, len(totals)):  # 8 ticks of 15 s are a window
        assert totals[n - 8] - totals[n] <= 4
    assert min(size for pair_ in sizes for size in pair_) < 8


def test_daemon_uses_its_part_of_the_rate_of_an_api() -> None:
    calls = Calls()
    held = [0.25]
    calls.part = lambda: held[0]
    bucket = calls.bucket(Api("aws/autoscaling", per_s=10.0, burst=40), "account", 0.0)
    assert [bucket.wait_s(0.0, write=True) for _ in range(10)] == [0.0] * 10
    assert bucket.wait_s(0.0, write=True) == 0.4
    held[0] = 0.0
    assert bucket.wait_s(100.0, write=True) == float("inf")
    assert calls.bucket(KUBERNETES, "cluster", 0.0).wait_s(0.0, write=True) == 0.0, "leases are taken by it"
    held[0] = 1.0
    assert bucket.wait_s(100.0, write=True) == 0.1, "a new part begins without tokens"


def test_part_counts_shards_with_workloads_and_valid_leases() -> None:
    pair = Pair(FleetLimits())
    assert pair.a.keeper.part() == 0.5
    pair.clock.advance(DURATION_S)
    assert pair.a.keeper.part() == 0.0
