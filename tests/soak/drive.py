"""Runs a daemon under faults, samples its process, and judges the result."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from scaler.clock import stopwatch_s
from scaler.journal.reader import Journal, JournalError
from tests.soak.daemons import SoakTarget
from tests.soak.faults import FAULTS, Fault
from tests.soak.samples import Sample, leaks, lost_records, take_sample, ticks

CALM_S: Final = 15.0
"""Time without faults before the final checks. Seconds."""
GRACE_S: Final = 30.0
"""Time within which every workload must tick again and `/healthz` must be 200. Seconds."""


@dataclass
class Report:
    """Result of one daemon: faults by name, samples, ticks counted and recorded, and problems."""

    name: str
    faults: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    counted: int = 0
    recorded: int = 0
    lost_records: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        faults = ", ".join(f"{n} {name}" for name, n in sorted(self.faults.items()))
        ends = [f"{s.rss / 2**20:.0f} MiB, {s.descriptors} descriptors, {s.threads} threads" for s in self.samples]
        span = f"{ends[0]} at first, {ends[-1]} at the end" if ends else "no samples"
        text = (
            f"{self.name}: {self.counted:,} ticks, {self.recorded:,} in the journal, {self.lost_records} lost; {span}"
        )
        return "\n  ".join([text, f"faults: {faults}", *self.problems])


async def soak(
    target: SoakTarget,
    seconds: float,
    log: Callable[[str], None],
    faults: Sequence[Fault] = FAULTS,
    every_s: float = 1.0,
) -> Report:
    """Run one daemon under random faults for `seconds`, then without faults, and judge it."""
    report = Report(target.name)
    start_s = stopwatch_s()
    short = seconds < 300.0
    sampling = asyncio.create_task(_sample(target, report, start_s, every_s))
    try:
        for fault in _rounds(target, faults):
            if stopwatch_s() - start_s >= seconds or target.daemon.process.returncode is not None:
                break
            report.faults[fault.__name__] += 1
            log(f"{target.name} {stopwatch_s() - start_s:.0f} s: {fault.__name__}")
            await fault(target)
            await asyncio.sleep(target.rng.choice((0.2, 1.0, 2.0)))
        await asyncio.sleep(min(CALM_S, seconds / 4))
    finally:
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)
    if target.daemon.process.returncode is not None:
        last = "\n".join(target.daemon.lines[-10:])
        report.problems.append(f"the daemon ended with {target.daemon.process.returncode}:\n{last}")
        return report
    report.problems += leaks(report.samples, short=short)
    await _judge_end(target, report)
    return report


def _rounds(target: SoakTarget, faults: Sequence[Fault]) -> Iterator[Fault]:
    """Yield the faults round after round, each round in another order."""
    while True:
        yield from target.rng.sample(list(faults), len(faults))


async def _sample(target: SoakTarget, report: Report, start_s: float, every_s: float) -> None:
    pid = target.daemon.process.pid
    while True:
        _, page = await target.page()
        try:
            report.samples.append(take_sample(pid, stopwatch_s() - start_s, page))
        except OSError:
            return
        await asyncio.sleep(every_s)


async def _judge_end(target: SoakTarget, report: Report) -> None:
    """Check that the daemon is healthy, every workload ticks, and every tick is recorded or counted as lost."""
    _, before = await target.page()
    status, deadline = 0, stopwatch_s() + GRACE_S
    stalled = set(ticks(before))
    while stopwatch_s() < deadline and (status != 200 or stalled):
        await asyncio.sleep(1.0)
        status, _ = await target.page("healthz")
        _, page = await target.page()
        now = ticks(page)
        stalled = {name for name, count in ticks(before).items() if now.get(name, 0) <= count}
    if status != 200:
        report.problems.append(f"/healthz is {status} {GRACE_S:g} s after the last fault")
    if stalled or not before:
        report.problems.append(f"no tick within {GRACE_S:g} s: {', '.join(sorted(stalled)) or 'no metrics'}")
    _, page = await target.page()
    counted, report.lost_records = ticks(page), lost_records(page)
    try:
        code: int | None = await target.daemon.stop()
    except TimeoutError:
        code = None
    if code != 0:
        report.problems.append("SIGTERM does not end it" if code is None else f"SIGTERM ends it with {code}")
    recorded = _recorded(target)
    report.counted = sum(counted.values())
    report.recorded = sum(recorded[name] for name in counted)
    missing = {name: count - recorded[name] for name, count in counted.items() if count > recorded[name]}
    if sum(missing.values()) > report.lost_records:
        report.problems.append(
            f"ticks are neither in the journal nor counted as lost: {missing}, {report.lost_records} lost"
        )


def _recorded(target: SoakTarget) -> Counter[str]:
    """Return the ticks of each workload in the journal's folder, and in those that it was moved to."""
    counts: Counter[str] = Counter()
    for folder in (target.journal, *target.moved_journals):
        with contextlib.suppress(JournalError):
            counts.update(str(tick.workload) for tick in Journal(folder))
    return counts
