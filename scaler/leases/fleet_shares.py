"""The protocol of the fleet's limits across daemons: pure transitions without I/O.

One record of the store divides the limits between the shards. Each shard has a share, and only the holder of the
shard's lease changes it. So a daemon uses its shares without a request, and a cut-off daemon's shares stand until
another daemon takes its shards.

- A shard is charged what it was granted, or what its workloads use where that is more: sizes that stand are counted.
- A share grows only where the charges of all shards then stay within the limit, in one compare-and-swap. It counts for
  growth once the store has answered.
- A holder stops using what it gives away before it sends the write. While the answer is missing, it uses the smallest
  share that the store may hold. Example: a daemon with a share of 10 writes 6, and gets no answer. It uses at most 6
  until it reads a newer version of the record.
- A new holder enters its name into the share first, and leaves the charge as it was. It gives nothing away until no
  write of the last holder can be under way.
- A shard without a share in the record counts as all that its workloads may use.

The record's number of transitions counts its writes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, Self

from policies.quota.shard_shares import Amounts, ShardNeed, divide
from scaler.leases.protocol import Claim, LeaseOrigin, Record, is_older

TOLERANCE: Final = 1e-6
"""Rounding error of sums of amounts."""
REMOVALS: Final = Amounts._fields.index("removals")


class Limits(NamedTuple):
    """The fleet's limits in the units of `Amounts`; None: no limit."""

    gpus: float | None = None
    usd_per_hour: float | None = None
    removals: float | None = None


@dataclass(frozen=True, slots=True)
class ShardUse:
    """The amounts that a shard's workloads use, may use at most, and need by unit."""

    used: Amounts
    most: Amounts
    replicas: int = 0
    needs: tuple[tuple[ShardNeed, ...], tuple[ShardNeed, ...], tuple[ShardNeed, ...]] = ((), (), ())


@dataclass(frozen=True, slots=True)
class Share:
    """A shard's entry in the record.

    `holder` and `epoch` are those of the lease under which it was written. `locks` is the fingerprint of the shard's
    locks, by which daemons with different workloads in a shard notice that.
    """

    holder: str
    epoch: int
    locks: str
    granted: Amounts
    use: ShardUse

    @property
    def charge(self) -> Amounts:
        """The amounts that count against the limits."""
        return self.granted.larger(self.use.used)


@dataclass(frozen=True, slots=True)
class OwnShard:
    """A shard whose valid lease this daemon holds in `epoch`.

    `gives`: whether no write of the last holder can be under way, so that its charge may fall.
    """

    epoch: int
    locks: str
    use: ShardUse
    gives: bool


@dataclass(frozen=True, slots=True)
class ShardView:
    """The shards of one daemon's configuration: its own, and the others."""

    own: Mapping[int, OwnShard]
    others: Mapping[int, tuple[str, ShardUse]]
    """The fingerprint of each other shard with workloads, and its use if all sizes were at their maximum."""
    limits: Limits
    ended: frozenset[int] = frozenset()
    """Shards that have no workloads in any daemon's configuration."""


@dataclass(frozen=True, slots=True)
class FleetShares:
    """The record as one daemon, `identity`, knows it."""

    identity: str
    duration_s: float
    observed: bool = False
    record: Record | None = None
    shares: Mapping[int, Share] = field(default_factory=dict)
    sent: Mapping[int, Amounts] = field(default_factory=dict)
    """The smallest shares in writes without an answer, which replace the known version of the record."""

    def observe(self, record: Record | None, *, is_reported: bool = False) -> Self:
        """Return the state after the record was read, or after a watch reported it.

        A record that is older than the known one is ignored. Where versions have no order, that is a reported one of
        fewer writes. One that was read after a conflict is the present one, also after a database lost writes.
        """
        if record is not None and self.record is not None:
            is_late = is_reported and not record.version.isdecimal() and record.transitions < self.record.transitions
            if is_late or is_older(record.version, self.record.version):
                return self
        if self.observed and record == self.record:
            return self
        return replace(self, observed=True, record=record, shares=decode(record.note if record else ""), sent={})

    def usable(self, shard: int, epoch: int | None) -> Amounts:
        """Return the share that the holder of a shard in `epoch` may use."""
        share = self.shares.get(shard)
        if share is None or (share.holder, share.epoch) != (self.identity, epoch):
            return Amounts()
        return share.granted.smaller(self.sent.get(shard, share.granted))

    def charges(self, view: ShardView) -> dict[int, ShardUse]:
        """Return the use of each shard, with its charge as `most`."""
        uses = {n: replace(share.use, most=share.charge) for n, share in self.shares.items() if n not in view.ended}
        for shard, (locks, most) in view.others.items():
            share = self.shares.get(shard)
            if share is None:
                uses[shard] = replace(most, used=most.most)
            elif share.locks != locks:
                charge = share.charge.larger(most.most)
                uses[shard] = replace(most, used=charge, most=charge)
        return uses

    def next_shares(self, view: ShardView) -> dict[int, Share]:
        """Return the shares to be written: each own shard's part of the limits, where it is free."""
        uses = self.charges(view) | {shard: own.use for shard, own in view.own.items()}
        shares = {n: share for n, share in self.shares.items() if n not in view.ended}
        for shard, own in view.own.items():
            before, used = self.shares.get(shard), own.use.used
            if before is not None and not own.gives:
                used = used.larger(before.use.used)
            granted = Amounts() if before is None else before.granted
            shares[shard] = Share(self.identity, own.epoch, own.locks, granted, replace(own.use, used=used))
        for unit, limit in enumerate(view.limits):
            if limit is not None:
                _divide_unit(unit, limit, view, uses, shares)
        return shares

    def claim(self, shares: Mapping[int, Share], now: float) -> tuple[Self, Claim]:
        """Return the write of these shares, and the state while it is under way."""
        sent = dict(self.sent)
        for shard, share in shares.items():
            if share.holder == self.identity:
                sent[shard] = share.granted.smaller(sent.get(shard, share.granted))
        writes, replaces, origin = 0, None, LeaseOrigin.UNKNOWN
        if self.record is not None:
            writes, replaces = self.record.transitions + 1, self.record.version
            origin = LeaseOrigin.HELD if self.record.holder == self.identity else LeaseOrigin.UNKNOWN
        record = Record(self.identity, writes, self.duration_s, note=encode(shares))
        return replace(self, sent=sent), Claim(record, replaces, origin, now)


def _divide_unit(
    unit: int,
    limit: float,
    view: ShardView,
    uses: Mapping[int, ShardUse],
    shares: dict[int, Share],
) -> None:
    """Set the own shards' grants of one unit: first those that fall, then those that grow."""
    most = _with_quantum(limit, uses) if unit == REMOVALS else limit
    needs = {n: use.needs[unit] for n, use in uses.items()}
    parts = divide(most, {n: use.used[unit] for n, use in uses.items()}, needs)
    targets = {shard: min(parts[shard], own.use.most[unit]) for shard, own in view.own.items()}
    for shard, target in targets.items():
        if view.own[shard].gives and target < shares[shard].granted[unit] - TOLERANCE:
            shares[shard] = _granting(shares[shard], unit, target)
    for shard, target in targets.items():
        charged = [(shares[n].charge if n in view.own else use.most)[unit] for n, use in uses.items() if n != shard]
        grown = min(target, (limit if any(charged) else most) - sum(charged))
        if grown > shares[shard].granted[unit] + TOLERANCE:
            shares[shard] = _granting(shares[shard], unit, grown)


def _with_quantum(limit: float, uses: Mapping[int, ShardUse]) -> float:
    """Return the limit of removals, at least one quantum of a pool while none is in the window."""
    if any(use.used[REMOVALS] > 0 for use in uses.values()):
        return limit
    waiting = (need for use in uses.values() for need in use.needs[REMOVALS] if need.need > need.held)
    return max(limit, min((need.per_replica for need in waiting), default=0.0))


def _granting(share: Share, unit: int, amount: float) -> Share:
    granted = list(share.granted)
    granted[unit] = max(0.0, amount)
    return replace(share, granted=Amounts(*granted))


def encode(shares: Mapping[int, Share]) -> str:
    """Return the note of the record."""
    entries = {
        str(shard): {
            "holder": share.holder,
            "epoch": share.epoch,
            "locks": share.locks,
            "granted": _rounded(share.granted),
            "used": _rounded(share.use.used),
            "most": _rounded(share.use.most),
            "replicas": share.use.replicas,
            "needs": [[_rounded(need) for need in unit] for unit in share.use.needs],
        }
        for shard, share in sorted(shares.items())
    }
    return json.dumps(entries, separators=(",", ":"))


def decode(note: str) -> dict[int, Share]:
    """Return the shares of a note.

    A malformed entry is left out, so that its shard counts in full.
    """
    try:
        entries = dict(json.loads(note or "{}"))
    except (ValueError, TypeError):
        return {}
    shares = {}
    for shard, entry in entries.items():
        try:
            shares[int(shard)] = _decode_share(entry)
        except (KeyError, TypeError, ValueError):
            continue
    return shares


def _decode_share(entry: Mapping[str, Any]) -> Share:
    gpus, usd, removals = (tuple(ShardNeed(int(n[0]), *_amounts(n[1:])) for n in unit) for unit in entry["needs"])
    used, most, granted = (Amounts(*_amounts(entry[key])) for key in ("used", "most", "granted"))
    use = ShardUse(used, most, int(entry["replicas"]), (gpus, usd, removals))
    return Share(str(entry["holder"]), int(entry["epoch"]), str(entry["locks"]), granted, use)


def _amounts(values: Iterable[Any]) -> list[float]:
    amounts = [float(value) for value in values]
    if not all(math.isfinite(amount) and amount >= 0 for amount in amounts):
        raise ValueError("an amount is finite and not negative")
    return amounts


def _rounded(values: tuple[float, ...]) -> list[float]:
    return [round(value, 6) for value in values]
