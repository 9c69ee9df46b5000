"""The text of a snapshot: the ticks that a history is built from, and the record of the SLO.

A start builds its history from recorded ticks, so a snapshot holds those, as the journal writes them: with lead times,
learned capacity, pool memory and overrides, but without the texts and values that no history reads. Ticks are kept in
parts, each compressed once. Example: an hour of ticks at 15 s is 60 parts, 25 kB in all.

The first line has the schema and a checksum of the second one, which is JSON.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from policies.model import Tick, WorkloadName
from scaler.journal.codec import decode_tick, encode_tick
from scaler.journal.fields import DAMAGED, text
from scaler.journal.reader import parse_record
from scaler.journal.slo_codec import decode_slo_history, encode_slo_history
from scaler.journal.writer import record_line
from scaler.slo_record import SloHistory

SCHEMA: Final = 1
"""Schema of the snapshots that this version writes and reads. Their ticks have the journal's schema."""
MAX_CHARS: Final = 512 * 1024
"""Maximum length of a snapshot: above 20 hours of ticks at 15 s. The oldest parts are left out beyond it."""
MAX_PART_BYTES: Final = 8 * 1024 * 1024
"""Maximum length of a part's ticks: damaged or hostile data must not fill the memory."""
HEAD: Final = re.compile(r"forescale-snapshot ([0-9]{1,4}) ([0-9a-f]{32})\n")
CUT: Final = "its checksum does not match: it is damaged, or was written in part"


class SnapshotError(Exception):
    """A snapshot cannot be used. The text is the reason."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The memory of a workload: its last ticks, oldest first, and then the record of its SLO."""

    workload: WorkloadName
    ticks: Sequence[Tick]
    slo_history: SloHistory | None = None

    @property
    def at(self) -> float:
        """The time of the last tick."""
        return self.ticks[-1].at


def part_of(ticks: Sequence[Tick]) -> str:
    """Return the compressed text of ticks."""
    return base64.b64encode(
        zlib.compress(b"".join(record_line(encode_tick(_reduced(tick))) for tick in ticks))
    ).decode()


def _reduced(tick: Tick) -> Tick:
    """Return a tick without the texts and values that no history reads."""
    decision = tick.decision
    recommendations = tuple(
        dataclasses.replace(r, reason="", used=(), unstabilized=None, pools={}, peaks=(), latency_driven=None)
        for r in decision.recommendations
    )
    steps = tuple(dataclasses.replace(step, reason="") for step in decision.steps)
    return dataclasses.replace(
        tick, decision=dataclasses.replace(decision, recommendations=recommendations, steps=steps)
    )


def encode(workload: WorkloadName, parts: Sequence[str], slo_history: SloHistory | None) -> str:
    """Return the text of a snapshot of at most `MAX_CHARS`: it leaves out the oldest parts."""
    slo = {} if slo_history is None else {"slo_history": encode_slo_history(slo_history)}
    room = MAX_CHARS - len(json.dumps(slo)) - 1024
    kept: list[str] = []
    for part in reversed(parts):
        room -= len(part) + len('"",')
        if room < 0:
            break
        kept.append(part)
    record = {"type": "snapshot", "workload": workload, "ticks": kept[::-1], **slo}
    body = json.dumps(record, separators=(",", ":"), allow_nan=False)
    return f"forescale-snapshot {SCHEMA} {_checksum(body)}\n{body}"


def decode(snapshot: str, workload: WorkloadName) -> Snapshot:
    """Return the snapshot of a workload. Raises `SnapshotError`."""
    if len(snapshot) > MAX_CHARS:
        raise SnapshotError(f"it has more than {MAX_CHARS} characters")
    head = HEAD.match(snapshot)
    if head is None:
        raise SnapshotError("it does not begin as a snapshot does")
    if int(head[1]) != SCHEMA:
        raise SnapshotError(f"it has the snapshot schema {int(head[1])}; this version reads {SCHEMA}")
    body = snapshot[head.end() :]
    if _checksum(body) != head[2]:
        raise SnapshotError(CUT)
    try:
        decoded = _decode_body(json.loads(body))
    except (*DAMAGED, binascii.Error, zlib.error) as e:
        raise SnapshotError(f"its content is malformed: {type(e).__name__}") from e
    if decoded.workload != workload or any(tick.workload != workload for tick in decoded.ticks):
        raise SnapshotError("it is of another workload")
    return decoded


def _decode_body(record: dict[str, Any]) -> Snapshot:
    """Return the snapshot of a record. Raises one of `DAMAGED`, or an error of the compression."""
    ticks = tuple(tick for part in record["ticks"] for tick in _ticks(text(part)))
    if not ticks:
        raise ValueError("no tick")
    slo = record.get("slo_history")
    return Snapshot(WorkloadName(text(record["workload"])), ticks, None if slo is None else decode_slo_history(slo))


def _ticks(part: str) -> Iterator[Tick]:
    inflate = zlib.decompressobj()
    lines = inflate.decompress(base64.b64decode(part, validate=True), MAX_PART_BYTES)
    if not inflate.eof:
        raise ValueError("a part that is too long, or cut off")
    for line in lines.splitlines():
        record = parse_record(line)
        if record is None:
            raise SnapshotError("a tick is malformed, or has a schema of the journal that this version does not read")
        yield decode_tick(record)


def _checksum(body: str) -> str:
    return hashlib.blake2b(body.encode(), digest_size=16).hexdigest()
