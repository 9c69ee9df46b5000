"""Explicit-state search of the lease protocol: every interleaving of the code that the daemon runs.

A process may be paused at any step for any time: the search then schedules the other one alone. Requests and responses
may be lost, and a request may arrive at any later time. Times are ages, so that the states are finitely many:
with a duration of 2, ages above 2 behave alike.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

import pytest

from scaler.leases.protocol import RELEASED, Claim, Held, Lease, LeaseOrigin, Observed, Record
from scaler.leases.shares import assign

DURATION, WRITE = 2, 1
StateT = TypeVar("StateT", bound=Hashable)


def search(start: StateT, steps: Callable[[StateT], Iterator[StateT]], most: int) -> list[StateT]:
    """Return all reachable states, of which there must be at most `most`, the nearest first."""
    seen, queue = {start: None}, deque([start])
    while queue:
        for state in steps(queue.popleft()):
            if state not in seen:
                assert len(seen) < most, "the search does not end"
                seen[state] = None
                queue.append(state)
    return list(seen)


def older(at: float, least: float = -DURATION) -> float:
    """Return a time one step later: now is always 0."""
    return max(at - 1, least)


def aged(lease: Lease) -> Lease:
    """Return a lease one step of time later."""
    observed = lease.observed and replace(lease.observed, since=older(lease.observed.since))
    held = lease.held and Held(0, older(lease.held.renewed_at), older(lease.held.writes_from, 0))
    return replace(lease, observed=observed, held=held)


@dataclass(frozen=True)
class Daemon:
    """One daemon: its lease, and its claim on the way to the store."""

    lease: Lease
    claim: Claim | None = None


@dataclass(frozen=True)
class World:
    """The store and two daemons."""

    store: Record | None
    daemons: tuple[Daemon, Daemon]


def started(identity: str) -> Daemon:
    return Daemon(Lease(identity, DURATION))


def put(store: Record | None, claim: Claim) -> Record | None:
    """Return the record that the store holds after an accepted claim; None for a conflict."""
    if claim.replaces != (None if store is None else store.version):
        return None
    takes = store is not None and claim.record.holder not in {store.holder, RELEASED}
    epoch = 0 if store is None else store.transitions
    assert claim.record.transitions == epoch + takes, "the epoch grows by one with each new holder"
    version = 1 if store is None else int(store.version) + 1
    return replace(claim.record, version=str(version))


def normal(world: World) -> World:
    """Return the world with small numbers for versions and epochs, of which only order and equality count."""
    records = [world.store, *(d.lease.observed and d.lease.observed.record for d in world.daemons)]
    versions = {r.version for r in records if r} | {c.replaces for d in world.daemons if (c := d.claim) and c.replaces}
    small = {version: str(rank) for rank, version in enumerate(sorted(versions, key=int), 1)}

    def record(r: Record | None) -> Record | None:
        return r and replace(r, version=small[r.version], transitions=0)

    def claim(c: Claim) -> Claim:
        taken = c.record.transitions if c.origin is not LeaseOrigin.HELD else 0
        return replace(c, record=replace(c.record, transitions=taken), replaces=c.replaces and small[c.replaces])

    def daemon(d: Daemon) -> Daemon:
        observed = d.lease.observed and Observed(record(d.lease.observed.record), d.lease.observed.since)
        held = d.lease.held and replace(d.lease.held, epoch=0)
        return replace(d, lease=replace(d.lease, observed=observed, held=held), claim=d.claim and claim(d.claim))

    first, second = map(daemon, world.daemons)
    return World(record(world.store), (first, second))


def later(world: World) -> World:
    """Return the world one step of time later."""

    def daemon(d: Daemon) -> Daemon:
        claim = d.claim and replace(d.claim, began=older(d.claim.began))
        return Daemon(aged(d.lease), claim)

    first, second = map(daemon, world.daemons)
    return World(world.store, (first, second))


def moves(world: World, d: Daemon) -> Iterator[tuple[Record | None, Daemon]]:
    """Yield each step of one daemon and its claim: the store and the daemon after it."""
    store, lease = world.store, d.lease
    yield store, replace(d, lease=lease.observe(store, 0))
    if d.claim is None:
        if (claim := lease.claim(0)) is not None:
            yield store, replace(d, claim=claim)
        if (release := lease.release(0)) is not None:  # its caller has no write under way
            yield store, replace(d, lease=release[0], claim=release[1])
        return
    yield store, replace(d, claim=None)  # the request is lost
    if (stored := put(store, d.claim)) is None:
        yield store, replace(d, claim=None, lease=lease.observe(store, 0))
        return
    yield stored, replace(d, claim=None)  # the response is lost
    released = d.claim.record.holder == RELEASED
    after = lease.observe(stored, 0) if released else lease.accept(d.claim, stored, 0)
    yield stored, replace(d, claim=None, lease=after)


def one_lease(world: World) -> Iterator[World]:
    """Yield each next state, and check that only one daemon writes.

    A write begins only if it ends within the validity. So no write of another daemon is under way once that one's hold
    or validity has ended.
    """
    yield normal(later(world))
    for i, d in enumerate(world.daemons):
        other = world.daemons[1 - i]
        for store, after in moves(world, d):
            pair = (after, other) if i == 0 else (other, after)
            for one, two in (pair, pair[::-1]):
                writes = one.lease.may_write(0, WRITE)
                assert not writes or two.lease.valid_for_s(0) <= 0, "one writes while a write of the other may last"
            yield normal(World(store, pair))


@pytest.mark.slow
def test_one_lease_has_one_writer_in_every_interleaving() -> None:
    seen = search(World(None, (started("a"), started("b"))), one_lease, 100_000)
    writers = {d.lease.identity for world in seen for d in world.daemons if d.lease.may_write(0, WRITE)}
    assert writers == {"a", "b"}  # both get to write


SHARDS, STEPS = 3, 2


WORLDS: list[World] = []
NUMBERS: dict[World, int] = {}
"""Each lease's world as a number: fleets of three are many, and their leases are few."""


@dataclass(frozen=True)
class Fleet:
    """The leases of three shards at a time, as the store and as two daemons know them: numbers of `WORLDS`."""

    shards: tuple[int, ...]
    at: int = 0


def number(world: World) -> int:
    """Return the number of a lease's world."""
    world = normal(world)
    if world not in NUMBERS:
        NUMBERS[world] = len(WORLDS)
        WORLDS.append(world)
    return NUMBERS[world]


@cache
def holder(shard: int, i: int) -> str:
    """Return the holder of a lease as a daemon that has just read it knows."""
    world = WORLDS[shard]
    return world.daemons[i].lease.observe(world.store, 0).holder(0)


@cache
def wanted(me: str, members: tuple[str, ...], holders: tuple[str, ...]) -> frozenset[int]:
    """Return the shards that a daemon is to hold."""
    return frozenset(n for n, member in assign(SHARDS, members, dict(enumerate(holders))).items() if member == me)


@cache
def next_world(shard: int, i: int, is_wanted: bool, answered: bool) -> int:
    """Return a lease after a daemon has read it, and has renewed, taken or released it.

    Without an answer the store has its write, and the daemon does not know that.
    """
    world = WORLDS[shard]
    store, lease = world.store, world.daemons[i].lease.observe(world.store, 0)
    released = None if is_wanted else lease.release(0)
    kept, claim = released or (lease, lease.claim(0) if is_wanted else None)
    if claim is not None and (stored := put(store, claim)) is not None:
        store = stored
        if answered:
            kept = kept.observe(stored, 0) if released else kept.accept(claim, stored, 0)
    pair = list(world.daemons)
    pair[i] = Daemon(kept)
    return number(World(store, (pair[0], pair[1])))


@cache
def later_world(shard: int) -> int:
    """Return a lease one step of time later."""
    return number(later(WORLDS[shard]))


@cache
def check(shard: int) -> None:
    """Check that a shard has one writer."""
    daemons = WORLDS[shard].daemons
    for one, two in (daemons, daemons[::-1]):
        assert not one.lease.may_write(0, WRITE) or two.lease.valid_for_s(0) <= 0


def one_round(fleet: Fleet, i: int, members: tuple[str, ...], answered: bool) -> Fleet:
    """Return the fleet after a daemon, which sees these members, has read, renewed, taken and released leases."""
    own = wanted("ab"[i], members, tuple(holder(shard, i) for shard in fleet.shards))
    return Fleet(tuple(next_world(shard, i, n in own, answered) for n, shard in enumerate(fleet.shards)), fleet.at)


def aged_fleet(fleet: Fleet, at: int) -> Fleet:
    """Return a fleet one step of time later."""
    return Fleet(tuple(map(later_world, fleet.shards)), at)


def three_shards(fleet: Fleet) -> Iterator[Fleet]:
    """Yield each next state until `STEPS`, and check that each shard has one writer.

    A daemon may believe at any time that the other one is gone, or has come back.
    """
    for shard in fleet.shards:
        check(shard)
    if fleet.at < STEPS:
        yield aged_fleet(fleet, fleet.at + 1)
    for i, me in enumerate("ab"):
        for members in ((me,), ("a", "b")):
            for answered in (True, False):
                yield one_round(fleet, i, members, answered)


@pytest.mark.slow
def test_three_shards_have_one_writer_each_and_are_shared() -> None:
    """In `STEPS` of time; the search above has no bound of time. After faults, both daemons get their shares."""
    new = number(World(None, (started("a"), started("b"))))
    seen = search(Fleet((new,) * SHARDS), three_shards, 200_000)
    for settled in [fleet for fleet in seen if fleet.at == STEPS][::25]:
        for _ in range(DURATION + 1):
            for i in (0, 1, 0, 1):
                settled = one_round(settled, i, ("a", "b"), answered=True)  # noqa: PLW2901 - the rounds follow
            settled = aged_fleet(settled, STEPS)  # noqa: PLW2901
        holders = sorted(r.holder for shard in settled.shards if (r := WORLDS[shard].store))
        assert holders in (["a", "a", "b"], ["a", "b", "b"])
