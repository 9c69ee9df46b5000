"""The leases of one daemon: its own as a member, and those of its share of the shards.

`ShardLeases` holds the state and decides by the protocol; it does no I/O. `Coordinator` carries the decisions out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final

from policies.model import WorkloadName
from scaler.leases.protocol import RELEASED, Lease, Record
from scaler.leases.shard_map import EMPTY, ShardMap
from scaler.leases.shares import assign
from scaler.leases.store import LeaseNames

URL: Final = "url"
"""Key of the member's URL in its note."""
ADDRESSES: Final = "addresses"
"""Key of the servers' addresses in a member's note. All further keys are numbers of shards."""
SETTLE_S: Final = 1.0
"""Time that a new member waits for others before it takes free shards: daemons that start together share at once."""


class ShardLeases:
    """The leases as one daemon, `identity`, knows them.

    `map` is the shard map that this daemon has published in its member lease. Workloads run by that one only.
    """

    def __init__(self, identity: str, names: LeaseNames, shards: int, duration_s: float) -> None:
        self.identity = identity
        self.names = names
        self.member = Lease(identity, duration_s)
        self.shards = {shard: Lease(identity, duration_s) for shard in range(shards)}
        self.others: dict[str, Lease] = {}
        self.map = ShardMap()
        self.cleared: set[WorkloadName] = set()
        """The workloads that may run while their shard is held: all members agreed on its locks when it was taken."""
        self.suspended = True
        """Whether this member was absent, and has not compared its map with those of the others since."""
        self.joined_at: float | None = None
        self.url = ""
        """URL by which other daemons reach this one's HTTP server; empty for none."""

    def lease(self, name: str) -> Lease | None:
        """Return a lease by its name; None for one that belongs to no shard and no member."""
        shard = self.names.shard_number(name)
        if shard is not None:
            return self.shards.get(shard)
        if name == self.names.member(self.identity):
            return self.member
        return (
            self.others.get(name, Lease(self.identity, self.member.duration_s)) if self.names.is_member(name) else None
        )

    def replace(self, name: str, lease: Lease) -> None:
        """Replace the state of a lease."""
        shard = self.names.shard_number(name)
        if shard is not None:
            self.shards[shard] = lease
        elif name == self.names.member(self.identity):
            self.member = lease
        else:
            self.others[name] = lease
            if lease.observed is None or lease.observed.record is None:
                del self.others[name]

    def observe(self, name: str, record: Record | None, now: float) -> bool:
        """Apply a record of the store. Return whether it changes more than a renewal does."""
        before = self.lease(name)
        if before is None:
            return False
        after = before.observe(record, now)
        self.replace(name, after)
        return _essence(before) != _essence(after)

    def observe_all(self, records: Mapping[str, Record], began: float, now: float) -> bool:
        """Apply a list of all records that was requested at `began`. Return as `observe`."""
        names = [self.names.shard(shard) for shard in self.shards] + list(self.others)
        changed = [self.observe(name, record, now) for name, record in records.items()]
        for name in names:
            lease = self.lease(name)
            if name not in records and lease is not None and (lease.observed is None or lease.observed.since < began):
                changed.append(self.observe(name, None, now))
        return any(changed)

    def live_members(self, now: float) -> Mapping[str, str]:
        """Return the live members with their notes."""
        live: dict[str, str] = {}
        for lease in (*self.others.values(), self.member):
            holder = lease.holder(now)
            if holder != RELEASED and lease.observed is not None and lease.observed.record is not None:
                live[holder] = lease.observed.record.note
        return live

    def note(self, shard_map: ShardMap) -> str:
        """Return the text of this member's lease, which publishes a shard map and the URL."""
        return note_of(shard_map, self.url)

    def peer_urls(self, now: float) -> Mapping[str, str]:
        """Return the URL that each other live member has published; empty for none."""
        return {m: text_in(note, URL) for m, note in self.live_members(now).items() if m != self.identity}

    def assigned(self, now: float) -> set[int]:
        """Return the shards that this daemon is to hold."""
        members = self.live_members(now)
        if self.identity not in members:
            return {shard for shard, lease in self.shards.items() if lease.held is not None}
        holders = {shard: lease.holder(now) for shard, lease in self.shards.items()}
        if self.joined_at is None or now < self.joined_at + SETTLE_S:
            return {shard for shard, holder in holders.items() if holder == self.identity}
        return {
            shard for shard, member in assign(len(self.shards), members, holders).items() if member == self.identity
        }

    def agreed(self, shard: int, now: float) -> bool:
        """Return whether all live members place the same locks in a shard.

        Each member publishes its map before it reads those of the others. So of two members with different maps at
        least one sees the difference, and starts no workload of the shard.
        """
        own = self.map.fingerprints.get(shard, EMPTY)
        others = [note for member, note in self.live_members(now).items() if member != self.identity]
        return all(fingerprint_in(note, shard) == own for note in others)

    def address_difference(self, now: float) -> str:
        """Return how another live member names other addresses; empty if none does."""
        members = sorted(self.live_members(now).items())
        texts = ((m, address_difference(self.map.addresses, note)) for m, note in members)
        return next((f"daemon {member} {text}" for member, text in texts if text), "")

    def epoch(self, workload: WorkloadName) -> int | None:
        """Return the epoch of a workload's shard; None while its lease is not held."""
        shard = self.map.shards.get(workload)
        held = None if shard is None else self.shards[shard].held
        return None if held is None else held.epoch

    def refusal(self, workload: WorkloadName, epoch: int | None, write_s: float, now: float) -> str:
        """Return why a write may not begin, as `Fence.refusal`."""
        shard = self.map.shards.get(workload)
        lease = None if shard is None else self.shards[shard]
        if lease is None or lease.held is None:
            return f"this daemon does not hold the lease of shard {'unknown' if shard is None else shard}"
        if lease.held.epoch != epoch:
            return f"the lease of shard {shard} changed from epoch {epoch} to {lease.held.epoch} during the tick"
        for what, held in ((f"shard {shard}", lease), ("this member", self.member)):
            if held.valid_for_s(now) <= write_s:
                age_s = "unknown" if held.held is None else f"{now - held.held.renewed_at:.1f}"
                limit_s = held.duration_s - write_s
                return f"the lease of {what} was renewed {age_s} s ago; a write needs at most {limit_s:g} s"
        if self.suspended or workload not in self.cleared:
            return f"this daemon stops the workloads of shard {shard}, or compares its configuration with the others"
        if now < lease.held.writes_from:
            wait_s = lease.held.writes_from - now
            return f"the lease of shard {shard} had expired when it was taken: writes begin in {wait_s:.1f} s"
        return ""


def _essence(lease: Lease) -> tuple[object, ...]:
    """Return what a renewal leaves as it is."""
    record = None if lease.observed is None else lease.observed.record
    return (lease.observed is None, lease.held is None) + ((record.holder, record.note) if record else ())


def note_of(shard_map: ShardMap, url: str = "") -> str:
    """Return the text that publishes a shard map, and a URL, in a member's lease."""
    texts = {str(shard): text for shard, text in sorted(shard_map.fingerprints.items())}
    addresses = {ADDRESSES: sorted(shard_map.addresses)} if shard_map.addresses else {}
    return json.dumps({**texts, **({URL: url} if url else {}), **addresses}, separators=(",", ":"))


def fingerprint_in(note: str, shard: int) -> str:
    """Return a shard's fingerprint in a member's note. A malformed note agrees with none."""
    return text_in(note, str(shard), EMPTY, "malformed")


def address_difference(own: frozenset[str], note: str) -> str:
    """Return how the addresses in a member's note differ from the own ones, and the remedy.

    The text is empty unless each of the two names a server that the other one does not.
    """
    try:
        others = {str(address) for address in json.loads(note or "{}").get(ADDRESSES, ())}
    except (ValueError, AttributeError, TypeError):
        return ""
    ours, theirs = ", ".join(sorted(own - others)), ", ".join(sorted(others - own))
    if not ours or not theirs:
        return ""
    return (
        f"names {theirs} where this configuration names {ours}: use one address of each API server in all kubeconfigs"
    )


def text_in(note: str, key: str, absent: str = "", malformed: str = "") -> str:
    """Return a text in a member's note."""
    try:
        return str(json.loads(note or "{}").get(key, absent))
    except (ValueError, AttributeError):
        return malformed


class WorkloadFence:
    """The permission of one workload's writes, by the lease of its shard."""

    def __init__(self, leases: ShardLeases, workload: WorkloadName, now: Callable[[], float]) -> None:
        self._leases = leases
        self._workload = workload
        self._now = now

    def epoch(self) -> int | None:
        return self._leases.epoch(self._workload)

    def refusal(self, epoch: int | None, write_s: float) -> str:
        return self._leases.refusal(self._workload, epoch, write_s, self._now())
