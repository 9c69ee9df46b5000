"""Restores the SLO records of workloads from a journal.

Each file of the journal contains the record of each workload once, after its first tick in that file, and the requests
of each tick. A start therefore reads only the last file in which a workload occurs, however long the window of its
error budget is. Ticks are not decoded: regular expressions match their fields, as in `past_work.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from policies.model import RequestCount, WorkloadName
from scaler.journal.fields import DAMAGED, non_negative, number, unix_time
from scaler.journal.past_work import BUFFER_BYTES, MAX_BYTES, TICK
from scaler.journal.schema import READABLE, file_schema, is_record
from scaler.journal.slo_codec import TYPE, decode_slo_history
from scaler.journal.writer import files
from scaler.slo_record import SloHistory, SloRecord

LAST: Final = re.compile(rb'"error_budget":\{"last":\[([^]]*)\],"share":[^,]*,"limits_s":(\{[^}]*\})')
STEP: Final = re.compile(rb',"clock_step_s":([-0-9.e+]+),"dry_run":(?:true|false)\}\s*$')
NO_STEP: Final = b',"clock_step_s":0.0,"dry_run":'


@dataclass(frozen=True, slots=True)
class CountedTick:
    """The requests of one recorded tick.

    `limits_s` is the JSON of the limits of the SLO at that tick.
    """

    at: float
    clock_step_s: float
    count: RequestCount
    limits_s: bytes


@dataclass(slots=True)
class RecordedSlo:
    """One workload's last record in a journal, and the ticks after it."""

    history: SloHistory | None = None
    ticks: list[CountedTick] = field(default_factory=list)

    def restore(self, record: SloRecord) -> None:
        """Restore a record, without the counts of other limits."""
        if self.history is not None:
            record.restore(self.history)
        limits_s: dict[bytes, object] = {}
        for tick in self.ticks:
            if tick.clock_step_s:
                record.shift(tick.clock_step_s)
            if tick.limits_s not in limits_s:
                limits_s[tick.limits_s] = json.loads(tick.limits_s)
            if limits_s[tick.limits_s] == record.limits_s:
                record.add(tick.at, tick.count)


def restore(directory: Path, records: Mapping[WorkloadName, SloRecord], now: float) -> None:
    """Restore the SLO records of workloads from the newest files of a journal.

    Records of times after `now` are left out: the clock was set back. Raises `OSError`.
    """
    recorded = {name: RecordedSlo() for name in records}
    names, budget_bytes = {name.encode(): name for name in records}, MAX_BYTES
    for path in reversed(files(directory)):
        budget_bytes -= path.stat().st_size
        if not names or budget_bytes < 0 or file_schema(path) not in {None, *READABLE}:
            break
        for name, newer in _read(path, names, now).items():
            recorded[name].history = newer.history
            recorded[name].ticks[:0] = newer.ticks
        names = {key: name for key, name in names.items() if recorded[name].history is None}
    for name, record in records.items():
        recorded[name].restore(record)


def _read(path: Path, names: Mapping[bytes, WorkloadName], now: float) -> dict[WorkloadName, RecordedSlo]:
    """Return the last record of each workload in a file, and the ticks after it, until `now`."""
    found: dict[WorkloadName, RecordedSlo] = {}
    with path.open("rb", buffering=BUFFER_BYTES) as f:
        for line in f:
            head = TICK.match(line)
            try:
                if head is not None and head[1] in names:
                    tick = _counted(line, float(head[2]))
                    if tick is not None and tick.at <= now:
                        found.setdefault(names[head[1]], RecordedSlo()).ticks.append(tick)
                elif head is None and is_record(line, TYPE):
                    history = decode_slo_history(json.loads(line))
                    if history.workload.encode() in names and history.at <= now:
                        found[history.workload] = RecordedSlo(history)
            except DAMAGED:
                continue
    return found


def _counted(line: bytes, at: float) -> CountedTick | None:
    """Return the requests of a tick's line; None without an SLO. Raises one of `DAMAGED`."""
    last = LAST.search(line)
    if last is None:
        return None
    step = None if NO_STEP in line[-60:] else STEP.search(line)
    counts = [non_negative(value) for value in json.loads(b"[%s]" % last[1])]
    json.loads(last[2])
    return CountedTick(unix_time(at), 0.0 if step is None else number(float(step[1])), RequestCount(*counts), last[2])
