"""Samples of a process's resources over time, and the limits on their growth."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

WARM_UP: Final = 1 / 3
"""Share of the time after which growth counts: histories fill, modules are imported, pools of connections open."""
MIB: Final = 2**20
TICKS: Final = re.compile(r'^forescale_ticks_total\{[^}]*workload="([^"]+)"[^}]*\} ([0-9.e+]+)', re.MULTILINE)
LOST: Final = re.compile(r"^forescale_journal_lost_records(?:_total)? ([0-9.e+]+)", re.MULTILINE)
TASKS: Final = re.compile(r"^forescale_(?:asyncio_)?tasks(?:_running)? ([0-9.e+]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of a process: seconds since the start, resident bytes, descriptors, threads; tasks if exported."""

    at_s: float
    rss: int
    descriptors: int
    threads: int
    tasks: int | None = None


def take_sample(pid: int, at_s: float, page: str = "") -> Sample:
    """Sample a process, and read the number of its tasks from its metrics page. Raises `OSError` if it has ended."""
    status = Path(f"/proc/{pid}/status").read_text()
    words = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    tasks = TASKS.search(page)
    return Sample(
        at_s,
        int(words["VmRSS"].split()[0]) * 1024,
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        int(words["Threads"]),
        int(float(tasks.group(1))) if tasks else None,
    )


@dataclass(frozen=True, slots=True)
class GrowthLimit:
    """Allowed growth of a quantity after the warm-up: `max_growth`, or a share of its median if that is more."""

    name: str
    max_growth: float
    share: float = 0.0

    def violation(self, at_s: Sequence[float], values: Sequence[float]) -> str:
        """Describe growth beyond the limit; empty if it is within the limit."""
        growth_now, median = growth(at_s, values), float(np.median(values))
        allowed = max(self.max_growth, self.share * median)
        return (
            f"{self.name} grows by {growth_now:.3g} over {median:.3g}; {allowed:.3g} may be"
            if growth_now > allowed
            else ""
        )


def rules(short: bool) -> tuple[GrowthLimit, ...]:
    """Return the limits. A short run is mostly warm-up, so it may allocate more memory."""
    return (
        GrowthLimit("memory (MiB)", 96.0 if short else 24.0, 0.1),
        GrowthLimit("descriptors", 24.0 if short else 10.0),
        GrowthLimit("threads", 12.0 if short else 4.0),
        GrowthLimit("tasks", 24.0 if short else 10.0),
    )


def growth(at_s: Sequence[float], values: Sequence[float]) -> float:
    """Return the growth over the whole time by the median slope between all pairs (Theil and Sen).

    Peaks in less than 29 % of the samples, as of a fault that lasts for a while, do not move it.
    """
    at, value = np.asarray(at_s, float), np.asarray(values, float)
    first, second = np.triu_indices(len(at), 1)
    gap_s = at[second] - at[first]
    slopes = (value[second] - value[first])[gap_s > 0] / gap_s[gap_s > 0]
    return float(np.median(slopes)) * float(at[-1] - at[0]) if slopes.size else 0.0


def leaks(samples: Sequence[Sample], *, short: bool) -> list[str]:
    """Return the quantities that grow beyond their limit after the warm-up."""
    retained = list(samples)[int(len(samples) * WARM_UP) :]
    if len(retained) < 3:
        return [f"only {len(samples)} samples were taken"]
    at_s = [sample.at_s for sample in retained]
    columns: list[list[float] | None] = [
        [sample.rss / MIB for sample in retained],
        [float(sample.descriptors) for sample in retained],
        [float(sample.threads) for sample in retained],
        [float(sample.tasks) for sample in retained if sample.tasks is not None],
    ]
    violations = []
    for rule, values in zip(rules(short), columns, strict=True):
        if values is not None and len(values) == len(retained) and (violation := rule.violation(at_s, values)):
            violations.append(violation)
    return violations


def ticks(page: str) -> dict[str, int]:
    """Return the ticks of each workload by a metrics page."""
    return {name: int(float(count)) for name, count in TICKS.findall(page)}


def lost_records(page: str) -> int:
    """Return the records that the journal lost by a metrics page."""
    match = LOST.search(page)
    return int(float(match.group(1))) if match else 0
