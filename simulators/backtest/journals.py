"""Recorded runs of a period, read from one or more journals."""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from policies.model import Tick, WorkloadName
from scaler.journal.explain import timestamp
from scaler.journal.fields import DAMAGED, unix_time
from scaler.journal.reader import Journal, JournalError, journal_files
from scaler.registry import did_you_mean
from simulators.backtest.columns import TickColumns
from simulators.backtest.recorded_run import RecordedRun

MIN_TICKS: Final = 4
"""The minimum number of ticks: fewer give no rate and no gap."""
SLACK_S: Final = 3600.0
"""A file is skipped if the next one starts this long before the period: clock corrections are smaller. Seconds."""
NO_SPECIFICATION: Final = (
    "the journal has no specification of its ticks that this version can read (damaged: {}): run the report with the"
    " version that wrote the journal"
)
Progress = Callable[[int, int], None]
"""A callback that gets the read bytes and the total."""


@dataclass(frozen=True, slots=True)
class JournalPeriod:
    """The recorded runs of a period, and the workloads left out with the reason."""

    recorded: tuple[RecordedRun, ...]
    left_out: Mapping[WorkloadName, str]


def read(
    paths: Sequence[Path],
    since: float,
    until: float,
    workload: str | None,
    progress: Progress = lambda _done, _of: None,
) -> JournalPeriod:
    """Return the recorded runs from `since` on and before `until` (Unix times).

    Several journals are merged by time, such as those of daemons that took over from each other. Raises `JournalError`
    if there is no run.
    """
    columns: dict[WorkloadName, TickColumns] = {}
    first, last, names = math.inf, -math.inf, set[WorkloadName]()
    files = [file for path in paths for file in journal_files(path)]
    first = min((time_s for file in files if (time_s := _start_of(file)) is not None), default=math.inf)
    journals = [[Journal(file) for file in _files_in_period(journal_files(path), since, until)] for path in paths]
    for tick in heapq.merge(
        *(_ticks(group, _progress_reporter(journals, progress)) for group in journals), key=lambda t: t.at
    ):
        names.add(tick.workload)
        first, last = min(first, tick.at), max(last, tick.at)
        if since <= tick.at < until and workload in {None, tick.workload}:
            columns.setdefault(tick.workload, TickColumns()).add(tick)
    opened = [journal for group in journals for journal in group]
    specs = {name: spec for journal in opened for name, spec in journal.specs.items()}
    damaged_places = [where for journal in opened for where in journal.damaged]
    damaged = len(damaged_places)
    runs: dict[WorkloadName, RecordedRun | str] = {}
    for name, ticks in sorted(columns.items()):
        run = ticks.to_run(specs, damaged)
        if len(ticks) < MIN_TICKS:
            runs[name] = f"only {len(ticks)} ticks, but a report needs {MIN_TICKS}"
        else:
            runs[name] = (
                run if run is not None else NO_SPECIFICATION.format(damaged_places[0] if damaged_places else "none")
            )
    recorded = tuple(ticks for ticks in runs.values() if isinstance(ticks, RecordedRun))
    if not recorded:
        reasons = {name: reason for name, reason in runs.items() if isinstance(reason, str)}
        raise JournalError(_nothing_reason(names, workload, (since, until), (first, last), damaged, reasons))
    return JournalPeriod(recorded, {name: reason for name, reason in runs.items() if isinstance(reason, str)})


def _ticks(journals: Sequence[Journal], report: Callable[[], None]) -> Iterator[Tick]:
    for journal in journals:
        for number, tick in enumerate(journal):
            if number % 256 == 0:
                report()
            yield tick
    report()


def _progress_reporter(journals: Sequence[Sequence[Journal]], progress: Progress) -> Callable[[], None]:
    opened = [journal for group in journals for journal in group]
    total = sum(path.stat().st_size for journal in opened for path in journal.paths)
    return lambda: progress(sum(journal.read_bytes for journal in opened), total)


def _files_in_period(files: Sequence[Path], since: float, until: float) -> list[Path]:
    """Return a journal's files that overlap the period, at least one.

    Files that end before the period or start after it are left out.
    """
    starts = [_start_of(file) for file in files]
    ended = [k for k, time_s in enumerate(starts) if k and time_s is not None and time_s <= since - SLACK_S]
    later = [k for k, time_s in enumerate(starts) if k and time_s is not None and time_s > until + SLACK_S]
    first = max(ended, default=0)
    return list(files[first : max(first + 1, min(later, default=len(files)))])


def _start_of(file: Path) -> float | None:
    """Return the start of a journal's file (Unix time); None if its first line has none."""
    try:
        with file.open("rb") as lines:
            return float(unix_time(json.loads(lines.readline(4096))["at"]))
    except (OSError, *DAMAGED):
        return None


def _nothing_reason(  # noqa: PLR0913 - the contents of the journals
    names: set[WorkloadName],
    workload: str | None,
    requested: tuple[float, float],
    recorded: tuple[float, float],
    damaged: int,
    reasons: Mapping[WorkloadName, str],
) -> str:
    """Return why no run can be read."""
    if not names:
        return f"no tick can be read: {damaged} lines are damaged" if damaged else "no tick is recorded yet"
    if workload is not None and workload not in names:
        hint = did_you_mean(workload, sorted(names)) or f"the workloads are {', '.join(sorted(names))}"
        return f"--workload {workload!r}: is not in the journals; {hint}"
    if reasons:
        return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    span = " to ".join(timestamp(t) for t in recorded)
    return f"--since, --until: no tick is recorded in this period; the journals cover {span}"
