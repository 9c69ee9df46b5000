"""Reads the work that policies measured over days from a journal.

It does not decode the ticks.

Regular expressions match the beginning of a tick's line, and a work field with its neighbours. JSON escapes quotation
marks within strings, so no string matches either. A million ticks of 2 kB take 5 s, a tenth of the time of decoding.
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
from scaler.journal.schema import HEAD, READABLE, file_schema, is_record
from scaler.journal.writer import files

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scaler.journal.initial_history import InitialHistory

MAX_BYTES: Final = 4 * 2**30
"""Maximum size of the journal that is read: about ten seconds, and seven times the default size of a journal."""
BUFFER_BYTES: Final = 2**20
TICK: Final = re.compile(HEAD + rb'"tick","workload":"([^"]*)","at":([0-9.e+-]+),')
POLICY: Final = b'"policy":"'
KEY: Final = b'"work":'
WORK: Final = re.compile(rb'"work":([0-9.e+-]+)(?:,"peaks":\[|,"latency_driven":|\}(?:,\{"policy":"|\],"steps":\[))')
"""The work of a recommendation, by the fields that follow it. A pool or memory with the name "work" has other ones."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A time grid of `steps` steps of `step_s` seconds from `start_s` (Unix time) on."""

    start_s: float
    step_s: float
    steps: int

    @property
    def end_s(self) -> float:
        return self.start_s + self.step_s * self.steps


@dataclass(slots=True)
class WorkSamples:
    """A policy's measurements in the order of the journal.

    `at` are Unix times, and `work` is in replica equivalents.
    """

    at: array[float] = field(default_factory=lambda: array("d"))
    work: array[float] = field(default_factory=lambda: array("d"))


@dataclass(slots=True)
class RecordedWork:
    """The measured work in a journal's ticks, and the starts, whose seeds contain older work."""

    work: dict[tuple[WorkloadName, PolicyName], WorkSamples] = field(default_factory=dict)
    starts: list[InitialHistory] = field(default_factory=list)


def work_since(directory: Path, since: float, policies: Mapping[WorkloadName, Collection[PolicyName]]) -> RecordedWork:
    """Return the work that these policies measured at or after `since`.

    Files are read from the newest backward.
    """
    recorded, budget_bytes = RecordedWork(), MAX_BYTES
    for path in reversed(files(directory)):
        budget_bytes -= path.stat().st_size
        if budget_bytes < 0 or file_schema(path) not in {None, *READABLE} or not _read(path, since, policies, recorded):
            break
    return recorded


def _read(
    path: Path, since: float, policies: Mapping[WorkloadName, Collection[PolicyName]], recorded: RecordedWork
) -> bool:
    """Add one file's work. Return whether an older file may contain more."""
    names = {name.encode(): name for name in policies}
    is_whole_file_recent = True
    with path.open("rb", buffering=BUFFER_BYTES) as f:
        for line in f:
            head = TICK.match(line)
            if head is None:
                if is_record(line, HISTORY_TYPE):
                    _add_start(line, policies, recorded)
                continue
            time_s = _number(head[2])
            if not time_s >= since:
                is_whole_file_recent = False
            elif head[1] in names:
                _add_tick(line, time_s, names[head[1]], policies, recorded)
    return is_whole_file_recent


def _add_tick(
    line: bytes,
    time_s: float,
    name: WorkloadName,
    policies: Mapping[WorkloadName, Collection[PolicyName]],
    recorded: RecordedWork,
) -> None:
    position = 0
    while (position := line.find(KEY, position + 1)) > 0:
        work = WORK.match(line, position)
        if work is None:
            continue
        begins = line.rfind(POLICY, 0, position) + len(POLICY)
        policy = PolicyName(line[begins : line.find(b'"', begins)].decode(errors="replace"))
        if policy in policies[name]:
            samples = recorded.work.setdefault((name, policy), WorkSamples())
            samples.at.append(time_s)
            samples.work.append(_number(work[1]))


def _add_start(line: bytes, policies: Mapping[WorkloadName, Collection[PolicyName]], recorded: RecordedWork) -> None:
    try:
        start = decode_initial_history(json.loads(line))
    except DAMAGED:
        return
    if start.workload in policies and start.seeds:
        recorded.starts.append(start)


def _number(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def means(at: NDArray[np.float64], work: NDArray[np.float64], grid: Grid, until: float) -> NDArray[np.float64]:
    """Return the mean of the work measured in each step of a grid before `until`.

    A step without work is NaN.

    `at` and `work` are arrays of equal length. Example: steps of 300 s from 0 s, work 2 at 10 s, 4 at 290 s and 6 at
    700 s give 3, NaN and 6.
    """
    valid = (at >= grid.start_s) & (at < min(until, grid.end_s)) & np.isfinite(work) & (work >= 0.0)
    step = np.minimum((at[valid] - grid.start_s) // grid.step_s, grid.steps - 1).astype(np.int64)
    count = np.bincount(step, minlength=grid.steps)
    total = np.bincount(step, work[valid], minlength=grid.steps)
    mean: NDArray[np.float64] = np.divide(total, count, out=np.full(grid.steps, np.nan), where=count > 0)
    return mean
