"""Carries the lease protocol out, and starts and stops the workloads of held shards."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, Protocol

from policies.model import WorkloadName
from scaler.clock import lease_clock_s
from scaler.config.high_availability import HighAvailability
from scaler.config.load import Config, Workload
from scaler.leases.protocol import Lease, Record
from scaler.leases.shard_leases import SETTLE_S, ShardLeases, WorkloadFence
from scaler.leases.shard_map import locks_of, shard_map
from scaler.leases.share_keeper import Fleet, ShareKeeper
from scaler.leases.store import LeaseNames, LeaseStore
from scaler.ports import Conflict, PortError
from scaler.supervised_tasks import Tasks
from scaler.telemetry.health import Health
from scaler.telemetry.log import log

RENEW_JITTER: Final = (0.8, 1.0)
"""Range of the random factor of `renew_s`: daemons that started together spread their renewals."""
RETRY_SHARE: Final = 0.2
"""Time until a failed renewal is tried again, as a share of `renew_s`."""
REAPPLY_S: Final = 30.0
"""Time until workloads that could not be started are tried again. Seconds."""
NEVER: Final = float("-inf")
PART: Final = "leases"
"""Name of the leases in ``/healthz``."""
AGREEMENT: Final = "configuration of the daemons"
"""Name of the agreement between the daemons' configurations in ``/healthz``."""


class Runner(Fleet, Protocol):
    """The part of the app that runs workloads."""

    def running(self) -> Collection[WorkloadName]:
        """Return the workloads with a controller."""

    async def assign(self) -> None:
        """Run the workloads that `Coordinator.runs` and no others, as far as they can be started."""

    async def halt(self) -> None:
        """End all loops; a running tick is waited for."""


class Coordinator:
    """Holds this daemon's share of the shards, and runs their workloads."""

    def __init__(
        self,
        spec: HighAvailability,
        store: LeaseStore,
        runner: Runner,
        health: Health,
        now: Callable[[], float] = lease_clock_s,
    ) -> None:
        self.spec = spec
        self.leases = ShardLeases(new_identity(), LeaseNames.of(spec), spec.shards, spec.lease.duration_s)
        self.shares = ShareKeeper(self.leases, store, runner, spec.lease.renew_s, now)
        self._store = store
        self._runner = runner
        self._health = health
        self._now = now
        self._rng = random.Random()  # noqa: S311 - spreads renewals of many daemons
        self._config: Config | None = None
        self._next_map = self.leases.map
        self._retry_at: dict[str, float] = {}
        self._renew_after_s: dict[str, float] = {}
        self._wake, self._apply = asyncio.Event(), asyncio.Event()
        self._renewing, self._applying = asyncio.Lock(), asyncio.Lock()
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, tasks: Tasks) -> None:
        """Begin to take shards."""
        self._store.watch(self._observe)
        self._tasks = [
            tasks.start("lease renewal", self._renew_forever),
            tasks.start("shard assignment", self._apply_forever),
            tasks.start("fleet shares", lambda: self.shares.keep_forever(self._health)),
        ]

    def runs(self, workload: Workload) -> bool:
        """Return whether this daemon runs a workload, as it is configured."""
        shard = self.leases.map.shards.get(workload.name)
        return (
            workload.name in self.leases.cleared
            and shard is not None
            and self.leases.shards[shard].held is not None
            and self.leases.map.locks.get(workload.name) == locks_of(workload)
        )

    def fence(self, workload: WorkloadName) -> WorkloadFence:
        """Return the permission of a workload's writes."""
        return WorkloadFence(self.leases, workload, self._now)

    def holds(self, workload: WorkloadName) -> bool:
        """Return whether the lease of a workload's shard is valid."""
        shard = self.leases.map.shards.get(workload)
        return shard is not None and self.leases.shards[shard].valid_for_s(self._now()) > 0

    def reconfigured(self) -> None:
        """Publish the map of a changed configuration soon."""
        self._wake.set()
        self._apply.set()

    def held(self) -> Mapping[int, int]:
        """Return the epoch of each held shard."""
        return {shard: lease.held.epoch for shard, lease in self.leases.shards.items() if lease.held is not None}

    async def close(self) -> None:
        """Stop the workloads, and release all leases."""
        self._closing = True
        async with self._applying:
            await self._runner.halt()
        async with self._renewing:  # a cancelled write would leave the stored version unknown
            for task in self._tasks:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        names, self._retry_at = self.leases.names, {}
        writes = [self._release(names.shard(shard)) for shard, lease in self.leases.shards.items() if lease.is_mine]
        problems = [await self._leave(), *(await asyncio.gather(*writes))]
        if problem := next(filter(None, problems), ""):
            log.warning("shards", error=problem, remedy="another daemon takes the leases when they expire")

    # --- renew, take and release

    async def _renew_forever(self) -> None:
        while True:
            self._wake.clear()
            async with self._renewing:
                problem = await self._renew_member()
                problem = await self._write_shards() or problem
                await self._delete_expired_members()
            self._health.report(PART, problem)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self._wake.wait()

    async def _renew_member(self) -> str:
        """Renew this daemon's membership, and publish a changed map. Return the problem."""
        config = self._runner.config
        if config is not self._config:
            self._config, self._next_map = config, shard_map(config, self.spec.shards)
        identity = self.leases.identity
        name = self.leases.names.member(identity)
        if self.leases.member.observed is None:
            self._observe(name, None)  # the identity is new, so no lease has this name
        member, next_map = self.leases.member, self._next_map
        valid_until = self._now() + member.valid_for_s(self._now())
        if next_map is self.leases.map or self._has_moved():
            problem = await self._renew(name, self.leases.note(self.leases.map))
        else:
            problem = await self._claim(name, note := self.leases.note(next_map))
            if self.leases.member.held is not None and self.leases.live_members(self._now()).get(identity) == note:
                self.leases.map = next_map
                self._apply.set()
        self.leases.suspended |= self._now() >= valid_until
        if self.leases.suspended and self.leases.member.held is not None:
            problem = problem or await self._rejoin()
        return problem

    async def _rejoin(self) -> str:
        """Compare maps with the others after this member was absent, for example expired.

        They could not see its map meanwhile.
        """
        if problem := await self._list():
            return problem
        now, shards = self._now(), self.leases.map.shards
        self._unclear({n for n in self.leases.cleared if not self.leases.agreed(shards.get(n, -1), now)})
        self.leases.suspended = False
        if self.leases.joined_at is None:
            self.leases.joined_at = now
        return ""

    def _has_moved(self) -> bool:
        """Return whether workloads run that the changed map places elsewhere, and let them stop.

        Another daemon may start them once the map is published.
        """
        now, next_ = self.leases.map, self._next_map
        running = set(self._runner.running()) if next_ is not now else set()
        moved = {
            n for n in running if now.shards.get(n) != next_.shards.get(n) or now.locks.get(n) != next_.locks.get(n)
        }
        self._unclear(moved)
        return bool(moved)

    async def _write_shards(self) -> str:
        """Renew, take and release the leases of shards. Return a problem of one of them."""
        now, before = self._now(), self.held()
        wanted = self.leases.assigned(now) if not self._closing else set(before)
        writes: list[Awaitable[str]] = []
        for shard in self.leases.shards:
            name = self.leases.names.shard(shard)
            if shard in wanted:
                writes.append(self._renew(name))
            elif self.leases.shards[shard].is_mine:
                writes.append(self._renew(name) if self._is_in_use(shard) else self._release(name))
        problems = await asyncio.gather(*writes)
        if self.held() != before:
            log.info("shards", held=sorted(self.held()), members=len(self.leases.live_members(now)))
            self._apply.set()
        return next(filter(None, problems), "")

    def _is_in_use(self, shard: int) -> bool:
        """Return whether workloads of a shard run, and let them stop."""
        own = {name for name, placed in self.leases.map.shards.items() if placed == shard}
        self._unclear(own & self.leases.cleared)
        return not own.isdisjoint(self._runner.running())

    def _unclear(self, workloads: Collection[WorkloadName]) -> None:
        if workloads:
            self.leases.cleared.difference_update(workloads)
            self._apply.set()

    async def _renew(self, name: str, note: str = "") -> str:
        """Take a lease, or renew a held one when that is due. Return the problem."""
        return await self._claim(name, note) if self._now() >= self._due_at(name) else ""

    async def _claim(self, name: str, note: str = "") -> str:
        """Take or renew a lease. Return the problem.

        It is empty where another daemon was faster.
        """
        lease = self._lease(name)
        claim = lease.claim(self._now(), note)
        if claim is None:
            return ""
        try:
            stored = await self._store.put(name, claim)
        except Conflict:
            return await self._read(name)
        except PortError as e:
            self._retry_at[name] = self._now() + RETRY_SHARE * self.spec.lease.renew_s
            return str(e)
        self._retry_at.pop(name, None)
        self._renew_after_s[name] = self.spec.lease.renew_s * self._rng.uniform(*RENEW_JITTER)
        self.leases.replace(name, self._lease(name).accept(claim, stored, self._now()))
        return ""

    async def _release(self, name: str) -> str:
        release = self._lease(name).release(self._now())
        if release is None or self._now() < self._retry_at.get(name, NEVER):
            return ""
        lease, claim = release
        self.leases.replace(name, lease)
        try:
            self._observe(name, await self._store.put(name, claim))
        except Conflict:
            return await self._read(name)
        except PortError as e:
            self._retry_at[name] = self._now() + RETRY_SHARE * self.spec.lease.renew_s
            return str(e)
        return ""

    async def _leave(self) -> str:
        """Delete the member lease. Return the problem."""
        observed = self.leases.member.observed
        if observed is None or observed.record is None:
            return ""
        try:
            await self._store.delete(self.leases.names.member(self.leases.identity), observed.record.version)
        except PortError as e:
            return str(e)
        return ""

    async def _read(self, name: str) -> str:
        try:
            self._observe(name, await self._store.get(name))
        except PortError as e:
            return str(e)
        return ""

    async def _list(self) -> str:
        began = self._now()
        try:
            records = await self._store.list()
        except PortError as e:
            return str(e)
        before = self.held()
        if self.leases.observe_all(records, began, self._now()):
            self._wake.set()
        self._lost(before)
        return ""

    async def _delete_expired_members(self) -> None:
        """Delete the leases of members that ended without releasing them."""
        now = self._now()
        for name, lease in list(self.leases.others.items()):
            observed = lease.observed
            if (
                observed is not None
                and observed.record is not None
                and now - observed.since > 2 * observed.record.duration_s
            ):
                with contextlib.suppress(PortError):  # another daemon deleted it, or it was renewed
                    await self._store.delete(name, observed.record.version)
                await self._read(name)

    # --- start and stop workloads

    async def _apply_forever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REAPPLY_S):
                    await self._apply.wait()
            self._apply.clear()
            async with self._applying:
                if not self._closing:
                    await self._runner.assign()
                    await self._clear()
                    await self._runner.assign()
            self._wake.set()  # a shard whose workloads have ended can be released

    async def _clear(self) -> None:
        """Clear the stopped workloads of held shards on whose locks all members agree."""
        published, running = self.leases.map, set(self._runner.running())
        held = self.held().keys() & self.leases.assigned(self._now())
        stopped = [n for n in published.shards if n not in self.leases.cleared and n not in running]
        ready = {n: published.shards[n] for n in stopped if published.shards[n] in held}
        problem = await self._list() if ready else ""
        if problem or self.leases.suspended or published is not self.leases.map or published is not self._next_map:
            self._health.report(AGREEMENT, problem)
            return  # the publication of the map must precede the list
        now, shards = self._now(), set(ready.values())
        agreed = {shard for shard in shards & self.held().keys() if self.leases.agreed(shard, now)}
        self.leases.cleared |= {name for name, shard in ready.items() if shard in agreed}
        differing = ", ".join(str(shard) for shard in sorted(shards) if not self.leases.agreed(shard, now))
        problem = f"another daemon's configuration differs in the shards {differing}: their workloads wait for it"
        addresses = self.leases.address_difference(now)
        self._health.report(AGREEMENT, "; ".join(filter(None, (problem, addresses))) if differing else "")

    # --- state

    def _observe(self, name: str, record: Record | None) -> None:
        if name == self.leases.names.fleet():
            self.shares.observe(record, is_reported=True)
            return
        before = self.held()
        if self.leases.observe(name, record, self._now()):
            self._wake.set()
        self._lost(before)

    def _lost(self, before: Mapping[int, int]) -> None:
        """Let the workloads of lost shards stop."""
        lost = before.keys() - self.held().keys()
        if lost:
            self._unclear({name for name, shard in self.leases.map.shards.items() if shard in lost})

    def _lease(self, name: str) -> Lease:
        lease = self.leases.lease(name)
        assert lease is not None, f"{name} is no lease of this installation"  # noqa: S101 - an invariant
        return lease

    def _due_at(self, name: str) -> float:
        """Return when a lease is to be renewed, or tried again."""
        held, retry_at = self._lease(name).held, self._retry_at.get(name, NEVER)
        renew_at = NEVER if held is None else held.renewed_at + self._renew_after_s.get(name, 0.0)
        return max(renew_at, retry_at)

    def _pause_s(self) -> float:
        """Return the time until a lease is due or another one expires."""
        now, leases = self._now(), self.leases
        own = [leases.names.member(leases.identity), *(leases.names.shard(shard) for shard in leases.shards)]
        times = [self._due_at(name) for name in own]
        others = [lease for lease in (*leases.shards.values(), *leases.others.values()) if lease.held is None]
        times += [o.since + o.record.duration_s for lease in others if (o := lease.observed) is not None and o.record]
        if leases.joined_at is not None:
            times.append(leases.joined_at + SETTLE_S)
        return min((t for t in times if t > now), default=now + self.spec.lease.renew_s) - now


def new_identity() -> str:
    """Return an identity that no process has had, so that a restart holds no old leases."""
    host = re.sub(r"[^a-z0-9-]", "-", socket.gethostname().lower()).strip("-")[:60]
    return f"{host or 'host'}-{uuid.uuid4().hex[:8]}"
