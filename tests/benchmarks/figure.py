"""Figures that the benchmarks print."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: `goal` is the value to reach, at most (`"<="`) or at least (`">="`).

    `peer` names the peer measured in the same run, `peer_value` is the peer's value.
    """

    benchmark: str
    name: str
    value: float
    unit: str
    goal: float | None = None
    sense: str = "<="
    peer: str | None = None
    peer_value: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value <= self.goal if self.sense == "<=" else self.value >= self.goal

    def line(self) -> str:
        data = {k: v for k, v in asdict(self).items() if v not in {None, ""} or k in {"unit", "goal"}}
        if self.goal:
            data["ratio_to_goal"] = round(self.value / self.goal, 3)
        if self.peer_value:
            data["ratio"] = round(self.value / self.peer_value, 4)
        return json.dumps({**data, "met": self.met})


def microseconds(work: Callable[[], object], repeats: int = 2000, warm_up: int = 200) -> list[float]:
    """Return the sorted CPU times of `repeats` calls. Microseconds."""
    for _ in range(warm_up):
        work()
    return sorted(cpu_us(work) for _ in range(repeats))


def cpu_us(work: Callable[[], object]) -> float:
    """Return the CPU time of one call, which other processes do not delay. Microseconds."""
    start_ns = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - start_ns) / 1e3


def quantile(ordered: Sequence[float], q: float) -> float:
    """Return the `q` quantile of sorted values, without interpolation."""
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def table(figures: Sequence[Figure]) -> str:
    """Return a Markdown table with one row per figure."""
    rows = ["| benchmark | figure | value | goal | met | peer | ratio | note |", "|---|---|---|---|---|---|---|---|"]
    for f in figures:
        goal = "" if f.goal is None else f"{f.sense} {f.goal:g}"
        peer = "" if f.peer is None else f"{f.peer}: {f.peer_value:.4g}"
        ratio = f"{f.value / f.peer_value:.3g}" if f.peer_value else ""
        met = {True: "yes", False: "**no**", None: ""}[f.met]
        rows.append(
            f"| {f.benchmark} | {f.name} | {f.value:.4g} {f.unit} | {goal} | {met} | {peer} | {ratio} | {f.note} |"
        )
    return "\n".join(rows)


def machine() -> str:
    """Return the machine of the figures as one line."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return f"Python {platform.python_version()}, {cpu}"
