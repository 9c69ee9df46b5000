"""The turns of a period, from one journal or several."""

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

LEAST_TURNS: Final = 4
"""Fewer turns tell no rate and no gap."""
SLACK_S: Final = 3600.0
"""A file is passed over if the next one began so long before the period: clocks are set by less."""
NO_SPECIFICATION: Final = (
    "no specification that decided its turns stands in the journal, whole and as this version reads it (damaged: {}):"
    " look back with the version that wrote it"
)
Progress = Callable[[int, int], None]
"""Is told how many bytes are read, and of how many."""


@dataclass(frozen=True, slots=True)
class JournalPeriod:
    """What journals tell of a period: workloads by name, and those of which nothing can be told, with the reason."""

    recorded: tuple[RecordedRun, ...]
    left_out: Mapping[WorkloadName, str]


def read(
    paths: Sequence[Path],
    since: float,
    until: float,
    workload: str | None,
    progress: Progress = lambda _done, _of: None,
) -> JournalPeriod:
    """Return the turns of journals from `since` on and before `until`. Raises `JournalError` where there are none.

    Several journals are merged by time: those of daemons that took over from each other.
    """
    taken: dict[WorkloadName, TickColumns] = {}
    first, last, names = math.inf, -math.inf, set[WorkloadName]()
    files = [file for path in paths for file in journal_files(path)]
    first = min((at for file in files if (at := _begun(file)) is not None), default=math.inf)
    journals = [[Journal(file) for file in _reaching(journal_files(path), since, until)] for path in paths]
    for tick in heapq.merge(*(_ticks(group, _told_of(journals, progress)) for group in journals), key=lambda t: t.at):
        names.add(tick.workload)
        first, last = min(first, tick.at), max(last, tick.at)
        if since <= tick.at < until and workload in {None, tick.workload}:
            taken.setdefault(tick.workload, TickColumns()).take(tick)
    opened = [journal for group in journals for journal in group]
    specs = {name: spec for journal in opened for name, spec in journal.specs.items()}
    bad = [where for journal in opened for where in journal.damaged]
    damaged = len(bad)
    found: dict[WorkloadName, RecordedRun | str] = {}
    for name, one in sorted(taken.items()):
        told = one.told(specs, damaged)
        if len(one) < LEAST_TURNS:
            found[name] = f"{len(one)} turns only, and {LEAST_TURNS} are needed to tell anything"
        else:
            found[name] = told if told is not None else NO_SPECIFICATION.format(bad[0] if bad else "none")
    recorded = tuple(one for one in found.values() if isinstance(one, RecordedRun))
    if not recorded:
        reasons = {name: why for name, why in found.items() if isinstance(why, str)}
        raise JournalError(_nothing(names, workload, (since, until), (first, last), damaged, reasons))
    return JournalPeriod(recorded, {name: why for name, why in found.items() if isinstance(why, str)})


def _ticks(journals: Sequence[Journal], told: Callable[[], None]) -> Iterator[Tick]:
    for journal in journals:
        for number, tick in enumerate(journal):
            if number % 256 == 0:
                told()
            yield tick
    told()


def _told_of(journals: Sequence[Sequence[Journal]], progress: Progress) -> Callable[[], None]:
    opened = [journal for group in journals for journal in group]
    total = sum(path.stat().st_size for journal in opened for path in journal.paths)
    return lambda: progress(sum(journal.read_bytes for journal in opened), total)


def _reaching(files: Sequence[Path], since: float, until: float) -> list[Path]:
    """Return a journal's files without those that ended before the period, or began after it; one at least."""
    begun = [_begun(file) for file in files]
    ended = [k for k, at in enumerate(begun) if k and at is not None and at <= since - SLACK_S]
    later = [k for k, at in enumerate(begun) if k and at is not None and at > until + SLACK_S]
    first = max(ended, default=0)
    return list(files[first : max(first + 1, min(later, default=len(files)))])


def _begun(file: Path) -> float | None:
    """Return when a file of a journal was begun; None where its first line does not say."""
    try:
        with file.open("rb") as f:
            return float(unix_time(json.loads(f.readline(4096))["at"]))
    except (OSError, *DAMAGED):
        return None


def _nothing(  # noqa: PLR0913 - all that was found in its place
    names: set[WorkloadName],
    workload: str | None,
    asked: tuple[float, float],
    there: tuple[float, float],
    damaged: int,
    reasons: Mapping[WorkloadName, str],
) -> str:
    """Why there is nothing to look back at."""
    if not names:
        return f"no turn can be read: {damaged} lines are damaged" if damaged else "no turn is recorded yet"
    if workload is not None and workload not in names:
        hint = did_you_mean(workload, sorted(names)) or f"there are {', '.join(sorted(names))}"
        return f"--workload {workload!r}: no such workload in the journals; {hint}"
    if reasons:
        return "; ".join(f"{name}: {why}" for name, why in reasons.items())
    span = " to ".join(timestamp(t) for t in there)
    return f"--since, --until: no turn is recorded then; the journals hold {span}"
