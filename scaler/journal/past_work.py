"""The work that policies measured over days, drawn from a journal without decoding its ticks.

A tick is told by how its line begins, and work by what stands around it: quotes within texts are escaped in JSON, so
that no text can look like either. A million ticks of 2 kB take 5 s, a tenth of what decoding them takes.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from policies.model import PolicyName, WorkloadName
from scaler.journal.codec import HISTORY_TYPE, decode_initial_history
from scaler.journal.fields import DAMAGED
from scaler.journal.schema import SCHEMA, file_schema
from scaler.journal.writer import files

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scaler.journal.initial_history import InitialHistory

MAX_BYTES: Final = 4 * 2**30
"""Of a journal that is read for this: some ten seconds, and seven times what one keeps by default."""
BUFFER: Final = 2**20
TICK: Final = re.compile(rb'\{"v":%d,"type":"tick","workload":"([^"]*)","at":([0-9.e+-]+),' % SCHEMA)
PAST: Final = b'{"v":%d,"type":"%s",' % (SCHEMA, HISTORY_TYPE.encode())
POLICY: Final = b'"policy":"'
KEY: Final = b'"work":'
WORK: Final = re.compile(rb'"work":([0-9.e+-]+)(?:,"peaks":\[|,"latency_driven":|\}(?:,\{"policy":"|\],"steps":\[))')
"""The work of a recommendation, by what comes after it: a pool or a memory of that name is not followed so."""


@dataclass(frozen=True, slots=True)
class Grid:
    """So many steps of `step_s` seconds from `start_s` (Unix epoch) on."""

    start_s: float
    step_s: float
    steps: int

    @property
    def end_s(self) -> float:
        return self.start_s + self.step_s * self.steps


@dataclass(slots=True)
class Measured:
    """What a policy measured: times (seconds since the Unix epoch) and replicas' worth of work, as they were found."""

    at: array[float] = field(default_factory=lambda: array("d"))
    work: array[float] = field(default_factory=lambda: array("d"))


@dataclass(slots=True)
class RecordedWork:
    """What a journal tells of the past of some workloads: work in ticks, and starts, which tell of what was before."""

    work: dict[tuple[WorkloadName, PolicyName], Measured] = field(default_factory=dict)
    starts: list[InitialHistory] = field(default_factory=list)


def work_since(directory: Path, since: float, wanted: Mapping[WorkloadName, Collection[PolicyName]]) -> RecordedWork:
    """Return the work that these policies measured at or after `since`, file by file from the newest back to it."""
    found, left = RecordedWork(), MAX_BYTES
    for path in reversed(files(directory)):
        left -= path.stat().st_size
        if left < 0 or file_schema(path) not in {None, SCHEMA} or not _read(path, since, wanted, found):
            break
    return found


def _read(path: Path, since: float, wanted: Mapping[WorkloadName, Collection[PolicyName]], found: RecordedWork) -> bool:
    """Add what one file tells; whether an older one may tell more."""
    names = {name.encode(): name for name in wanted}
    earlier = True
    with path.open("rb", buffering=BUFFER) as f:
        for line in f:
            head = TICK.match(line)
            if head is None:
                if line.startswith(PAST):
                    _start(line, wanted, found)
                continue
            at = _number(head[2])
            if not at >= since:
                earlier = False
            elif head[1] in names:
                _tick(line, at, names[head[1]], wanted, found)
    return earlier


def _tick(
    line: bytes,
    at: float,
    name: WorkloadName,
    wanted: Mapping[WorkloadName, Collection[PolicyName]],
    found: RecordedWork,
) -> None:
    place = 0
    while (place := line.find(KEY, place + 1)) > 0:
        work = WORK.match(line, place)
        if work is None:
            continue
        begins = line.rfind(POLICY, 0, place) + len(POLICY)
        policy = PolicyName(line[begins : line.find(b'"', begins)].decode(errors="replace"))
        if policy in wanted[name]:
            measured = found.work.setdefault((name, policy), Measured())
            measured.at.append(at)
            measured.work.append(_number(work[1]))


def _start(line: bytes, wanted: Mapping[WorkloadName, Collection[PolicyName]], found: RecordedWork) -> None:
    try:
        past = decode_initial_history(json.loads(line))
    except DAMAGED:
        return
    if past.workload in wanted and past.seeds:
        found.starts.append(past)


def _number(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def means(at: NDArray[np.float64], work: NDArray[np.float64], grid: Grid, until: float) -> NDArray[np.float64]:
    """Return the mean of the work measured in each step of a grid, of what lies before `until`.

    NaN where there is none.
    """
    good = (at >= grid.start_s) & (at < min(until, grid.end_s)) & np.isfinite(work) & (work >= 0.0)
    place = np.minimum((at[good] - grid.start_s) // grid.step_s, grid.steps - 1).astype(np.int64)
    count = np.bincount(place, minlength=grid.steps)
    total = np.bincount(place, work[good], minlength=grid.steps)
    found: NDArray[np.float64] = np.divide(total, count, out=np.full(grid.steps, np.nan), where=count > 0)
    return found
