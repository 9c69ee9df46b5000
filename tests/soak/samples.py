"""What a process takes, sampled over time, and the rule by which that is flat."""

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
    """One look at a process: seconds since the start, resident bytes, descriptors, threads; tasks where it tells."""

    at_s: float
    rss: int
    descriptors: int
    threads: int
    tasks: int | None = None


def look(pid: int, at_s: float, page: str = "") -> Sample:
    """Look at a process, and at its metrics page for the number of its tasks. Raises `OSError` where it has ended."""
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
class Flat:
    """By how much a quantity may grow after the warm-up: by `most`, or by a share of its median if that is more."""

    name: str
    most: float
    share: float = 0.0

    def wrong(self, at_s: Sequence[float], values: Sequence[float]) -> str:
        """Say by how much it grew; empty where it is flat."""
        grown, middle = growth(at_s, values), float(np.median(values))
        allowed = max(self.most, self.share * middle)
        return f"{self.name} grows by {grown:.3g} over {middle:.3g}; {allowed:.3g} may be" if grown > allowed else ""


def rules(short: bool) -> tuple[Flat, ...]:
    """Return the rules. A short run is mostly warm-up, so that more memory may come in it."""
    return (
        Flat("memory (MiB)", 96.0 if short else 24.0, 0.1),
        Flat("descriptors", 24.0 if short else 10.0),
        Flat("threads", 12.0 if short else 4.0),
        Flat("tasks", 24.0 if short else 10.0),
    )


def growth(at_s: Sequence[float], values: Sequence[float]) -> float:
    """Return the growth over the whole time by the median slope between all pairs (Theil and Sen).

    Peaks in less than 29 % of the samples, as of a fault that lasts for a while, do not move it.
    """
    at, value = np.asarray(at_s, float), np.asarray(values, float)
    first, second = np.triu_indices(len(at), 1)
    apart = at[second] - at[first]
    slopes = (value[second] - value[first])[apart > 0] / apart[apart > 0]
    return float(np.median(slopes)) * float(at[-1] - at[0]) if slopes.size else 0.0


def leaks(samples: Sequence[Sample], *, short: bool) -> list[str]:
    """Return what is not flat after the warm-up."""
    kept = list(samples)[int(len(samples) * WARM_UP) :]
    if len(kept) < 3:
        return [f"only {len(samples)} samples were taken"]
    at_s = [sample.at_s for sample in kept]
    columns: list[list[float] | None] = [
        [sample.rss / MIB for sample in kept],
        [float(sample.descriptors) for sample in kept],
        [float(sample.threads) for sample in kept],
        [float(sample.tasks) for sample in kept if sample.tasks is not None],
    ]
    found = []
    for rule, values in zip(rules(short), columns, strict=True):
        if values is not None and len(values) == len(kept) and (wrong := rule.wrong(at_s, values)):
            found.append(wrong)
    return found


def ticks(page: str) -> dict[str, int]:
    """Return the ticks of each workload by a metrics page."""
    return {name: int(float(count)) for name, count in TICKS.findall(page)}


def lost(page: str) -> int:
    """Return the records that the journal lost by a metrics page."""
    found = LOST.search(page)
    return int(float(found.group(1))) if found else 0
