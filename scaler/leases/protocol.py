"""The protocol of one lease: pure transitions without I/O.

A lease is a record in a store that replaces it only if its version still is the one that the writer read. The rules are
those of Kubernetes' client-go:

- A lease has expired when its record has not changed for its duration, on the clock of the daemon that observes it. No
  time in the record is read.
- The validity of a renewal counts from when it *began*. Example: with a duration of 15 s, a renewal that began at 100 s
  and was answered at 103 s is valid until 115 s. Others observed it at 100 s or later, and take the lease at 115 s or
  later.
- `transitions` grows with each new holder. It is the epoch of the holder's writes.

A daemon writes sizes only while a whole write fits into the validity. All times are of one clock that also runs while
the machine sleeps (`clock.lease_clock_s`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

RELEASED = ""
"""Holder of a released lease."""
RELEASED_S = 1.0
"""Duration in the record of a released lease, as client-go writes it. Seconds."""


@dataclass(frozen=True, slots=True)
class Record:
    """A lease in the store.

    `version` changes with each write, and `note` is a text of its holder. `renewed` is the time of the last renewal on
    the holder's clock: it is for people, and the protocol does not read it.
    """

    holder: str
    transitions: int
    duration_s: float
    version: str = ""
    note: str = ""
    renewed: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Observed:
    """The last observed record, None if the store has none, and when it was first observed."""

    record: Record | None
    since: float


@dataclass(frozen=True, slots=True)
class Held:
    """A held lease.

    `renewed_at` is when its last successful renewal began. Sizes may be written from `writes_from` on.
    """

    epoch: int
    renewed_at: float
    writes_from: float


class LeaseOrigin(Enum):
    """The state of a lease before it is written."""

    HELD = "held"  # a renewal
    RELEASED = "released"  # its last holder has stopped writing
    UNKNOWN = "unknown"  # expired, absent, or taken by a write of this daemon whose response was lost


@dataclass(frozen=True, slots=True)
class Claim:
    """A write of `record`, if the stored version still is `replaces`; None creates the lease."""

    record: Record
    replaces: str | None
    origin: LeaseOrigin
    began: float


@dataclass(frozen=True, slots=True)
class Lease:
    """One lease as one daemon, `identity`, knows it."""

    identity: str
    duration_s: float
    observed: Observed | None = None
    held: Held | None = None

    def observe(self, record: Record | None, now: float) -> Lease:
        """Return the state after the record was read.

        Another holder's record ends this daemon's hold. A record that is older than the known one, as a late event of a
        watch, is ignored.
        """
        known = None if self.observed is None else self.observed.record
        if known is not None and record is not None and is_older(record.version, known.version):
            return self
        same = self.observed is not None and known == record
        observed = self.observed if same else Observed(record, now)
        after = replace(self, observed=observed)
        return after if after.is_mine else replace(after, held=None)

    def has_expired(self, now: float) -> bool:
        """Return whether the record's holder did not renew it for its duration."""
        if self.observed is None or self.observed.record is None:
            return False
        return now - self.observed.since >= self.observed.record.duration_s

    def holder(self, now: float) -> str:
        """Return the present holder; `RELEASED` where there is none, or the lease has expired."""
        record = None if self.observed is None else self.observed.record
        return RELEASED if record is None or self.has_expired(now) else record.holder

    def claim(self, now: float, note: str = "") -> Claim | None:
        """Return the write that takes or renews the lease.

        Returns None while another daemon holds it, or it was not read yet.
        """
        if self.observed is None:
            return None
        record = self.observed.record
        if record is None:
            return Claim(Record(self.identity, 0, self.duration_s, note=note), None, LeaseOrigin.UNKNOWN, now)
        if record.holder == self.identity:
            origin = LeaseOrigin.UNKNOWN if self.held is None else LeaseOrigin.HELD
            return self._claim(record, record.transitions, origin, now, note)
        if record.holder == RELEASED or self.has_expired(now):
            origin = LeaseOrigin.RELEASED if record.holder == RELEASED else LeaseOrigin.UNKNOWN
            return self._claim(record, record.transitions + 1, origin, now, note)
        return None

    def _claim(self, record: Record, transitions: int, origin: LeaseOrigin, now: float, note: str) -> Claim:
        return Claim(Record(self.identity, transitions, self.duration_s, note=note), record.version, origin, now)

    def accept(self, claim: Claim, stored: Record, now: float) -> Lease:
        """Return the state after the store accepted a claim.

        A lease that was not released is written under only after one more duration: a paused holder may still have a
        write under way. Example: it expired at 115 s and was taken then; sizes are written from 130 s on.
        """
        if claim.origin is LeaseOrigin.HELD and self.held is not None:
            writes_from = self.held.writes_from
        elif claim.origin is LeaseOrigin.RELEASED:
            writes_from = claim.began
        else:
            writes_from = claim.began + self.duration_s
        held = Held(claim.record.transitions, claim.began, writes_from)
        return replace(self, observed=Observed(stored, now), held=held)

    @property
    def is_mine(self) -> bool:
        """Whether the record names this daemon, whose hold may be unknown or have ended."""
        record = None if self.observed is None else self.observed.record
        return record is not None and record.holder == self.identity

    def release(self, now: float) -> tuple[Lease, Claim] | None:
        """Return the state and the write that release the lease.

        Returns None where it is not this daemon's. The hold ends before the write is sent: if its response is lost,
        another daemon may hold the lease already. The caller has ended all writes of sizes.
        """
        if self.observed is None or self.observed.record is None or not self.is_mine:
            return None
        record = self.observed.record
        released = Record(RELEASED, record.transitions, RELEASED_S)
        return replace(self, held=None), Claim(released, record.version, LeaseOrigin.HELD, now)

    def valid_for_s(self, now: float) -> float:
        """Return the remaining validity; 0 or less where the lease is not held any more."""
        return 0.0 if self.held is None else self.held.renewed_at + self.duration_s - now

    def may_write(self, now: float, write_s: float) -> bool:
        """Return whether a write of at most `write_s` may begin."""
        return self.held is not None and now >= self.held.writes_from and self.valid_for_s(now) > write_s


def is_older(version: str, than: str) -> bool:
    """Return whether a version is older than another; False where they are not numbers."""
    return version.isdecimal() and than.isdecimal() and int(version) < int(than)
