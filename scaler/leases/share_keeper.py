"""Keeps this daemon's shares of the fleet's limits, by the protocol of `fleet_shares`."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from policies.model import WorkloadName
from policies.quota import resource_claims
from policies.quota.resource_claims import NO_GROUP, Amount, ResourceClaim
from policies.quota.shard_shares import Amounts, HeldShare, ShardNeed, limited_units
from scaler.config.load import Config
from scaler.leases.fleet_shares import FleetShares, Limits, OwnShard, ShardUse, ShardView, Share, encode
from scaler.leases.protocol import Held, Record
from scaler.leases.shard_leases import ShardLeases
from scaler.leases.store import LeaseStore
from scaler.ports import Clock, Conflict, PortError
from scaler.quota_ledger import QuotaLedger
from scaler.telemetry.health import Health

PART: Final = "shares of the fleet's limits"
"""Name of the shares in ``/healthz``."""
MIN_PAUSE_S: Final = 0.5
"""Minimum time between two exchanges: several changes of the record are answered together. Seconds."""
JITTER: Final = (0.8, 1.0)
"""Range of the random factor of `renew_s`: daemons then write the record at different times."""
MAX_CONFLICTS: Final = 3
"""Number of conflicts after which an exchange waits for the next one."""
GRACE_S: Final = 120.0
"""Time in which a new holder is to read the sizes of a shard: a shared watch reports within 60 s. Seconds."""


class Fleet(Protocol):
    """The part of the app that has the workloads and their ledger."""

    @property
    def config(self) -> Config: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def ledger(self) -> QuotaLedger: ...


@dataclass(slots=True)
class TakenShard:
    """A shard since this daemon took its lease in `epoch`.

    - `settled_at`: when no write of the last holder could be under way any more, on the clock of leases.
    - `measured_from`: the same time on the clock of measurements, without that clock's jumps.
    - `taken_at`: when the lease was first seen here.
    - `inherited`: the charge that the last holder left; None where it is not known.
    - `is_known`: whether the sizes were all measured since, or count as their maximum.
    - `running`, `elsewhere`: the number of its workloads in the ledger, and the amounts of the others.
    """

    epoch: int
    settled_at: float
    measured_from: float
    taken_at: float
    inherited: Amounts | None = None
    is_known: bool = False
    running: int = 0
    elsewhere: Amounts = field(default_factory=Amounts)


class ShareKeeper:
    """Holds the shares of this daemon's shards."""

    def __init__(
        self, leases: ShardLeases, store: LeaseStore, fleet: Fleet, renew_s: float, now: Callable[[], float]
    ) -> None:
        self.shares = FleetShares(leases.identity, leases.member.duration_s)
        self._leases = leases
        self._store = store
        self._fleet = fleet
        self._renew_s = renew_s
        self._now = now
        self._rng = random.Random()  # noqa: S311 - spreads the writes of many daemons
        self._wake = asyncio.Event()
        self._taken: dict[int, TakenShard] = {}
        self._written_at = float("-inf")
        self._summed: tuple[object, ...] = ()
        self._names: dict[int, frozenset[WorkloadName]] = {}
        self._maximum: dict[WorkloadName, ResourceClaim] = {}

    def observe(self, record: Record | None, *, is_reported: bool = False) -> None:
        """Apply the record as the store holds it now, or as a watch reports it."""
        before = self.shares
        self.shares = before.observe(record, is_reported=is_reported)
        if self.shares is not before:
            self._wake.set()

    def part(self) -> float:
        """Return the part of the shards with workloads whose valid leases this daemon holds."""
        shards, now = self._leases.map.fingerprints, self._now()
        return sum(self._leases.shards[n].valid_for_s(now) > 0 for n in shards) / max(1, len(shards))

    # --- the ledger's port

    def shard(self, workload: WorkloadName) -> int:
        return self._leases.map.shards.get(workload, NO_GROUP)

    def limited_units(self) -> tuple[str, ...]:
        """Return the units of `Amounts` that the fleet limits."""
        return limited_units(self._fleet.ledger.limits)

    def held_share(self, shard: int) -> HeldShare:
        lease, taken = self._leases.shards.get(shard), self._taken.get(shard)
        held = None if lease is None else lease.held
        if held is None or taken is None or taken.epoch != held.epoch:
            return HeldShare(shard, Amounts(), Amounts(), is_known=False)
        running, gpus, usd_per_hour = self._fleet.ledger.shard_amounts(shard)
        removed = self._fleet.ledger.removed(self._names.get(shard, ()))
        used = taken.elsewhere.plus(Amounts(gpus, usd_per_hour, removed + self._inherited_removals(taken)))
        is_known = taken.is_known and running == taken.running
        return HeldShare(shard, self.shares.usable(shard, held.epoch), used, is_known)

    # --- exchange with the other daemons

    async def keep_forever(self, health: Health) -> None:
        while True:
            self._wake.clear()
            health.report(PART, await self.exchange())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._renew_s * self._rng.uniform(*JITTER)):
                    await self._wake.wait()
            await asyncio.sleep(MIN_PAUSE_S)

    async def exchange(self) -> str:
        """Write this daemon's shares if they change. Return the problem."""
        name = self._leases.names.fleet()
        try:
            if not self.shares.observed:
                self.observe(await self._store.get(name))
            for _ in range(MAX_CONFLICTS):
                now = self._now()
                shares = self._next_shares(now)
                if shares is None:
                    return ""
                self.shares, claim = self.shares.claim(shares, now)
                try:
                    self.observe(await self._store.put(name, claim))
                except Conflict:
                    self.observe(await self._store.get(name))
                else:
                    self._written_at = now
                    return ""
        except PortError as e:
            return str(e)
        return ""

    def _next_shares(self, now: float) -> Mapping[int, Share] | None:
        """Return the shares to be written; None where they stay.

        Changed grants are written at once, changed amounts of use after `renew_s`.
        """
        self._sum_up()
        before = self.shares.shares
        if not self._fleet.ledger.limits.limits:  # without limits, the shares would become outdated
            outdated = before.keys() & self._held(now).keys()
            return {shard: share for shard, share in before.items() if shard not in outdated} if outdated else None
        view = self._view(now)
        self._fleet.ledger.set_remote(self._reported_claims(view))
        shares = self.shares.next_shares(view)
        if not view.own or encode(shares) == encode(before):
            return None
        is_changed = any(n not in before or _standing(shares[n]) != _standing(before[n]) for n in view.own)
        return shares if is_changed or now >= self._written_at + self._renew_s else None

    # --- this daemon's view of the shards

    def _sum_up(self) -> None:
        """Sum up the shards of a changed configuration or map."""
        config, shard_map = self._fleet.config, self._leases.map
        if self._summed and self._summed[0] is config and self._summed[1] is shard_map:
            return
        self._summed = (config, shard_map)
        self._maximum = {n: resource_claims.claim(w.spec, None, None) for n, w in config.workloads.items()}
        names: defaultdict[int, list[WorkloadName]] = defaultdict(list)
        for workload, shard in shard_map.shards.items():
            if workload in config.workloads:
                names[shard].append(workload)
        self._names = {shard: frozenset(own) for shard, own in names.items()}

    def _view(self, now: float) -> ShardView:
        own = {shard: self._own_shard(shard, held, now) for shard, held in self._held(now).items()}
        fingerprints = self._leases.map.fingerprints
        others = {n: (fingerprints[n], self._maximum_use(n)) for n in self._names.keys() - own.keys()}
        empty = self.shares.shares.keys() - self._names.keys()
        limits = self._fleet.ledger.limits
        removals = self._fleet.ledger.removal_limit(self._fleet.clock.now())
        ended = frozenset(shard for shard in empty if self._leases.agreed(shard, now))
        return ShardView(own, others, Limits(limits.max_gpus, limits.max_usd_per_hour, removals), ended)

    def _held(self, now: float) -> dict[int, Held]:
        """Return the shards with workloads whose valid lease this daemon holds."""
        held: dict[int, Held] = {}
        for shard in self._names:
            lease = self._leases.shards[shard]
            if lease.held is not None and lease.valid_for_s(now) > 0:
                held[shard] = lease.held
        return held

    def _own_shard(self, shard: int, held: Held, now: float) -> OwnShard:
        taken, locks = self._taken.get(shard), self._leases.map.fingerprints[shard]
        if taken is None or taken.epoch != held.epoch:
            clock = self._fleet.clock
            wall = clock.now() - clock.step_s() + held.writes_from - now
            taken = self._taken[shard] = TakenShard(held.epoch, held.writes_from, wall, now)
        share = self.shares.shares.get(shard)
        if share is None or share.locks != locks:
            taken.inherited = None
        elif (share.holder, share.epoch) != (self.shares.identity, held.epoch):
            taken.inherited = share.charge
        use = self._use(shard, taken, now)
        return OwnShard(held.epoch, locks, use, gives=now >= taken.settled_at and taken.is_known)

    def _use(self, shard: int, taken: TakenShard, now: float) -> ShardUse:
        """Return the use of a held shard.

        A workload whose sizes are not known counts at its maximum. Until `GRACE_S` the shard counts at most what the
        last holder was charged, and has that holder's needs.
        """
        since = taken.measured_from + self._fleet.clock.step_s()
        names, ledger = self._names[shard], self._fleet.ledger
        known = {n: claim for n in names if (claim := ledger.claim_of(n, since)) is not None}
        claims = [known.get(n, self._maximum[n]) for n in names]
        used, measured = _amounts(claims), _amounts(claim for claim in known.values() if not claim.unread)
        is_complete = len(known) == len(names) and not any(claim.unread for claim in claims)
        taken.is_known = is_complete or now >= taken.settled_at + GRACE_S
        needs = _needs(claims)
        if not taken.is_known and taken.inherited is not None:
            needs = self.shares.shares[shard].use.needs[:2]
            used = measured.larger(used.smaller(taken.inherited))
        taken.running, gpus, usd_per_hour = ledger.shard_amounts(shard)
        taken.elsewhere = Amounts(max(0.0, used.gpus - gpus), max(0.0, used.usd_per_hour - usd_per_hour))
        removals, inherited = ledger.removals(names), self._inherited_removals(taken)
        removals = removals._replace(held=removals.held + inherited, need=removals.need + inherited)
        used = used._replace(removals=removals.held)
        replicas = sum(claim.replicas for claim in claims if not claim.unread)
        return ShardUse(used, self._most(shard), replicas, (*needs, (removals,)))

    def _inherited_removals(self, taken: TakenShard) -> float:
        """Return the removals of the last holder that the window may still contain."""
        radius = self._fleet.ledger.limits.blast_radius
        if radius.share >= 1.0 or self._now() >= taken.taken_at + radius.window_s:
            return 0.0
        return self._most_removals if taken.inherited is None else taken.inherited.removals

    @property
    def _most_removals(self) -> float:
        """Removals that no window may contain, so that an unknown number of them permits none."""
        return float(sum(claim.replicas for claim in self._maximum.values()))

    def _most(self, shard: int) -> Amounts:
        return _amounts(self._maximum[n] for n in self._names[shard])._replace(removals=self._most_removals)

    def _maximum_use(self, shard: int) -> ShardUse:
        most, claims = self._most(shard), [self._maximum[n] for n in self._names[shard]]
        return ShardUse(most, most, 0, (*_needs(claims), ()))

    def _reported_claims(self, view: ShardView) -> dict[tuple[int, WorkloadName], ResourceClaim]:
        """Return the claims of the shards by priority, as their holders last reported them."""
        claims: dict[tuple[int, WorkloadName], ResourceClaim] = {}
        for shard, use in self.shares.charges(view).items():
            share, locks = self.shares.shares.get(shard), self._leases.map.fingerprints.get(shard)
            unread, replicas = share is None or share.locks != locks, use.replicas
            gpus, usd = ({need.priority: need for need in unit} for unit in use.needs[:2])
            for priority in sorted(gpus | usd):
                amounts = [Amount(*unit.get(priority, ShardNeed(priority, 0, 0, 0, 0))[1:]) for unit in (gpus, usd)]
                name = WorkloadName(f"shard {shard} with priority {priority}")
                claims[shard, name] = ResourceClaim(priority, replicas, amounts[0], amounts[1], unread)
                replicas = 0
        return claims


def _standing(share: Share) -> tuple[object, ...]:
    return share.holder, share.epoch, share.locks, share.granted


def _amounts(claims: Iterable[ResourceClaim]) -> Amounts:
    total = Amounts()
    for claim in claims:
        total = total.plus(Amounts(claim.gpus.held, claim.usd_per_hour.held))
    return total


def _needs(claims: Iterable[ResourceClaim]) -> tuple[tuple[ShardNeed, ...], tuple[ShardNeed, ...]]:
    """Return the GPUs and the USD per hour of workloads, summed up by priority."""
    by_priority: defaultdict[int, list[ResourceClaim]] = defaultdict(list)
    for claim in claims:
        by_priority[claim.priority].append(claim)
    gpus = tuple(_need(p, [(c.gpus, c.unread) for c in equal]) for p, equal in sorted(by_priority.items()))
    usd = tuple(_need(p, [(c.usd_per_hour, c.unread) for c in equal]) for p, equal in sorted(by_priority.items()))
    return gpus, usd


def _need(priority: int, amounts: list[tuple[Amount, bool]]) -> ShardNeed:
    """Return the sum of amounts; a workload that was never read needs its minimum only."""
    held, minimum = sum(a.held for a, _ in amounts), sum(a.minimum for a, _ in amounts)
    need = sum(a.need if unread else max(a.held, a.need) for a, unread in amounts)
    return ShardNeed(priority, held, minimum, need, max(a.per_replica for a, _ in amounts))
