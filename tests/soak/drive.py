"""Drives a house through faults, samples its daemon, and gives the verdict."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from scaler.clock import stopwatch_s
from scaler.journal.reader import Journal, JournalError
from tests.soak.daemons import House
from tests.soak.faults import FAULTS, Fault
from tests.soak.samples import Sample, leaks, look, lost, ticks

CALM_S: Final = 15.0
"""After the last fault, before the end is judged."""
GRACE_S: Final = 30.0
"""In which every workload must have ticked again and `/healthz` must be 200."""


@dataclass
class Report:
    """What came of a house: faults by name, samples, ticks counted and recorded, and what was wrong."""

    name: str
    faults: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    counted: int = 0
    recorded: int = 0
    lost: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        faults = ", ".join(f"{n} {name}" for name, n in sorted(self.faults.items()))
        ends = [f"{s.rss / 2**20:.0f} MiB, {s.descriptors} descriptors, {s.threads} threads" for s in self.samples]
        span = f"{ends[0]} at first, {ends[-1]} at the end" if ends else "no samples"
        told = f"{self.name}: {self.counted:,} ticks, {self.recorded:,} in the journal, {self.lost} lost; {span}"
        return "\n  ".join([told, f"faults: {faults}", *self.wrong])


async def soak(
    house: House, seconds: float, say: Callable[[str], None], faults: Sequence[Fault] = FAULTS, every_s: float = 1.0
) -> Report:
    """Run one house for so long under random faults, then calm, and judge."""
    report = Report(house.name)
    began = stopwatch_s()
    short = seconds < 300.0
    sampling = asyncio.create_task(_sample(house, report, began, every_s))
    try:
        for fault in _rounds(house, faults):
            if stopwatch_s() - began >= seconds or house.daemon.process.returncode is not None:
                break
            report.faults[fault.__name__] += 1
            say(f"{house.name} {stopwatch_s() - began:.0f} s: {fault.__name__}")
            await fault(house)
            await asyncio.sleep(house.rng.choice((0.2, 1.0, 2.0)))
        await asyncio.sleep(min(CALM_S, seconds / 4))
    finally:
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)
    if house.daemon.process.returncode is not None:
        last = "\n".join(house.daemon.lines[-10:])
        report.wrong.append(f"the daemon ended with {house.daemon.process.returncode}:\n{last}")
        return report
    report.wrong += leaks(report.samples, short=short)
    await _judge_end(house, report)
    return report


def _rounds(house: House, faults: Sequence[Fault]) -> Iterator[Fault]:
    """Yield the faults round after round, each round in another order."""
    while True:
        yield from house.rng.sample(list(faults), len(faults))


async def _sample(house: House, report: Report, began: float, every_s: float) -> None:
    pid = house.daemon.process.pid
    while True:
        _, page = await house.page()
        try:
            report.samples.append(look(pid, stopwatch_s() - began, page))
        except OSError:
            return
        await asyncio.sleep(every_s)


async def _judge_end(house: House, report: Report) -> None:
    """The daemon is healthy, every workload ticks, and every tick is in the journal or counted as lost."""
    _, before = await house.page()
    status, deadline = 0, stopwatch_s() + GRACE_S
    stands = set(ticks(before))
    while stopwatch_s() < deadline and (status != 200 or stands):
        await asyncio.sleep(1.0)
        status, _ = await house.page("healthz")
        _, page = await house.page()
        now = ticks(page)
        stands = {name for name, count in ticks(before).items() if now.get(name, 0) <= count}
    if status != 200:
        report.wrong.append(f"/healthz is {status} {GRACE_S:g} s after the last fault")
    if stands or not before:
        report.wrong.append(f"no tick within {GRACE_S:g} s: {', '.join(sorted(stands)) or 'no metrics'}")
    _, page = await house.page()
    counted, report.lost = ticks(page), lost(page)
    try:
        code: int | None = await house.daemon.stop()
    except TimeoutError:
        code = None
    if code != 0:
        report.wrong.append("SIGTERM does not end it" if code is None else f"SIGTERM ends it with {code}")
    recorded = _recorded(house)
    report.counted = sum(counted.values())
    report.recorded = sum(recorded[name] for name in counted)
    missing = {name: count - recorded[name] for name, count in counted.items() if count > recorded[name]}
    if sum(missing.values()) > report.lost:
        report.wrong.append(f"ticks are neither in the journal nor counted as lost: {missing}, {report.lost} lost")


def _recorded(house: House) -> Counter[str]:
    """Return the ticks of each workload in the journal's folder, and in those that it was moved to."""
    counts: Counter[str] = Counter()
    for folder in (house.journal, *house.moved):
        with contextlib.suppress(JournalError):
            counts.update(str(tick.workload) for tick in Journal(folder))
    return counts
