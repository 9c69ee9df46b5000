"""Laws of a fleet of daemons, read from the audit log of the API server.

- A target has one writer in each epoch, and epochs never fall.
- A write has the epoch of a lease that its writer has taken before.
- The lease of an epoch begins when that of the last one was released, or a whole duration after its last renewal.
- A write of a smaller size follows an answer of the source within `EVIDENCE_S`, and fresh readings in its tick.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from policies.model import Fresh, Result
from scaler.config.load import load
from scaler.journal.reader import Journal
from scaler.leases.shard_map import shard_map
from tests.servers.daemons import ACCOUNTS, DURATION_S, SHARDS, Rig, Write

EVIDENCE_S: Final = DURATION_S + 6.0
"""Maximum time between an answer of the source and a write by it: a paused daemon writes while its lease is valid."""


@dataclass(frozen=True)
class Renewal:
    """An accepted write of a shard's lease: it was received at `at` and accepted at `accepted_at`."""

    user: str
    shard: int
    epoch: int
    held: bool
    at: float
    accepted_at: float


def problems(rig: Rig, answered: Mapping[str, Sequence[float]]) -> list[str]:
    """Return the violations of all laws."""
    shards = {str(name): shard for name, shard in shard_map(load([rig.folder / "a"]), SHARDS).shards.items()}
    writes, renewals = rig.writes(), _renewals(rig)
    found = [*wrong_epochs(writes), *overlaps(renewals), *not_held(writes, renewals, shards)]
    return [*found, *blind_writes(writes, answered), *_blind_ticks(rig)]


def wrong_epochs(writes: Sequence[Write]) -> Iterator[str]:
    """Yield the writes after one of a later epoch, or by a second writer of one."""
    for name in {write.target for write in writes}:
        for first, second in pairwise(write for write in writes if write.target == name):
            if second.epoch < first.epoch:
                yield f"a write of an older epoch follows: {first}, {second}"
            elif second.epoch == first.epoch and second.user != first.user:
                yield f"two writers in one epoch: {first}, {second}"


def overlaps(renewals: Sequence[Renewal]) -> Iterator[str]:
    """Yield the leases that were taken while those of other holders were valid."""
    last: dict[int, Renewal] = {}
    for renewal in renewals:
        before = last.get(renewal.shard)
        last[renewal.shard] = renewal
        if before is None or not before.held or renewal.user == before.user:
            continue
        if renewal.accepted_at < before.at + DURATION_S:
            yield f"a lease was taken before the last one had ended: {before}, {renewal}"


def not_held(writes: Sequence[Write], renewals: Sequence[Renewal], shards: Mapping[str, int]) -> Iterator[str]:
    """Yield the writes in an epoch that the writer had not taken."""
    taken: dict[tuple[int, int, str], float] = {}
    for renewal in renewals:
        taken.setdefault((renewal.shard, renewal.epoch, renewal.user), renewal.at)
    for write in writes:
        if write.at < taken.get((shards[write.target], write.epoch, write.user), float("inf")):
            yield f"the writer had not taken the epoch: {write}"


def blind_writes(writes: Sequence[Write], answered: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """Yield the writes of smaller sizes without an answer of the source shortly before."""
    for write in scale_ins(writes):
        times = answered.get(write.target, ())
        latest = bisect.bisect_right(times, write.at) - 1
        if latest < 0 or times[latest] < write.at - EVIDENCE_S:
            yield f"a scale-in without an answer of the source in {EVIDENCE_S:g} s: {write}"


def scale_ins(writes: Sequence[Write]) -> Iterator[Write]:
    """Yield the writes of smaller sizes. Each target begins with one replica."""
    sizes: dict[str, int] = {}
    for write in writes:
        if write.size < sizes.get(write.target, 1):
            yield write
        sizes[write.target] = write.size


def _blind_ticks(rig: Rig) -> Iterator[str]:
    """Yield the ticks that scaled in without fresh readings, by the journals."""
    for account in ACCOUNTS:
        for tick in Journal(rig.folder / f"journal-{account}"):
            scaled_in = [o for o in tick.outcomes if o.result is Result.ACCEPTED and o.after < o.before]
            if scaled_in and not all(isinstance(r, Fresh) for r in tick.observation.readings.values()):
                yield f"{account}: {tick.workload} scaled in at {tick.at} without fresh readings"


def _renewals(rig: Rig) -> list[Renewal]:
    """Return the accepted writes of shards' leases, in the order of the API server."""
    return [renewal for event in rig.kube.plane.audit_events() if (renewal := _renewal(rig, event)) is not None]


def _renewal(rig: Rig, event: Mapping[str, Any]) -> Renewal | None:
    user, lease = event["user"].get("username", ""), event.get("objectRef") or {}
    body = event.get("requestObject") or {}
    name = str(lease.get("name") or body.get("metadata", {}).get("name", ""))
    is_ours = user.startswith(f"system:serviceaccount:{rig.kube.namespace}:") and lease.get("resource") == "leases"
    if not is_ours or "-shard-" not in name or "spec" not in body or event["responseStatus"]["code"] >= 300:
        return None
    times = (event["requestReceivedTimestamp"], event["stageTimestamp"])
    at, accepted_at = (datetime.fromisoformat(time).timestamp() for time in times)
    epoch, held = int(body["spec"]["leaseTransitions"]), bool(body["spec"]["holderIdentity"])
    return Renewal(user.rpartition(":")[2], int(name.rpartition("-")[2]), epoch, held, at, accepted_at)
